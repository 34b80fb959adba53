/** Work with a deadline, and waiting for an end. @module */
import type { Clock } from "./clock.ts";

/** Options of {@link withDeadline}. */
export interface DeadlineOptions {
  clock: Clock;
  ms: number;
  /** Ends the work earlier; its reason is thrown. */
  signal?: AbortSignal;
  /** What is thrown when the time is over. */
  error: () => Error;
}

/**
 * Runs `work` for at most `ms`. Then, or when `signal` aborts, its own signal aborts and this rejects at once, whether or
 * not the work heeds it.
 */
export async function withDeadline<R>(
  options: DeadlineOptions,
  work: (signal: AbortSignal) => Promise<R>,
): Promise<R> {
  const { clock, ms, signal, error } = options;
  const stop = new AbortController(), timer = new AbortController();
  const abort = () => stop.abort(signal!.reason);
  if (signal?.aborted) throw signal.reason;
  signal?.addEventListener("abort", abort, { once: true });
  const ended = new Promise<never>((_, reject) =>
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason), { once: true })
  );
  void clock.sleep(ms, timer.signal).then(() => {
    if (!timer.signal.aborted) stop.abort(error());
  });
  try {
    return await Promise.race([work(stop.signal), ended]);
  } finally {
    timer.abort();
    signal?.removeEventListener("abort", abort);
  }
}

/** Comes when `signal` aborts, at once when it has: who was told before waiting has been told. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
