/**
 * Control groups of a cluster: one parent in every hierarchy of this machine, a child for the control plane and one for each
 * node. The one of version 2 is also the list of all that runs in the cluster, and what ends it.
 * @module
 */
import { exists } from "./layout.ts";
import { waitFor } from "./process.ts";

/** A hierarchy that is mounted on this machine. */
export interface Hierarchy {
  version: 1 | 2;
  /** Where it is mounted. */
  mount: string;
  /** What mounts it again: `cpu,cpuacct`, `name=systemd`; empty for version 2. */
  options: string;
}

const PARENT = "weir-kubernetes";

/** The hierarchies that /proc/self/mountinfo shows and that no later mount covers. Pure. */
export function hierarchies(mountinfo: string): Hierarchy[] {
  let found: Hierarchy[] = [];
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ");
    if (after === undefined) continue;
    const mount = before.split(" ")[4];
    found = found.filter((earlier) => earlier.mount !== mount && !earlier.mount.startsWith(`${mount}/`));
    const [type, , superOptions] = after.split(" ");
    if (type === "cgroup2") found.push({ version: 2, mount, options: "" });
    if (type === "cgroup") found.push({ version: 1, mount, options: identifying(superOptions) });
  }
  return found;
}

/** The options that say which hierarchy of version 1 it is. */
function identifying(superOptions: string): string {
  const others = ["rw", "ro", "xattr", "relatime", "clone_children", "noprefix"];
  return superOptions.split(",").filter((option) =>
    !others.includes(option) && !option.startsWith("release_agent=")
  ).join(",");
}

/** The control groups of the cluster of this name. */
export class Cgroups {
  readonly hierarchies: readonly Hierarchy[];
  readonly #unified: Hierarchy;

  /** @throws where version 2 is not mounted */
  constructor(readonly cluster: string, mountinfo: string = Deno.readTextFileSync("/proc/self/mountinfo")) {
    this.hierarchies = hierarchies(mountinfo);
    const unified = this.hierarchies.find(({ version }) => version === 2);
    if (!unified) throw new Error("Cannot make a cluster: no control groups of version 2 are mounted here");
    this.#unified = unified;
  }

  /** Whether processes of the cluster run. */
  get isPopulated(): boolean {
    const events = `${this.#parent(this.#unified)}/cgroup.events`;
    return exists(events) && /^populated 1$/m.test(Deno.readTextFileSync(events));
  }

  /** What a process of the control plane joins. */
  controlPlane(): string[] {
    return [`${this.#parent(this.#unified)}/control-plane`];
  }

  /** What a process of a node joins, and what the node's own view of control groups begins at. */
  node(index: number): string[] {
    return this.hierarchies.map((h) => `${this.#parent(h)}/node-${index}`);
  }

  /**
   * What another process of a node joins later: of version 2 a child, for a group whose children have controllers may hold no
   * processes itself.
   */
  nodeSystem(index: number): string[] {
    return this.hierarchies.map((h) => `${this.#parent(h)}/node-${index}${h.version === 2 ? "/system" : ""}`);
  }

  makeControlPlane(): void {
    for (const directory of this.controlPlane()) Deno.mkdirSync(directory, { recursive: true });
  }

  makeNode(index: number): void {
    for (const hierarchy of this.hierarchies) {
      const parent = this.#parent(hierarchy);
      for (const [above, directory] of steps(hierarchy.mount, `${parent}/node-${index}`)) {
        Deno.mkdirSync(directory, { recursive: true });
        if (hierarchy.version === 2) delegateControllers(above);
        else inheritCpuset(above, directory);
      }
    }
    for (const directory of this.nodeSystem(index)) Deno.mkdirSync(directory, { recursive: true });
  }

  /** Ends every process of a node and removes its control groups. @throws where processes outlive their killing for half a minute */
  async removeNode(index: number): Promise<void> {
    const group = `${this.#parent(this.#unified)}/node-${index}`;
    if (exists(group)) {
      Deno.writeTextFileSync(`${group}/cgroup.kill`, "1");
      const isPopulated = () => /^populated 1$/m.test(Deno.readTextFileSync(`${group}/cgroup.events`));
      await waitFor(`the processes of node-${index} to end`, () => !isPopulated(), { seconds: 30 });
    }
    for (const directory of this.node(index)) {
      await waitFor(`${directory} to be removed`, () => removeTree(directory), { seconds: 30 });
    }
  }

  /**
   * Ends every process of the cluster and removes its control groups. Repeatable.
   * @throws where processes outlive their killing for half a minute
   */
  async remove(): Promise<void> {
    const kill = `${this.#parent(this.#unified)}/cgroup.kill`;
    if (exists(kill)) {
      Deno.writeTextFileSync(kill, "1");
      await waitFor(`the processes of ${this.cluster} to end`, () => !this.isPopulated, { seconds: 30 });
    }
    for (const hierarchy of this.hierarchies) {
      const parent = this.#parent(hierarchy);
      // A group whose last process has just ended is busy for a moment.
      await waitFor(`${parent} to be removed`, () => removeTree(parent), { seconds: 30 });
      try {
        Deno.removeSync(`${hierarchy.mount}/${PARENT}`);
      } catch { /* other clusters have theirs in it, or there was none */ }
    }
  }

  #parent(hierarchy: Hierarchy): string {
    return `${hierarchy.mount}/${PARENT}/${this.cluster}`;
  }
}

/** Each folder from below `mount` down to `directory`, with the one above it. */
function steps(mount: string, directory: string): [above: string, directory: string][] {
  let above = mount;
  return directory.slice(mount.length + 1).split("/").map((name) => {
    const step: [string, string] = [above, `${above}/${name}`];
    above = step[1];
    return step;
  });
}

/** In version 2 children have the controllers that their parent hands down. */
function delegateControllers(directory: string): void {
  for (const controller of Deno.readTextFileSync(`${directory}/cgroup.controllers`).trim().split(" ")) {
    if (controller === "") continue;
    try {
      Deno.writeTextFileSync(`${directory}/cgroup.subtree_control`, `+${controller}`);
    } catch (error) {
      throw new Error(`Cannot hand the controller ${controller} down from ${directory}`, { cause: error });
    }
  }
}

/** In version 1 a group of cpuset takes processes only when it has processors and memory. */
function inheritCpuset(above: string, directory: string): void {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    if (!exists(`${directory}/${file}`)) continue;
    if (Deno.readTextFileSync(`${directory}/${file}`).trim() !== "") continue;
    Deno.writeTextFileSync(`${directory}/${file}`, Deno.readTextFileSync(`${above}/${file}`));
  }
}

/** Removes a group and those below it; whether it is gone. */
function removeTree(directory: string): boolean {
  if (!exists(directory)) return true;
  for (const { isDirectory, name } of Deno.readDirSync(directory)) {
    if (isDirectory) removeTree(`${directory}/${name}`);
  }
  try {
    Deno.removeSync(directory);
    return true;
  } catch {
    return false;
  }
}
