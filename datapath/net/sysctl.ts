/**
 * Kernel settings of the namespace that the calling thread is in.
 *
 * A container sees /proc/sys read-only. There the host's /proc/sys/net is mounted elsewhere: what lies below it is of the network
 * namespace of whoever looks, wherever it is mounted.
 * @module
 */
import { NetError } from "./errors.ts";

let directory = "/proc/sys/net";

/** Where settings are read and written from now on, in place of /proc/sys/net. */
export function setSysctlDirectory(path: string): void {
  directory = path;
}

/** Reads a setting, "ipv4/ip_forward"; undefined when this kernel has none of that name. */
export function readSysctl(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(`${directory}/${path}`).trim();
  } catch {
    return undefined;
  }
}

/** Writes a setting unless it has that value; false when this kernel has none of that name or it cannot be written. */
export function writeSysctl(path: string, value: string): boolean {
  if (readSysctl(path) === value) return true;
  try {
    Deno.writeTextFileSync(`${directory}/${path}`, value, { create: false });
    return true;
  } catch {
    return false;
  }
}

/**
 * Writes a setting without which packets are lost, unless it has that value or this kernel has none of that name.
 * @throws {NetError} not-permitted: it has another value, and cannot be written
 */
export function ensureSysctl(path: string, value: string): void {
  const found = readSysctl(path);
  if (found === undefined || found === value) return;
  try {
    Deno.writeTextFileSync(`${directory}/${path}`, value, { create: false });
  } catch (cause) {
    throw new NetError(
      "not-permitted",
      `Cannot set ${directory}/${path} to ${value}: it is ${found} and cannot be written; ` +
        "in a container mount the host's /proc/sys/net and name it with --sysctl-directory",
      0,
      { cause },
    );
  }
}
