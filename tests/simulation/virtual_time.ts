/** Time that passes only when the simulation says so, for many processes of which some stand still. @module */
import { setImmediate } from "node:timers";
import type { Clock } from "@weir/common";

/** What time needs to know of a process. */
export interface Timed {
  /** It stands still, as after SIGSTOP: whatever it waits for comes when it goes on. */
  frozen: boolean;
  /** It is gone: nothing of it ever goes on. */
  dead: boolean;
  /** How far its wall clock is ahead, milliseconds. */
  aheadMs?: number;
}

interface Sleeper {
  readonly atMs: number;
  readonly owner: Timed;
  readonly wake: () => void;
}

/** Turns of the event loop in which nothing happened until all is taken to be done. */
const QUIET_TURNS = 3;
/** A world that does not come to rest within so many turns never will. */
const TURNS_MAX = 20_000;

/** See the top of the file. */
export class VirtualTime {
  /** Told after each turn of the event loop. */
  onTurn: (() => void) | undefined;
  #nowMs = 1_700_000_000_000;
  #activity = 0;
  #sleepers: Sleeper[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Something happened from which more may follow without time passing. */
  touch(): void {
    this.#activity++;
  }

  /** The clock of a process. */
  clock(owner: Timed): Clock {
    return {
      nowMs: () => this.#nowMs + (owner.aheadMs ?? 0),
      monotonicMs: () => this.#nowMs,
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          this.touch();
          if (signal?.aborted) return resolve();
          const done = () => {
            signal?.removeEventListener("abort", done);
            this.touch();
            const index = this.#sleepers.indexOf(sleeper);
            if (index >= 0) this.#sleepers.splice(index, 1);
            resolve();
          };
          const sleeper = { atMs: this.#nowMs + Math.max(0, ms), owner, wake: done };
          signal?.addEventListener("abort", done, { once: true });
          this.#sleepers.push(sleeper);
        }),
    };
  }

  /** Everything that can be done without time passing is done. @throws {Error} when it never ends */
  async settle(): Promise<void> {
    for (let quiet = 0, turn = 0; quiet < QUIET_TURNS; turn++) {
      if (turn > TURNS_MAX) throw new Error("The simulated world does not come to rest");
      const before = this.#activity;
      await new Promise<void>((resolve) => void setImmediate(resolve));
      this.onTurn?.();
      quiet = before === this.#activity ? quiet + 1 : 0;
    }
  }

  /** Time passes; who is due goes on, the earliest first, and what follows from it is done before time goes on. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await this.settle();
    while (true) {
      const due = this.#due(endMs);
      if (due.length === 0) break;
      this.#nowMs = Math.max(this.#nowMs, due[0].atMs);
      for (const { wake } of due) wake();
      await this.settle();
    }
    this.#nowMs = endMs;
  }

  /** Those who are due first, in the order in which they began to wait. */
  #due(endMs: number): Sleeper[] {
    this.#sleepers = this.#sleepers.filter(({ owner }) => !owner.dead);
    let firstMs = Infinity;
    for (const { atMs, owner } of this.#sleepers) {
      if (!owner.frozen) firstMs = Math.min(firstMs, atMs);
    }
    if (firstMs > endMs) return [];
    return this.#sleepers.filter(({ atMs, owner }) => !owner.frozen && atMs <= firstMs);
  }
}
