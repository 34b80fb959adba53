/**
 * Rows of others that are gone because a database was lost, held for a grace.
 *
 * A control plane that lost its database, or was given an older one, comes back with a new epoch and an incomplete list.
 * Nobody deleted what is missing: its owner (another node, whoever applied the service) will write it again within
 * seconds, and taking it from the kernel meanwhile would cut traffic that works. So a row that is missing in a list of
 * another epoch stays as it was, until
 *
 *     its owner writes it again        the new one counts, and nothing was interrupted
 *     the grace is over                it is deleted: its owner is gone too
 *     a new row contradicts it         it is deleted at once: its number or address is somebody else's now
 *     its reader lets it go            it is deleted at once: what gave it its meaning was made without it
 *
 * A row that somebody deleted, in the same epoch, goes at once.
 * @module
 */
import type { Clock } from "@weir/common";

/** Default grace in milliseconds. */
export const HOLD_MS = 60_000;

/** Options of {@link HeldRows}. */
export interface HeldRowsOptions<T> {
  clock: Clock;
  graceMs?: number;
  /** Told of what counts, as a listener of a mirror is. */
  onChange: (name: string, value: T | undefined, previous: T | undefined) => void;
  /** Told of each change of the number of rows that are held, with when the last of them goes (`nowMs`). */
  onHeld?: (count: number, untilMs: number) => void;
  /** What a row lays claim to, e.g. a number. Rows with different keys never contradict each other. */
  keyOf?: (row: T) => string;
  /** Whether a held row cannot be true beside a new one of the same key. Default: it cannot. */
  contradicts?: (held: T, fresh: T) => boolean;
}

interface Held<T> {
  row: T;
  untilMs: number;
}

/** Stands between a mirror and its reader. */
export class HeldRows<T> implements Disposable {
  readonly #options: HeldRowsOptions<T>;
  readonly #held = new Map<string, Held<T>>();
  /** Names of held rows by key. */
  readonly #byKey = new Map<string, Set<string>>();
  readonly #stop = new AbortController();
  #waiting = false;
  #untilMs = 0;

  constructor(options: HeldRowsOptions<T>) {
    this.#options = options;
  }

  /** Rows that are held. */
  get size(): number {
    return this.#held.size;
  }

  /** To be given each change of the mirror. */
  change(name: string, value: T | undefined, previous: T | undefined, lost = false): void {
    const held = this.#held.get(name);
    if (lost && previous !== undefined) {
      if (!held) this.#hold(name, previous);
      return;
    }
    if (held) this.#let(name, held.row);
    this.#options.onChange(name, value, held?.row ?? previous);
    if (value !== undefined && this.#held.size > 0) this.#dropContradicted(value);
  }

  /** What is held has no meaning any more: it goes now. */
  release(): void {
    for (const [name, { row }] of [...this.#held]) this.#drop(name, row);
  }

  /** Ends the wait; what is held stays as it is. */
  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  #hold(name: string, row: T): void {
    const { clock, graceMs = HOLD_MS, keyOf } = this.#options;
    this.#untilMs = clock.nowMs() + graceMs;
    this.#held.set(name, { row, untilMs: this.#untilMs });
    if (keyOf) {
      const key = keyOf(row), names = this.#byKey.get(key) ?? new Set();
      names.add(name);
      this.#byKey.set(key, names);
    }
    this.#tell();
    if (!this.#waiting) void this.#wait();
  }

  #let(name: string, row: T): void {
    this.#held.delete(name);
    const key = this.#options.keyOf?.(row);
    if (key !== undefined) {
      const names = this.#byKey.get(key);
      names?.delete(name);
      if (names?.size === 0) this.#byKey.delete(key);
    }
    this.#tell();
  }

  #drop(name: string, row: T): void {
    this.#let(name, row);
    this.#options.onChange(name, undefined, row);
  }

  #dropContradicted(fresh: T): void {
    const { keyOf, contradicts = () => true } = this.#options;
    const names = keyOf && this.#byKey.get(keyOf(fresh));
    for (const name of [...names ?? []]) {
      const held = this.#held.get(name);
      if (held && contradicts(held.row, fresh)) this.#drop(name, held.row);
    }
  }

  #tell(): void {
    this.#options.onHeld?.(this.#held.size, this.#untilMs);
  }

  async #wait(): Promise<void> {
    this.#waiting = true;
    const { clock } = this.#options;
    while (this.#held.size > 0 && !this.#stop.signal.aborted) {
      const first = this.#held.values().next().value!;
      await clock.sleep(Math.max(1, first.untilMs - clock.nowMs()), this.#stop.signal);
      if (this.#stop.signal.aborted) break;
      const now = clock.nowMs();
      for (const [name, { row, untilMs }] of [...this.#held]) {
        if (untilMs > now) break;
        this.#drop(name, row);
      }
    }
    this.#waiting = false;
  }
}
