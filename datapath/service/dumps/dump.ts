/** A dump: a map in words. @module */
import type { Bytes } from "@weir/maps";
import { unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";

/** Names for what the maps have numbers for. */
export interface DumpNames {
  endpoint: (id: number) => string;
  policy: (slot: number) => string;
  service: (id: number) => string;
  /** Jiffies per second. */
  hz: number;
}

/** Column -> value. */
export type Row = Record<string, string>;
/** The rows of a map, and how many it could have. */
export interface Dump {
  rows: Row[];
  entriesMax: number;
}
/** Reads one. */
export type Dumper = (kernel: Kernel, names: DumpNames) => Dump;

/** "10.0.0.1:80", "[fd00::1]:80". */
export function endpointText(address: Bytes, port: number): string {
  const text = unmapped(address);
  return text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`;
}

/** Names of the bits that are set. */
export function flagsText(flags: number, names: readonly [number, string][]): string {
  return names.filter(([bit]) => flags & bit).map(([, name]) => name).join(",");
}

/** Of a number in the kernel's order of `ipv4` fields. */
export function ipv4Text(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".");
}

/** Whether there is nothing in it. */
export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Seconds from now until `jiffies`, both the low 32 bits. */
export function secondsUntil(jiffies: number, now: number, hz: number): string {
  return String(Math.round(((jiffies - now) | 0) / hz));
}

/** The low 32 bits of jiffies. */
export function jiffiesNow(kernel: Kernel): number {
  return Number(kernel.sampleClock().jiffies & 0xffff_ffffn);
}
