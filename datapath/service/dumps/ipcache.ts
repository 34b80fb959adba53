/** Who has which address. @module */
import { unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { type Dump, isZero, type Row } from "./dump.ts";

/** `weir bpf ipcache`. */
export function dumpIpcache(kernel: Kernel): Dump {
  const row = (prefix: string, entry: { identity: number; node: Uint8Array }): Row => ({
    prefix,
    identity: String(entry.identity),
    node: isZero(entry.node) ? "" : unmapped(entry.node),
  });
  const exact = kernel.ipcacheExact.entries().map(([address, entry]) => {
    const text = unmapped(address);
    return row(`${text}/${text.includes(":") ? 128 : 32}`, entry);
  });
  const wide = kernel.ipcache.entries().map(([key, entry]) => {
    const text = unmapped(key.address);
    return row(`${text}/${text.includes(":") ? key.prefixlen : key.prefixlen - 96}`, entry);
  });
  return {
    rows: [...exact, ...wide],
    entriesMax: kernel.ipcacheExact.entriesMax + kernel.ipcache.entriesMax,
  };
}
