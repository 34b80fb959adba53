/**
 * Control groups of version 2, the only ones that programs hang on. Where version 1 is mounted too, they stand beside it.
 *
 * @module
 */
import { cgroupRoot, ProblemError } from "@weir/common";

/**
 * The id of a control group: its inode.
 * @throws {ProblemError} CGROUP_NOT_FOUND where there is nothing, or a directory outside of version 2
 */
export function cgroupId(path: string): bigint {
  let inode: number | null;
  try {
    inode = Deno.statSync(path).ino;
  } catch (cause) {
    throw new ProblemError("CGROUP_NOT_FOUND", {
      status: 404,
      detail: `Cannot use cgroup ${path}: it does not exist`,
      found: "nothing",
      expected: path,
      cause,
    });
  }
  // Every group of version 2 has this file, and nothing else does.
  if (inode !== null && isThere(`${path}/cgroup.controllers`)) return BigInt(inode);
  const root = cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"));
  const where = root === undefined ? "none is mounted here" : `those are below ${root}`;
  throw new ProblemError("CGROUP_NOT_FOUND", {
    status: 404,
    detail: `Cannot use cgroup ${path}: it is not a control group of version 2; ${where}`,
    found: "another directory",
    expected: root === undefined ? "a mount of type cgroup2, and a group in it" : `a directory in ${root}`,
  });
}

/**
 * The root of the unified hierarchy in a directory where all of the host's control groups are mounted, as a container has them:
 * the directory itself, or `unified` in it where version 1 stands beside.
 * @throws {ProblemError} CGROUP_NOT_FOUND
 */
export function cgroupRootIn(directory: string): string {
  const found = [directory, `${directory}/unified`].find((path) => isThere(`${path}/cgroup.controllers`));
  if (found !== undefined) return found;
  throw new ProblemError("CGROUP_NOT_FOUND", {
    status: 404,
    detail: `Cannot find the host's control groups in ${directory}: there is no unified hierarchy`,
    found: "neither cgroup.controllers nor unified/cgroup.controllers",
    expected: "the host's /sys/fs/cgroup, mounted there with what is mounted below it",
    action: "Mount it, or name another directory with --cgroup-root",
  });
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
