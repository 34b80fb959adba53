/** Failures of kernel objects as state, and when each is tried again. @module */
import { Backoff, type Clock, errorText } from "@weir/common";
import type { ObjectError } from "@weir/proto/common";

interface Failure {
  error: ObjectError;
  backoff: Backoff;
  stop: AbortController;
}

/** Work by key that is tried again until it succeeds or is cancelled. */
export class Retries {
  readonly #failures = new Map<string, Failure>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `work`; a failure is kept as state and tried again later. @returns the failure, undefined after a success */
  run(kind: string, name: string, work: () => void): ObjectError | undefined {
    const key = `${kind} ${name}`;
    const before = this.#failures.get(key);
    before?.stop.abort();
    try {
      work();
      this.#failures.delete(key);
      return undefined;
    } catch (error) {
      const backoff = before?.backoff ?? new Backoff({ delayMsMin: 500, delayMsMax: 30_000 });
      const delayMs = backoff.nextMs();
      const nowS = this.#clock.nowMs() / 1000;
      const failure: Failure = {
        backoff,
        stop: new AbortController(),
        error: {
          kind: key,
          error: errorText(error),
          sinceUnixS: before?.error.sinceUnixS ?? nowS,
          nextRetryUnixS: nowS + delayMs / 1000,
          attempts: backoff.attempts,
        },
      };
      this.#failures.set(key, failure);
      const { signal } = failure.stop;
      this.#clock.sleep(delayMs, signal).then(() => {
        if (!signal.aborted) this.run(kind, name, work);
      });
      return failure.error;
    }
  }

  /** The object is no longer wanted. */
  cancel(kind: string, name: string): void {
    const key = `${kind} ${name}`;
    this.#failures.get(key)?.stop.abort();
    this.#failures.delete(key);
  }

  get(kind: string, name: string): ObjectError | undefined {
    return this.#failures.get(`${kind} ${name}`)?.error;
  }
  list(): ObjectError[] {
    return [...this.#failures.values()].map((failure) => failure.error);
  }
  stop(): void {
    for (const failure of this.#failures.values()) failure.stop.abort();
  }
}
