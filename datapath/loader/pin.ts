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

/** Mounts the bpf file system if it is not there. @throws {BpfError} */
export function ensureBpffs(): void {
  const mounted = Deno.readTextFileSync("/proc/self/mounts").split("\n").some((line) => {
    const [, path, kind] = line.split(" ");
    return path === BPFFS && kind === BPF_FS_MAGIC_NAME;
  });
  if (mounted) return;
  const kind = cString(BPF_FS_MAGIC_NAME);
  if (libc().mount(kind, cString(BPFFS), kind, 0n, cString("mode=0700")) < 0) {
    const errno = lastErrno();
    if (errno === EBUSY) return;
    throw new BpfError("pin-failed", `Cannot mount the bpf file system at ${BPFFS}`, { errno });
  }
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
