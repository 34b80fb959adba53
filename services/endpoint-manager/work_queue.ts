/**
 * One task at a time, by key: a key that is added again while it waits runs once; a key whose task failed runs again
 * after a growing pause, without holding up the others.
 * @module
 */

/** What a failing key is doing. */
export interface Failure {
  error: Error;
  attempts: number;
  sinceMs: number;
  nextRetryMs: number;
}

/** Options of {@link WorkQueue}. */
export interface WorkQueueOptions {
  /** Does the work of one key. */
  work: (key: string) => Promise<void>;
  /** Called after each run with the failure, or undefined when it went well. */
  onResult?: (key: string, failure: Failure | undefined) => void;
  /** Pause after the first failure, doubled up to the maximum. Defaults 200 and 30,000. */
  retryDelayMs?: number;
  retryDelayMsMax?: number;
  /** Milliseconds, default `Date.now`. */
  now?: () => number;
}

/** See the module comment. */
export class WorkQueue {
  private readonly waiting = new Set<string>();
  private readonly failures = new Map<string, Failure>();
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();
  private running: Promise<void> | undefined;
  private stopped = false;

  constructor(private readonly options: WorkQueueOptions) {}

  /** Runs the key soon; at once if it was pausing after a failure. */
  add(key: string): void {
    if (this.stopped) return;
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    this.waiting.add(key);
    this.running ??= this.drain();
  }

  /** Keys that wait, run or pause after a failure. */
  get pending(): number {
    return this.waiting.size + this.timers.size + (this.running ? 1 : 0);
  }

  failureOf(key: string): Failure | undefined {
    return this.failures.get(key);
  }

  /** Resolves when nothing waits or runs; keys that pause after a failure do not count. */
  async idle(): Promise<void> {
    while (this.running) await this.running;
  }

  /** Forgets a key's failure and pause. */
  forget(key: string): void {
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    this.failures.delete(key);
    this.waiting.delete(key);
  }

  /** Ends after the task that runs now. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.waiting.clear();
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    await this.running;
  }

  private async drain(): Promise<void> {
    // Let the caller's synchronous work finish, so that several adds become one run.
    await Promise.resolve();
    for (const key of this.waiting) {
      this.waiting.delete(key);
      try {
        await this.options.work(key);
        this.failures.delete(key);
        this.options.onResult?.(key, undefined);
      } catch (error) {
        this.options.onResult?.(key, this.fail(key, error as Error));
      }
    }
    this.running = undefined;
    if (this.waiting.size > 0 && !this.stopped) this.running = this.drain();
  }

  private fail(key: string, error: Error): Failure {
    const { retryDelayMs = 200, retryDelayMsMax = 30_000, now = Date.now } = this.options;
    const before = this.failures.get(key);
    const attempts = (before?.attempts ?? 0) + 1;
    const delay = Math.min(retryDelayMs * 2 ** (attempts - 1), retryDelayMsMax);
    const failure = { error, attempts, sinceMs: before?.sinceMs ?? now(), nextRetryMs: now() + delay };
    this.failures.set(key, failure);
    if (!this.stopped && !this.waiting.has(key)) {
      this.timers.set(key, setTimeout(() => this.add(key), delay));
    }
    return failure;
  }
}
