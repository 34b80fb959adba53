/** Kernel settings of the namespace that the calling thread is in. @module */

/** Reads a setting below /proc/sys/net; undefined when this kernel has none of that name. */
export function readSysctl(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(`/proc/sys/net/${path}`).trim();
  } catch {
    return undefined;
  }
}

/** Writes a setting unless it has that value; false when this kernel has none of that name or it cannot be written. */
export function writeSysctl(path: string, value: string): boolean {
  if (readSysctl(path) === value) return true;
  try {
    Deno.writeTextFileSync(`/proc/sys/net/${path}`, value, { create: false });
    return true;
  } catch {
    return false;
  }
}
