/**
 * Objects that an allocator's list of another epoch does not have: its database was lost or is an older copy, and nobody may
 * have deleted them. They count for a grace, as nodes keep the addresses of such objects too: without an identity its deny
 * entries would be gone while its traffic still carries the number.
 * @module
 */
import type { Clock } from "@weir/common";

/** Nodes hold lost addresses for 60 s (endpoint-manager, held_rows.ts); policy must know their identities for longer. */
export const LOST_GRACE_MS = 150_000;

/** See {@link LOST_GRACE_MS}: what goes on being known, by key, until its grace is over or it is back. */
export class LostObjects<K> {
  readonly #clock: Clock;
  readonly #graceMs: number;
  /** In the order in which they are due: all have the same grace. */
  readonly #due = new Map<K, { dueMs: number; forget: () => void }>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(clock: Clock, graceMs: number = LOST_GRACE_MS) {
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  /** How many are kept. */
  get size(): number {
    return this.#due.size;
  }

  /** Keeps an object; `forget` is called when its grace is over. */
  keep(key: K, forget: () => void): void {
    this.#due.delete(key);
    this.#due.set(key, { dueMs: this.#clock.monotonicMs() + this.#graceMs, forget });
    this.#running ??= this.#run();
  }

  /** It is back, or was deleted in order. Repeatable. */
  found(key: K): void {
    this.#due.delete(key);
  }

  /** Ends; what is kept stays as it is. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let next = first(this.#due); next !== undefined; next = first(this.#due)) {
      const [key, { dueMs, forget }] = next, waitMs = dueMs - this.#clock.monotonicMs();
      if (waitMs > 0) {
        await this.#clock.sleep(waitMs, this.#stop.signal);
        if (this.#stop.signal.aborted) return;
        continue;
      }
      this.#due.delete(key);
      forget();
    }
    this.#running = undefined;
  }
}

function first<K, V>(map: ReadonlyMap<K, V>): [K, V] | undefined {
  for (const entry of map) return entry;
  return undefined;
}
