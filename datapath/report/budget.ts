/**
 * What verifying a program cost, beside the limit that the kernel has, too. The kernel walks other paths: how many visits it
 * needs is not known here.
 * @module
 */
import type { SourceMap } from "@weir/object";
import type { VerifyReport } from "@weir/verifier";
import { fileName } from "./sentence.ts";

/** Instruction visits after which the kernel gives up (BPF_COMPLEXITY_LIMIT_INSNS). */
export const KERNEL_VISITS_MAX = 1_000_000;

/** A source line and what it cost. */
export interface LineCost {
  readonly file: string;
  readonly line: number;
  readonly text: string;
  readonly visits: number;
}

/** Cost of one verification. */
export interface Budget {
  readonly visits: number;
  readonly visitsMax: number;
  /** 0 to 100 and above. */
  readonly percent: number;
  /** Set from half the limit on. */
  readonly warning: string;
  /** Lines that cost most, dearest first; empty unless visits per instruction were asked for. */
  readonly lines: readonly LineCost[];
}

/** The budget of a report. */
export function budgetOf(report: VerifyReport, source: SourceMap, linesMax = 5): Budget {
  const percent = Math.round(report.visits * 1000 / KERNEL_VISITS_MAX) / 10;
  const lines = new Map<string, { file: string; line: number; text: string; visits: number }>();
  for (const [instruction, visits] of report.instructionVisits.entries()) {
    if (visits === 0) continue;
    const line = source.lineAt(instruction);
    if (line === undefined) continue;
    const key = `${line.file}:${line.line}`;
    const entry = lines.get(key);
    if (entry === undefined) {
      lines.set(key, { file: line.file, line: line.line, text: line.text.trim(), visits });
    } else entry.visits += visits;
  }
  const dearest = [...lines.values()].sort((a, b) => b.visits - a.visits).slice(0, linesMax);
  const most = dearest[0] === undefined ? "" : `; ${fileName(dearest[0].file)}:${dearest[0].line} costs most`;
  return {
    visits: report.visits,
    visitsMax: KERNEL_VISITS_MAX,
    percent,
    warning: percent >= 50
      ? `${percent}% of ${KERNEL_VISITS_MAX} visits are used; the kernel has the same limit and may need more or fewer${most}`
      : "",
    lines: dearest,
  };
}
