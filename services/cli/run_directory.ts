/**
 * The directory where Weir's processes keep their sockets: `/run/weir/<instance>/<service>.sock`, and
 * `/run/weir/lab/<NAME>/` for the lab daemons.
 *
 * @module
 */

/** What a lab tells of itself in `lab.json`. */
export interface LabRecord {
  readonly name: string;
  /** Names of its nodes, in order. */
  readonly nodes: string[];
  /** Instance that runs the control plane: "LAB-node-1". */
  readonly controlPlane: string;
  /** Process id of the lab daemon. */
  readonly pid: number;
  /** `starting` until everything is ready. */
  readonly state: "starting" | "ready" | "failed" | "stopping";
}

/** Reads what stands under `/run/weir` (or `WEIR_RUN_DIR`). */
export class RunDirectory {
  constructor(readonly path: string = runDirectoryPath()) {}

  /** Labs that are up or coming up, by name. */
  labs(): LabRecord[] {
    const labs: LabRecord[] = [];
    for (const name of directoryNames(`${this.path}/lab`)) {
      try {
        labs.push(JSON.parse(Deno.readTextFileSync(`${this.path}/lab/${name}/lab.json`)) as LabRecord);
      } catch (error) {
        // A lab directory without a readable record is a lab that is just being made or half gone.
        if (!(error instanceof Deno.errors.NotFound) && !(error instanceof SyntaxError)) throw error;
      }
    }
    return labs.sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** Whether an agent of this instance has sockets here. */
  hasInstance(instance: string): boolean {
    return directoryNames(this.path).includes(instance);
  }
}

function runDirectoryPath(): string {
  return Deno.env.get("WEIR_RUN_DIR") ?? "/run/weir";
}

function directoryNames(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory).map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
