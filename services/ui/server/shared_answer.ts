/** An answer that all who ask within a moment share, so that many browsers ask a service once. @module */
import type { Clock } from "@weir/common";

/** How it is made. */
export interface SharedOptions<T> {
  /** How long an answer is given again, from its end. */
  readonly ms: number;
  readonly clock: Clock;
  readonly ask: () => Promise<T>;
}

/** The answer. Errors are given to all who wait, and kept for nobody. */
export class Shared<T> {
  readonly #options: SharedOptions<T>;
  #running: Promise<T> | undefined;
  #last: { value: T; atMs: number } | undefined;

  constructor(options: SharedOptions<T>) {
    this.#options = options;
  }

  /** @throws what `ask` rejects with */
  async get(): Promise<T> {
    const { ms, clock, ask } = this.#options;
    if (this.#last !== undefined && clock.monotonicMs() - this.#last.atMs < ms) return this.#last.value;
    this.#running ??= ask().then((value) => {
      this.#last = { value, atMs: clock.monotonicMs() };
      return value;
    }).finally(() => this.#running = undefined);
    return await this.#running;
  }
}
