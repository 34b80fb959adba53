/** The loop in which a verification ran into a limit. @module */
import type { VerifyReport } from "@weir/verifier";

const LIMITS = new Set([30, 31, 32, 33]);
/** A branch that is this often among the newest decisions comes round. */
const ROUNDS_MIN = 8;

/** The branch of the loop, by its instruction; undefined when it was no loop, but many different paths. */
export function loopOfLimit(report: VerifyReport): number | undefined {
  if (!LIMITS.has(report.code)) return undefined;
  const rounds = new Map<number, number>();
  for (const { instruction } of report.path) rounds.set(instruction, (rounds.get(instruction) ?? 0) + 1);
  const [most] = [...rounds].sort(([, a], [, b]) => b - a);
  return most !== undefined && most[1] >= ROUNDS_MIN ? most[0] : undefined;
}
