/**
 * The commonest mistake of who begins: a pointer that came from the kernel as a number (an argument of a kprobe, a field of
 * a tracepoint, bpf_get_current_task()) is followed as in the kernel itself.
 * @module
 */
import type { SourceMap } from "@weir/object";
import type { VerifyReport } from "@weir/verifier";
import { pointerIn, withoutCasts } from "./source_words.ts";

const NOT_A_POINTER = 60, KERNEL_POINTER_OPAQUE = 88;
/** Programs whose context holds kernel addresses as numbers. */
const KINDS = /\b(kprobe|tracepoint|perf_event|raw_tracepoint|raw_tracepoint_writable|tracing|lsm)\b/;

/** What is followed: the variable, and what is read through it where the line says; undefined when it is something else. */
export function followsKernelPointer(
  report: VerifyReport,
  source: SourceMap,
  kind: string,
): { pointer: string; expression: string } | undefined {
  if (report.code !== NOT_A_POINTER && report.code !== KERNEL_POINTER_OPAQUE) return undefined;
  if (report.lostAt >= 0 || !KINDS.test(kind)) return undefined;
  // Only reads: nothing writes to the kernel's memory.
  const { opcode, src } = source.instructionAt(report.instruction);
  if ((opcode & 7) !== 1) return undefined;
  const value = report.registers[src];
  // A small number is an index or an error that was taken for a pointer, no address.
  if (value !== undefined && value.kind === "number" && value.umax < 0xffff_ffff_ffffn) return undefined;
  const line = source.lineAt(report.instruction), pointer = pointerIn(line);
  if (line === undefined || pointer === undefined) return undefined;
  const column = Math.max(0, line.column - 1);
  const text = withoutCasts(line.text);
  const escaped = pointer.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const expression =
    new RegExp(`${escaped}(?:->|\\[)[\\w.\\]>-]*`).exec(withoutCasts(line.text.slice(column)))?.[0] ??
      new RegExp(`${escaped}(?:->|\\[)[\\w.\\]>-]*`).exec(text)?.[0] ?? `*${pointer}`;
  return { pointer, expression };
}
