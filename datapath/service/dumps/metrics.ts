/** What the programs counted. @module */
import { DROP_REASONS } from "@weir/proto/numbers";
import type { Kernel } from "../kernel/kernel.ts";
import type { Dump, Row } from "./dump.ts";

const REASONS = new Map(DROP_REASONS.map(({ number, name }) => [number, name]));
const DIRECTIONS = ["", "ingress", "egress", "service"];

/** `weir bpf metrics`. */
export function dumpMetrics(kernel: Kernel): Dump {
  const rows = kernel.metrics.entriesPerCpu().map(([key, cpus]): Row => ({
    reason: String(key >> 2),
    name: key >> 2 === 0 ? "FORWARDED" : REASONS.get(key >> 2) ?? "",
    direction: DIRECTIONS[key & 3],
    packets: String(cpus.reduce((sum, cpu) => sum + cpu.packets, 0n)),
    bytes: String(cpus.reduce((sum, cpu) => sum + cpu.bytes, 0n)),
  })).filter((row) => row.packets !== "0");
  return { rows, entriesMax: kernel.metrics.entriesMax };
}
