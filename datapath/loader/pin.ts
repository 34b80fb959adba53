/**
 * Pins: names in a bpf file system that keep an object alive when nobody holds it. Weir's are below
 * `/sys/fs/bpf/weir/<instance>/`; being there is the owner mark.
 *
 * @module
 */
import { EBUSY, ENOENT } from "./errno.ts";
import { BpfError } from "./errors.ts";
import { cString, lastErrno, libbpf, libc } from "./library.ts";

/** Where the bpf file system is. */
export const BPFFS = "/sys/fs/bpf";
const BPF_FS_MAGIC_NAME = "bpf";

/** Mounts the bpf file system if it is not there. @throws {BpfError} also where a directory of the host without one is mounted */
export function ensureBpffs(): void {
  const mounted = mountedAt(Deno.readTextFileSync("/proc/self/mounts"), BPFFS);
  if (mounted === BPF_FS_MAGIC_NAME) return;
  // A mount over it would be the container's own, and everything pinned would go with the container.
  if (mounted !== undefined) {
    throw new BpfError(
      "pin-failed",
      `Cannot pin at ${BPFFS}: it is a directory of the host, and no bpf file system`,
      {
        found: mounted,
        expected: BPF_FS_MAGIC_NAME,
        action: `On the host: mount -t bpf bpf ${BPFFS}`,
      },
    );
  }
  const kind = cString(BPF_FS_MAGIC_NAME);
  if (libc().mount(kind, cString(BPFFS), kind, 0n, cString("mode=0700")) < 0) {
    const errno = lastErrno();
    if (errno === EBUSY) return;
    throw new BpfError("pin-failed", `Cannot mount the bpf file system at ${BPFFS}`, { errno });
  }
}

/** Type of what is mounted at `path`, the last one; undefined when nothing is. @param mounts as /proc/self/mounts */
export function mountedAt(mounts: string, path: string): string | undefined {
  return mounts.split("\n").map((line) => line.split(" ")).findLast((fields) => fields[1] === path)?.[2];
}

/** Pins an object by its descriptor; makes the directories above. A pin of that name is replaced. @throws {BpfError} */
export function pin(fd: number, path: string): void {
  Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true, mode: 0o700 });
  unpin(path);
  const result = libbpf().bpf_obj_pin(fd, cString(path));
  if (result < 0) throw new BpfError("pin-failed", `Cannot pin at ${path}`, { errno: -result });
}

/** Opens what is pinned; undefined when nothing is. @throws {BpfError} */
export function openPin(path: string): number | undefined {
  const fd = libbpf().bpf_obj_get(cString(path));
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw new BpfError("pin-failed", `Cannot open the pin ${path}`, { errno: -fd });
  return fd;
}

/** Removes a pin; false when there was none. What it held goes when nobody else holds it. */
export function unpin(path: string): boolean {
  try {
    Deno.removeSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Paths of all pins below a directory, deepest first; empty when it is not there. */
export function listPins(directory: string): string[] {
  const found: string[] = [];
  try {
    for (const entry of Deno.readDirSync(directory)) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory) found.push(...listPins(path));
      else found.push(path);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found;
}
