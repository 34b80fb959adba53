/** A clock that tests move by hand. @module */
import type { Clock } from "../clock.ts";

/** Starts at `startMs`; `advance(ms)` moves it and wakes the sleepers that are due, earliest first. */
export class FakeClock implements Clock {
  #now: number;
  #aheadMs = 0;
  #sleepers: { atMs: number; wake: () => void }[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#now = startMs;
  }

  nowMs(): number {
    return this.#now + this.#aheadMs;
  }

  monotonicMs(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted || ms <= 0) return resolve();
      const sleeper = { atMs: this.#now + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter((s) => s !== sleeper);
        resolve();
      });
    });
  }

  /** Who sleeps. */
  get sleepers(): number {
    return this.#sleepers.length;
  }

  /** The wall clock alone jumps; nobody wakes. */
  jump(ms: number): void {
    this.#aheadMs += ms;
  }

  /** Moves the clock by `ms`. Code that a woken sleeper runs sees the time at which it was due. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#now + ms;
    while (true) {
      const due = this.#sleepers.filter((s) => s.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#sleepers = this.#sleepers.filter((s) => s !== due);
      this.#now = due.atMs;
      due.wake();
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    }
    this.#now = endMs;
  }
}
