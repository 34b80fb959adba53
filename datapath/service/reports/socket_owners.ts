/**
 * Whose a socket is: the processes of a namespace or a cgroup, and their descriptors in /proc. It takes as long as it may and no
 * longer; what was not found by then has no owner.
 *
 * @module
 */
import type { Clock } from "@weir/common";

/** A process. */
export interface SocketOwner {
  pid: number;
  process: string;
}

/** Looks at once before others get their turn. */
const AT_ONCE = 64;
const CGROUPS_MAX = 256, DEPTH_MAX = 8;

/** Ids of a cgroup and of those below it. @throws {Deno.errors.NotFound} */
export function cgroupIds(path: string): Set<bigint> {
  const ids = new Set<bigint>();
  for (const each of cgroupsBelow(path)) ids.add(BigInt(Deno.statSync(each).ino ?? 0));
  return ids;
}

/** Processes of a cgroup and of those below it. */
export function* cgroupProcesses(path: string): Generator<number> {
  for (const each of cgroupsBelow(path)) {
    for (const line of textOf(`${each}/cgroup.procs`).split("\n")) if (line !== "") yield Number(line);
  }
}

function cgroupsBelow(path: string): string[] {
  const found = [{ path, depth: 0 }];
  for (let at = 0; at < found.length; at++) {
    if (found[at].depth >= DEPTH_MAX) continue;
    for (const entry of Deno.readDirSync(found[at].path)) {
      if (entry.isDirectory && found.length < CGROUPS_MAX) {
        found.push({ path: `${found[at].path}/${entry.name}`, depth: found[at].depth + 1 });
      }
    }
  }
  return found.map((each) => each.path);
}

/** Processes in the network namespace with this inode. */
export function* namespaceProcesses(inode: number, clock: Clock, deadlineMs: number): Generator<number> {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    if (clock.monotonicMs() > deadlineMs) return;
    if (linkOf(`/proc/${name}/ns/net`) === `net:[${inode}]`) yield Number(name);
    else yield 0;
  }
}

/** Who has these sockets, by inode. A `pids` of 0 is nobody, and a turn. */
export async function socketOwners(
  inodes: ReadonlySet<number>,
  pids: Iterable<number>,
  clock: Clock,
  deadlineMs: number,
): Promise<Map<number, SocketOwner>> {
  const owners = new Map<number, SocketOwner>();
  if (inodes.size === 0) return owners;
  let turns = 0;
  for (const pid of pids) {
    if (owners.size === inodes.size || clock.monotonicMs() > deadlineMs) break;
    if (++turns % AT_ONCE === 0) await clock.sleep(0);
    if (pid === 0) continue;
    for (const descriptor of namesIn(`/proc/${pid}/fd`)) {
      if (clock.monotonicMs() > deadlineMs) break;
      const match = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${descriptor}`));
      const inode = Number(match?.[1] ?? 0);
      if (inodes.has(inode) && !owners.has(inode)) {
        owners.set(inode, { pid, process: textOf(`/proc/${pid}/comm`).trim() });
      }
    }
  }
  return owners;
}

// Processes end while they are looked at.
function linkOf(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return "";
  }
}
function textOf(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
function namesIn(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].map(({ name }) => name);
  } catch {
    return [];
  }
}
