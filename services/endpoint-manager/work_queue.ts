/**
 * One task at a time, by key: a key that is added again while it waits runs once; a key whose task failed runs again
 * after a growing pause, without holding up the others. Each peer has queues of its own, so that one that hangs holds up
 * only what needs it.
 * @module
 */
import { Backoff, type Clock, systemClock } from "@weir/common";

/** What a failing key is doing. */
export interface Failure {
  error: Error;
  attempts: number;
  /** Wall clock. */
  sinceMs: number;
  /** Wall clock. */
  nextRetryMs: number;
}

/** Options of {@link WorkQueue}. */
export interface WorkQueueOptions {
  /** Does the work of one key. It must end: whatever it waits for has a deadline. */
  work: (key: string) => Promise<void>;
  /** Called after each run with the failure, or undefined when it went well. */
  onResult?: (key: string, failure: Failure | undefined) => void;
  /** Pause after the first failure, doubled up to the maximum, in milliseconds. Defaults 200 and 10,000. */
  retryDelayMs?: number;
  retryDelayMsMax?: number;
  clock?: Clock;
  /** Randomness in [0,1) of the pauses, default Math.random. */
  random?: () => number;
}

interface Retry {
  backoff: Backoff;
  failure: Failure;
  /** Ends the pause; undefined while it does not pause. */
  pause?: AbortController;
}

/** A queue of keys. Its work runs as microtasks of whoever adds; nothing of it throws. */
export class WorkQueue {
  readonly #waiting = new Set<string>();
  readonly #retries = new Map<string, Retry>();
  readonly #options: WorkQueueOptions;
  readonly #clock: Clock;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Runs the key soon; at once if it was pausing after a failure. */
  add(key: string): void {
    if (this.#stopped) return;
    this.#endPause(key);
    this.#waiting.add(key);
    this.#running ??= this.#drain();
  }

  /** Like {@link add}, but a key that pauses after a failure goes on pausing. */
  suggest(key: string): void {
    if (this.#retries.get(key)?.pause === undefined) this.add(key);
  }

  failureOf(key: string): Failure | undefined {
    return this.#retries.get(key)?.failure;
  }

  /** True when nothing waits or runs. */
  get isIdle(): boolean {
    return this.#running === undefined;
  }

  /** Resolves when nothing waits or runs; keys that pause after a failure do not count. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /** Forgets a key's failure and pause. */
  forget(key: string): void {
    this.#endPause(key);
    this.#retries.delete(key);
    this.#waiting.delete(key);
  }

  /** Ends after the task that runs now. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.clear();
    for (const key of this.#retries.keys()) this.#endPause(key);
    await this.#running;
  }

  #endPause(key: string): void {
    const retry = this.#retries.get(key);
    retry?.pause?.abort();
    if (retry) retry.pause = undefined;
  }

  async #drain(): Promise<void> {
    // Let the caller's synchronous work finish, so that several adds become one run.
    await Promise.resolve();
    for (const key of this.#waiting) {
      this.#waiting.delete(key);
      let failure: Failure | undefined;
      try {
        await this.#options.work(key);
        this.#retries.delete(key);
      } catch (error) {
        failure = this.#fail(key, error instanceof Error ? error : new Error(String(error)));
      }
      this.#options.onResult?.(key, failure);
    }
    this.#running = undefined;
    if (this.#waiting.size > 0 && !this.#stopped) this.#running = this.#drain();
  }

  #fail(key: string, error: Error): Failure {
    const { retryDelayMs = 200, retryDelayMsMax = 10_000, random } = this.#options;
    const before = this.#retries.get(key);
    const backoff = before?.backoff ??
      new Backoff({ delayMsMin: retryDelayMs, delayMsMax: retryDelayMsMax, ...(random && { random }) });
    const now = this.#clock.nowMs(), delay = backoff.nextMs();
    const failure = {
      error,
      attempts: backoff.attempts,
      sinceMs: before?.failure.sinceMs ?? now,
      nextRetryMs: now + delay,
    };
    const retry: Retry = { backoff, failure };
    this.#retries.set(key, retry);
    if (!this.#stopped && !this.#waiting.has(key)) void this.#pause(key, retry, delay);
    return failure;
  }

  async #pause(key: string, retry: Retry, ms: number): Promise<void> {
    const pause = retry.pause = new AbortController();
    await this.#clock.sleep(ms, pause.signal);
    if (!pause.signal.aborted) this.add(key);
  }
}
