/**
 * The control group of a node's L7 proxy, below the agent's own: whose processes may connect to handles, and to nothing else. Root makes it,
 * and puts the proxy's processes in as it starts them; so no other service of that user is ever one of them.
 *
 *     /sys/fs/cgroup/system.slice/weir.service/                      the agent and its services
 *                                             weir-host-l7-proxy/   the proxy's processes
 *
 * In a container the hierarchy is often read-only. There the agent's own group is looked for in the host's, where that is mounted (`--cgroup-root`).
 *
 * All of it is done by programs: Deno lets only --allow-all use /proc and /sys.
 *
 * @module
 */
import { cgroupRoot } from "@weir/common";

/** How long a look through the host's groups may take. */
const MS_MAX = 30_000;

/** What {@link makeProxyCgroup} looks at. */
export interface CgroupPlaces {
  readonly instance: string;
  /** Where all of the host's control groups are mounted too; "": nowhere. */
  readonly root?: string;
  /** Text of /proc/self/mountinfo. */
  readonly mountinfo?: string;
  /** Text of /proc/self/cgroup. */
  readonly own?: string;
}

/** Makes the group, or takes the one that is there. @returns its path, or why there is none */
export async function makeProxyCgroup(places: CgroupPlaces): Promise<{ path: string } | { why: string }> {
  const { instance, root = "" } = places;
  const own = ownPath(
    places.mountinfo ?? await outputOf("cat", "/proc/self/mountinfo").catch(() => ""),
    places.own ?? await outputOf("cat", "/proc/self/cgroup").catch(() => ""),
  );
  if (own === undefined) return { why: "no control groups of version 2 are mounted here" };
  let why = "";
  for (const find of [() => Promise.resolve(own), () => sameGroup(own, root)]) {
    try {
      const parent = await find();
      if (parent === undefined) continue;
      const path = `${parent}/weir-${instance}-l7-proxy`;
      await ensureCgroup(path);
      // Below a threaded group, or one that divides a resource, a group takes no process; nor from beyond a delegated namespace.
      await outputOf(...inCgroup(path, ["true"])).catch(async (error) => {
        await removeCgroup(path);
        throw error;
      });
      return { path };
    } catch (error) {
      why ||= (error as Error).message;
    }
  }
  return { why };
}

/** Makes the group where it is gone. @throws {Error} where that may not be, or where it would be a mere directory */
export async function ensureCgroup(path: string): Promise<void> {
  const script = '[ -d "$0" ] || mkdir "$0" || exit 1; [ -e "$0/cgroup.procs" ] && exit; ' +
    'rmdir "$0"; echo "$0 is no control group" >&2; exit 1';
  await outputOf("sh", "-c", script, path);
}

/** Removes the group; one with processes stays. */
export async function removeCgroup(path: string): Promise<void> {
  await outputOf("rmdir", path).catch(() => {});
}

/** What a program says. @throws {Error} with its last words, where it fails or takes too long */
async function outputOf(...[program, ...args]: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args,
    stdin: "null",
    signal: AbortSignal.timeout(MS_MAX),
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(text(stderr).trim().split("\n").at(-1) || `${program} failed`);
  return text(stdout);
}

/** Words that start a program as a process of the group: it is there before its first instruction. */
export function inCgroup(path: string, words: readonly string[]): string[] {
  return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', path, ...words];
}

/** Directory of this process's own group; undefined where that is not mounted. */
function ownPath(mountinfo: string, own: string): string | undefined {
  const root = cgroupRoot(mountinfo);
  const path = own.split("\n").find((line) => line.startsWith("0::"))?.slice("0::".length);
  // A mount from outside of our namespace has paths that begin with "..".
  if (root === undefined || path === undefined || path.startsWith("/..")) return undefined;
  return path === "/" ? root : root + path;
}

/**
 * The same group as `own` in another mount, of all groups; `root` as {@link CgroupPlaces} has it. Bash looks for it by itself: the image of a node
 * has no find(1).
 */
export async function sameGroup(own: string, root: string): Promise<string | undefined> {
  if (root === "") return undefined;
  const script =
    'shopt -s globstar dotglob nullglob; [ -d "$0/unified" ] && set -- "$0/unified" "$1" || set -- "$0" "$1"; ' +
    'for at in "$1"/**/; do [ "$at" -ef "$2" ] && echo "${at%/}" && break; done; :';
  return (await outputOf("bash", "-c", script, root, own)).split("\n")[0] || undefined;
}
