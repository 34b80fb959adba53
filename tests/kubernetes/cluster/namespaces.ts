/**
 * The namespaces of a cluster. One process is the cluster's number 1: it holds mounts, network and process numbers, and all
 * else is inside. When it is killed the kernel ends every process of the cluster and releases every mount and network.
 * @module
 */
import type { Cache } from "./layout.ts";
import { exists, SOURCES } from "./layout.ts";
import { ok, run, waitFor } from "./process.ts";

/** Joins control groups, then becomes a command: COUNT GROUP... COMMAND... */
const JOIN =
  'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; n=$((n - 1)); done; exec "$@"';

/** Words that join these control groups and become `words`. */
export function joining(groups: readonly string[], words: readonly string[]): string[] {
  return ["sh", "-c", JOIN, "join", String(groups.length), ...groups, ...words];
}

/**
 * Words that make `words` the number 1 of new namespaces and print its process number as the caller sees it. A shell that has
 * unshared its children's process numbers is not in that namespace itself: so `$!` is the number that others can use.
 */
function becoming(namespaces: readonly string[], log: string, words: readonly string[]): string[] {
  const start = 'log=$1; shift; setsid "$@" </dev/null >"$log" 2>&1 & echo $!';
  return ["unshare", ...namespaces, "--propagation", "private", "sh", "-c", start, "start", log, ...words];
}

/** Where what is started in namespaces logs to: the same folder as seen in there and out here. */
interface Logs {
  inside: string;
  outside: string;
}

/** What was started, and goes on by itself. */
export interface Started {
  name: string;
  /** As the namespaces see it. */
  pid: number;
  /** Its log, as this machine sees it. */
  log: string;
}

/** Namespaces that exist: a process in them, and how one comes into them. */
export class Namespaces {
  private constructor(
    /** Process number of its number 1, as this machine or the namespaces around it see it. */
    readonly pid: number,
    readonly around: Namespaces | undefined,
    readonly groups: readonly string[],
    readonly path: string,
    readonly kinds: readonly string[],
    readonly logs: Logs,
  ) {}

  /** Those of a cluster whose number 1 runs. @param directory the cluster's folder */
  static ofCluster(pid: number, directory: string, groups: readonly string[], cache: Cache): Namespaces {
    const logs = { inside: `${directory}/logs`, outside: `${directory}/logs` };
    return new Namespaces(pid, undefined, groups, cache.path, ["-m", "-n", "-p", "-i"], logs);
  }

  /** Those of a node inside a cluster. @param directory the node's folder */
  static ofNode(pid: number, directory: string, cluster: Namespaces, groups: readonly string[]): Namespaces {
    const logs = { inside: "/run/node", outside: directory };
    return new Namespaces(pid, cluster, groups, cluster.path, ["-m", "-n", "-p", "-i", "-u", "-C"], logs);
  }

  /**
   * Makes those of a cluster.
   * @param directory its folder; `ready` in it says that everything is there
   */
  static async makeCluster(directory: string, groups: readonly string[], cache: Cache): Promise<Namespaces> {
    const init = ["sh", `${SOURCES}/cluster/cluster-init.sh`, directory, `${cache.bin}/pause`];
    const kinds = ["--mount", "--net", "--pid", "--ipc"];
    const pid = await ok(joining(groups, becoming(kinds, `${directory}/init.log`, init)));
    await isReady(directory, ["kill", "-0", pid.trim()]);
    return Namespaces.ofCluster(Number(pid), directory, groups, cache);
  }

  /** Makes those of a node. Arguments as above, and what node-init.sh is told beside them. */
  static async makeNode(
    cluster: Namespaces,
    directory: string,
    groups: { first: readonly string[]; later: readonly string[] },
    cache: Cache,
    ...more: string[]
  ): Promise<Namespaces> {
    const init = ["sh", `${SOURCES}/cluster/node-init.sh`, directory, `${cache.bin}/pause`, ...more];
    const kinds = ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup"];
    const unsharing = becoming(kinds, `${directory}/init.log`, init);
    // In this order: the control groups in which it is when it unshares are the root of its view.
    const pid = await ok(cluster.words(joining(groups.first, unsharing)));
    await isReady(directory, cluster.words(["kill", "-0", pid.trim()]));
    return Namespaces.ofNode(Number(pid), directory, cluster, groups.later);
  }

  /** Words that run a command in here. Paths are those of in here; the command begins in the root folder. */
  words(words: readonly string[]): string[] {
    return joining(this.groups, this.#entering(["env", `PATH=${this.path}`, ...words]));
  }

  #entering(words: readonly string[]): string[] {
    const entering = ["nsenter", "-t", String(this.pid), ...this.kinds, "--", ...words];
    return this.around ? this.around.#entering(entering) : entering;
  }

  /** Starts what goes on after its starter has ended; its output goes to the log of its name. */
  async start(name: string, words: readonly string[]): Promise<Started> {
    const script = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!';
    const pid = await ok(
      this.words(["sh", "-c", script, "start", `${this.logs.inside}/${name}.log`, ...words]),
    );
    await Deno.writeTextFile(`${this.logs.outside}/${name}.pid`, pid);
    return { name, pid: Number(pid), log: `${this.logs.outside}/${name}.log` };
  }

  /** Ends what was started under this name, and waits until it has. Repeatable. */
  async end(name: string, signal: "TERM" | "KILL" = "TERM"): Promise<void> {
    const file = `${this.logs.outside}/${name}.pid`;
    if (!exists(file)) return;
    const pid = Deno.readTextFileSync(file).trim();
    await run(this.words(["kill", `-${signal}`, pid]));
    await waitFor(`${name} to end`, async () => (await run(this.words(["kill", "-0", pid]))).code !== 0);
    await Deno.remove(file);
  }

  /** Why waiting for what was started is in vain: the end of the log of one that has ended. Undefined while all run. */
  async inVain(...started: readonly Started[]): Promise<string | undefined> {
    for (const { name, pid, log } of started) {
      const { code } = await run(this.words(["kill", "-0", String(pid)]));
      if (code !== 0) {
        return `${name} has ended:\n${(await Deno.readTextFile(log)).trim().slice(-LOG_CHARACTERS_MAX)}`;
      }
    }
  }
}

/** As much of a log as an error has. */
const LOG_CHARACTERS_MAX = 2000;

/** Waits for the file that an init writes last. @param lives Words that end with 0 while it runs. */
async function isReady(directory: string, lives: readonly string[]): Promise<void> {
  const log = `${directory}/init.log`, ready = `${directory}/ready`;
  const said = () => exists(log) ? Deno.readTextFileSync(log).trim() : "";
  const inVain = async () => (await run(lives)).code === 0 ? undefined : "what makes them was killed";
  await waitFor("namespaces", () => exists(ready) || said().includes(FAILED), { everyMs: 20, inVain });
  if (!exists(ready)) throw new Error(`Cannot make namespaces: ${said()}`);
}

/** What an init says when it ends. */
const FAILED = "init: failed";
