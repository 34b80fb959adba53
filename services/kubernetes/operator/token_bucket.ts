/** How many requests may be made. @module */

/** Gives `ratePerS` tokens each second, and keeps up to `burst` of them. */
export class TokenBucket {
  #tokens: number;
  #lastMs: number;

  constructor(readonly ratePerS: number, readonly burst: number, nowMs: number) {
    this.#tokens = burst;
    this.#lastMs = nowMs;
  }

  /** Takes one token; answers 0, or after how many milliseconds there is one, when none is there. */
  take(nowMs: number): number {
    const passedMs = Math.max(0, nowMs - this.#lastMs);
    this.#tokens = Math.min(this.burst, this.#tokens + (passedMs / 1000) * this.ratePerS);
    this.#lastMs = nowMs;
    if (this.#tokens < 1) return Math.max(1, Math.ceil(((1 - this.#tokens) / this.ratePerS) * 1000));
    this.#tokens--;
    return 0;
  }
}
