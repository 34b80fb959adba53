/**
 * Time as an argument: domain code never reads a clock by itself, so tests and replays decide what time it is.
 * @module
 */

/** What a service may know about time. */
export interface Clock {
  /** Wall clock in milliseconds since the Unix epoch. */
  nowMs(): number;
  /** A clock that only goes forward, in milliseconds; its zero means nothing. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when `signal` aborts; never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The clock of this machine. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, ms));
      signal?.addEventListener("abort", done);
    }),
};

/** Wall clock in seconds, the form that protobuf fields named `*_unix_s` carry. */
export function unixSeconds(clock: Clock): number {
  return clock.nowMs() / 1000;
}

/**
 * The wall clock as it was when this was called, plus the time that has passed since: for times that are kept beside those of
 * other processes and by which something ends. A wall clock that jumps moves neither.
 * @returns Unix seconds of now
 */
export function steadyUnixSeconds(clock: Clock): () => number {
  const startMs = clock.nowMs() - clock.monotonicMs();
  return () => (startMs + clock.monotonicMs()) / 1000;
}
