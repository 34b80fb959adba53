/**
 * Whether a process that does not answer is hung, or merely slow.
 *
 * Silence alone says little: on a machine under load a healthy process may answer late. So a process counts as hung when it
 * missed several questions in a row for long enough, and what it did meanwhile fits: it was stopped, it neither did anything
 * nor waited for a CPU, or it used as much CPU time as the silence may last and still has not answered (an endless loop). One
 * that waits for a CPU, or works with the little that it gets, has six times as long.
 *
 * @module
 */

/** What a process has used, from the kernel. */
export interface ProcessUsage {
  /** CPU time of all its threads since it began, in milliseconds. */
  readonly cpuMs: number;
  /** How long its first thread was ready to run and had no CPU since it began, in milliseconds; 0 where the kernel keeps no count. */
  readonly waitMs: number;
  /** State of its first thread, proc(5): "R" runs, "S" sleeps, "D" waits for a device, "T" is stopped. */
  readonly state: string;
}

/** A silence, as the questions that were asked in it show it. */
export interface Silence {
  /** Since the last answer, in milliseconds. */
  readonly silentMs: number;
  /** Questions since then that were not answered in their time. */
  readonly misses: number;
  /** CPU time used since the last answer, in milliseconds; undefined when the kernel did not say. */
  readonly cpuMs?: number;
  /** How long it waited for a CPU since the last answer, in milliseconds. */
  readonly waitMs?: number;
  readonly state?: string;
}

/** Fewest questions in a row that are missed before a process counts as hung. */
export const MISSES_MIN = 3;
/** However it looks, a process that is silent for this many times the limit is hung. */
const PATIENCE_FACTOR = 6;
/** A process that used, or waited for, a CPU for less than this part of the time does nothing. */
const IDLE_PART = 0.02;

/** Whether a process is hung; `hungAfterMs` is how long a silence may last. */
export function isHung(
  { silentMs, misses, cpuMs, waitMs = 0, state }: Silence,
  hungAfterMs: number,
): boolean {
  if (misses < MISSES_MIN || silentMs < hungAfterMs) return false;
  if (silentMs >= PATIENCE_FACTOR * hungAfterMs) return true;
  if (state === "T" || state === "t" || state === "Z") return true;
  if (cpuMs === undefined) return false;
  if (cpuMs >= hungAfterMs) return true;
  // Asleep at the moment is not idle: under load a question takes many turns, and each waits for a CPU.
  return state !== "R" && cpuMs + waitMs < IDLE_PART * silentMs;
}

/** What a process used between two looks at it; nothing where the kernel did not say. */
export function usedBetween(
  before: ProcessUsage | undefined,
  now: ProcessUsage | undefined,
): Pick<Silence, "cpuMs" | "waitMs"> {
  if (before === undefined || now === undefined) return {};
  return { cpuMs: now.cpuMs - before.cpuMs, waitMs: now.waitMs - before.waitMs };
}

/**
 * Reads /proc/PID/stat, and /proc/PID/schedstat behind it; undefined when it is none. Ticks are hundredths of a second on Linux,
 * the other is in nanoseconds (Documentation/scheduler/sched-stats.rst).
 */
export function parseUsage(text: string): ProcessUsage | undefined {
  // The name in parentheses may hold anything, parentheses too.
  const [stat, schedstat = ""] = text.slice(text.lastIndexOf(")") + 2).split("\n");
  const fields = stat.split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const waitMs = Math.round(Number(schedstat.split(" ")[1]) / 1e6) || 0;
  return Number.isFinite(ticks) ? { cpuMs: ticks * 10, waitMs, state: fields[0] } : undefined;
}

/** Asks the kernel what a process has used. By `cat`: Deno lets only --allow-all read /proc. */
export async function readUsage(pid: number): Promise<ProcessUsage | undefined> {
  try {
    const { stdout } = await new Deno.Command("cat", {
      args: [`/proc/${pid}/stat`, `/proc/${pid}/schedstat`],
      stdin: "null",
      stderr: "null",
      signal: AbortSignal.timeout(1000),
    }).output();
    return parseUsage(new TextDecoder().decode(stdout));
  } catch {
    return undefined;
  }
}
