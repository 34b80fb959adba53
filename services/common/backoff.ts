/** Retry delays that grow, with jitter so that many clients do not come back in one moment. @module */
import { type Clock, systemClock } from "./clock.ts";

/** Bounds of the delays; all in milliseconds. */
export interface BackoffOptions {
  /** First delay, default 100. */
  delayMsMin?: number;
  /** No delay is longer, default 10 000. */
  delayMsMax?: number;
  /** Growth per attempt, default 2. */
  factor?: number;
  /** Part of each delay that is random, 0 to 1, default 0.3. */
  jitter?: number;
  /** Randomness in [0,1), default Math.random. */
  random?: () => number;
}

/** Counts attempts and says how long to wait before the next one. */
export class Backoff {
  #attempts = 0;
  readonly #options: Required<BackoffOptions>;

  constructor(options: BackoffOptions = {}) {
    this.#options = {
      delayMsMin: 100,
      delayMsMax: 10_000,
      factor: 2,
      jitter: 0.3,
      random: Math.random,
      ...options,
    };
  }

  /** Attempts since the last reset. */
  get attempts(): number {
    return this.#attempts;
  }

  /** The delay before the next attempt; each call counts as one failed attempt. */
  nextMs(): number {
    const { delayMsMin, delayMsMax, factor, jitter, random } = this.#options;
    const full = Math.min(delayMsMax, delayMsMin * Math.pow(factor, Math.min(this.#attempts, 64)));
    this.#attempts++;
    return full * (1 - jitter * random());
  }

  /** To be called after a success. */
  reset(): void {
    this.#attempts = 0;
  }
}

/** Options of {@link retry}. */
export interface RetryOptions extends BackoffOptions {
  clock?: Clock;
  /** Ends the retries; the last error is thrown. */
  signal?: AbortSignal;
  /** Gives up after this many attempts, default: never. */
  attemptsMax?: number;
  /** Called after each failure with the delay to come. */
  onError?: (error: unknown, delayMs: number, attempts: number) => void;
  /** False ends the retries at once, default: every error is retried. */
  isRetryable?: (error: unknown) => boolean;
}

/** Runs `action` until it succeeds; rejects with its last error when it is not retried any more. */
export async function retry<T>(action: () => Promise<T> | T, options: RetryOptions = {}): Promise<T> {
  const clock = options.clock ?? systemClock;
  const backoff = new Backoff(options);
  while (true) {
    try {
      return await action();
    } catch (error) {
      if (options.isRetryable?.(error) === false) throw error;
      const delayMs = backoff.nextMs();
      if (options.signal?.aborted || backoff.attempts >= (options.attemptsMax ?? Infinity)) throw error;
      options.onError?.(error, delayMs, backoff.attempts);
      await clock.sleep(delayMs, options.signal);
      if (options.signal?.aborted) throw error;
    }
  }
}
