/**
 * What of an endpoint cannot be asked again after a restart: its name, labels, number, addresses and identity, and that it
 * is to be deleted. One JSON file per endpoint; a file that ends in `.deleting` is a deletion that was begun: a rename needs
 * no room, so that a full disk keeps nobody from deleting.
 * @module
 */
import { Endpoint } from "@weir/proto/endpoint";
import { removeStateFile, renameStateFile, writeStateFile } from "./state_file.ts";

/** A file that could not be read back. It is kept aside as `<file>.broken`. */
export interface BrokenFile {
  file: string;
  error: string;
}
/** An endpoint as it was kept. */
export interface KeptEndpoint {
  /** Of the status number, addresses, policy revision, identity and, where the identity is that of the labels, its labels. */
  endpoint: Endpoint;
  deleting: boolean;
}

/** Where endpoints are kept. */
export interface EndpointStore {
  /** All endpoints by name. A broken one is set aside and named, it never keeps the others from coming back. */
  load(): Promise<{ endpoints: KeptEndpoint[]; broken: BrokenFile[] }>;
  /**
   * Writes or replaces. Calls for one name run one after another, and each keeps what `current` answers when its turn comes:
   * an older one never replaces a newer. Undefined: nothing is written any more.
   * @throws {ProblemError} ENDPOINT_STORE_FAILED
   */
  save(name: string, current: () => Endpoint | undefined): Promise<void>;
  /** Notes that a deletion has begun. Repeatable. @throws {ProblemError} ENDPOINT_STORE_FAILED */
  markDeleting(name: string): Promise<void>;
  /** Repeatable. @throws {ProblemError} ENDPOINT_STORE_FAILED */
  remove(name: string): Promise<void>;
}

const FILE_SUFFIX = ".json";
const DELETING_SUFFIX = ".json.deleting";
/** File names are at most 255 bytes on Linux, the suffixes included. */
const NAME_BYTES_MAX = 230;

/** True when a name fits into a file name. */
export function fitsFileName(name: string): boolean {
  return encodeURIComponent(name).length <= NAME_BYTES_MAX;
}

/** Endpoints as files of one directory. */
export class EndpointFiles implements EndpointStore {
  readonly #directory: string;
  /** The last task of each name. */
  readonly #last = new Map<string, Promise<void>>();

  /** @param directory made when absent */
  constructor(directory: string) {
    this.#directory = directory;
  }

  async load(): Promise<{ endpoints: KeptEndpoint[]; broken: BrokenFile[] }> {
    await Deno.mkdir(this.#directory, { recursive: true, mode: 0o750 });
    const found = new Map<string, KeptEndpoint>();
    const broken: BrokenFile[] = [];
    for await (const entry of Deno.readDir(this.#directory)) {
      const deleting = entry.name.endsWith(DELETING_SUFFIX);
      if (!deleting && !entry.name.endsWith(FILE_SUFFIX)) continue;
      const file = `${this.#directory}/${entry.name}`;
      try {
        const endpoint = Endpoint.fromJson(JSON.parse(await Deno.readTextFile(file)));
        if (!deleting && found.get(endpoint.name)?.deleting) continue;
        found.set(endpoint.name, { endpoint, deleting });
      } catch (error) {
        broken.push({ file, error: (error as Error).message });
        await Deno.rename(file, `${file}.broken`).catch(() => {});
      }
    }
    const endpoints = [...found.values()].sort((a, b) => a.endpoint.name < b.endpoint.name ? -1 : 1);
    return { endpoints, broken };
  }

  save(name: string, current: () => Endpoint | undefined): Promise<void> {
    return this.#inTurn(name, async () => {
      const endpoint = current();
      if (endpoint === undefined) return;
      const { id, ipv4, ipv6, mac, identity, identityLabels, policyRevision } = endpoint.status ?? {};
      const kept = Endpoint.create({
        ...endpoint,
        status: { id, ipv4, ipv6, mac, identity, identityLabels, policyRevision },
      });
      await writeStateFile(this.#path(name, FILE_SUFFIX), JSON.stringify(Endpoint.toJson(kept)));
    });
  }

  markDeleting(name: string): Promise<void> {
    return this.#inTurn(name, async () => {
      try {
        await renameStateFile(this.#path(name, FILE_SUFFIX), this.#path(name, DELETING_SUFFIX));
      } catch (error) {
        // It is marked already.
        if (!((error as Error).cause instanceof Deno.errors.NotFound)) throw error;
      }
    });
  }

  remove(name: string): Promise<void> {
    return this.#inTurn(name, async () => {
      await removeStateFile(this.#path(name, FILE_SUFFIX));
      await removeStateFile(this.#path(name, DELETING_SUFFIX));
    });
  }

  #path(name: string, suffix: string): string {
    return `${this.#directory}/${encodeURIComponent(name)}${suffix}`;
  }

  #inTurn(name: string, task: () => Promise<void>): Promise<void> {
    const turn = (this.#last.get(name) ?? Promise.resolve()).catch(() => {}).then(task);
    this.#last.set(name, turn);
    const forget = () => {
      if (this.#last.get(name) === turn) this.#last.delete(name);
    };
    turn.then(forget, forget);
    return turn;
  }
}
