/**
 * Removes every trace of a lab, whatever state it is in: processes, namespaces, pins, sockets, state.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { labDirectory, runDirectory, stateDirectory } from "./paths.ts";
import { labNamespaces, processesIn, removeNamespaces } from "./underlay.ts";

/** What was found and removed. */
export interface SweepReport {
  processes: number;
  namespaces: number;
  pins: number;
  directories: number;
}

const PINS = "/sys/fs/bpf/weir";

/**
 * Removes all that belongs to the lab. Repeatable; a lab that is not there leaves nothing to do.
 * @param keepDirectory of a lab that is about to come up: its own directory stays, what another of its name left goes
 */
export async function sweep(lab: string, { keepDirectory = false } = {}): Promise<SweepReport> {
  const instances = await instancesOf(lab);
  const namespaces = await labNamespaces(lab);
  const processes = await endProcesses(instances, namespaces);
  await removeNamespaces(namespaces);
  let pins = 0;
  let directories = 0;
  for (const instance of instances) {
    pins += await removeTree(`${PINS}/${instance}`) ? 1 : 0;
    directories += await removeTree(`${runDirectory()}/${instance}`) ? 1 : 0;
    directories += await removeTree(`${stateDirectory()}/${instance}`) ? 1 : 0;
  }
  if (!keepDirectory) directories += await removeTree(labDirectory(lab)) ? 1 : 0;
  // Shared parents go with the last lab; a parent that is not empty stays.
  for (const parent of [`${runDirectory()}/lab`, PINS]) await Deno.remove(parent).catch(() => {});
  return { processes, namespaces: namespaces.length, pins, directories };
}

/** Instances whose name is LAB-node-N, wherever one of them left something. */
async function instancesOf(lab: string): Promise<string[]> {
  const pattern = new RegExp(`^${lab}-node-\\d+$`);
  const found = new Set<string>();
  for (const parent of [PINS, runDirectory(), stateDirectory()]) {
    try {
      for await (const entry of Deno.readDir(parent)) if (pattern.test(entry.name)) found.add(entry.name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return [...found].sort();
}

/** Kills agents first (so that they restart nothing), then everything inside the namespaces and on the sockets. */
async function endProcesses(instances: string[], namespaces: string[]): Promise<number> {
  const killed = new Set<number>();
  for (let round = 0; round < 20; round++) {
    const pids = new Set(await processesIn(namespaces));
    for (const instance of instances) {
      for (const file of ["agent.lock", "agent.pids"]) {
        const text = await Deno.readTextFile(`${runDirectory()}/${instance}/${file}`).catch(() => "");
        for (const line of text.split("\n")) {
          const pid = Number(line);
          if (pid > 0 && await mentions(pid, [instance])) pids.add(pid);
        }
      }
    }
    if (pids.size === 0) break;
    for (const pid of pids) {
      try {
        Deno.kill(pid, "SIGKILL");
        killed.add(pid);
      } catch {
        // It has ended meanwhile.
      }
    }
    await delay(50);
  }
  return killed.size;
}

/** Whether a process's command line names one of these; a pid may have gone to a stranger. */
async function mentions(pid: number, words: string[]): Promise<boolean> {
  const command = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
  return words.some((word) => command.includes(word));
}

async function removeTree(path: string): Promise<boolean> {
  try {
    await Deno.remove(path, { recursive: true });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
