/**
 * The newest changes of a table, oldest first, and the same by key: who waits for one name finds its changes without
 * reading those of all others.
 *
 *     changes        41 a   42 b   43 a   44 c          since(42) = 43 a, 44 c
 *     index "name"   a: 41 43      b: 42      c: 44     since(40, name: a) = 41 a, 43 a
 *
 * @module
 */

/** One change of one object. */
export interface Change<T> {
  readonly type: "PUT" | "DELETED";
  readonly revision: number;
  readonly name: string;
  /** The whole object after the change; undefined when it was deleted. */
  readonly value?: T;
  /** The object before the change; undefined when it is new, or when `previousUnknown`. */
  readonly previous?: T;
  /** There may have been an object before, which is no longer known: the change was read from a log. */
  readonly previousUnknown?: boolean;
}

/** Keys of a change in one index: of the object before and after. */
export type KeysOf<T> = (change: Change<T>) => Iterable<string>;

/** The newest changes of a table, oldest first, and the same by key. */
export class ChangeHistory<T> {
  #changes: Change<T>[] = [];
  #start = 0;
  #indexes = new Map<string, { keysOf: KeysOf<T>; chains: Map<string, Change<T>[]> }>();

  /** Number of changes held. */
  get length(): number {
    return this.#changes.length - this.#start;
  }

  push(change: Change<T>): void {
    this.#changes.push(change);
    for (const { keysOf, chains } of this.#indexes.values()) append(chains, keysOf(change), change);
  }

  /** Drops the oldest change and answers it. Not to be called when empty. */
  shift(): Change<T> {
    const change = this.#changes[this.#start];
    this.#changes[this.#start++] = undefined as unknown as Change<T>;
    // Dropping from the front one by one would copy the whole array each time.
    if (this.#start >= 1024 && this.#start * 2 >= this.#changes.length) {
      this.#changes = this.#changes.slice(this.#start);
      this.#start = 0;
    }
    for (const { keysOf, chains } of this.#indexes.values()) {
      for (const key of new Set(keysOf(change))) {
        const chain = chains.get(key)!;
        chain.shift();
        if (chain.length === 0) chains.delete(key);
      }
    }
    return change;
  }

  clear(): void {
    this.#changes = [];
    this.#start = 0;
    for (const { chains } of this.#indexes.values()) chains.clear();
  }

  /** Keeps an index from now on; repeatable. */
  index(name: string, keysOf: KeysOf<T>): void {
    if (this.#indexes.has(name)) return;
    const chains = new Map<string, Change<T>[]>();
    for (let i = this.#start; i < this.#changes.length; i++) {
      append(chains, keysOf(this.#changes[i]), this.#changes[i]);
    }
    this.#indexes.set(name, { keysOf, chains });
  }

  /** Up to `max` changes after `revision`, oldest first. */
  since(revision: number, max: number): Change<T>[] {
    const from = firstAfter(this.#changes, this.#start, revision);
    return this.#changes.slice(from, Math.min(this.#changes.length, from + max));
  }

  /** How many changes there are after `revision`. */
  countSince(revision: number): number {
    return this.#changes.length - firstAfter(this.#changes, this.#start, revision);
  }

  /** Like {@link since}, of those with one of `keys` in an index that is kept. */
  sinceByKeys(revision: number, index: string, keys: Iterable<string>, max: number): Change<T>[] {
    const { chains } = this.#indexes.get(index)!;
    const found = new Set<Change<T>>();
    for (const key of keys) {
      const chain = chains.get(key);
      if (chain === undefined) continue;
      const from = firstAfter(chain, 0, revision);
      for (let i = from; i < chain.length; i++) found.add(chain[i]);
    }
    return [...found].sort((a, b) => a.revision - b.revision).slice(0, max);
  }
}

function append<T>(chains: Map<string, Change<T>[]>, keys: Iterable<string>, change: Change<T>): void {
  for (const key of new Set(keys)) {
    const chain = chains.get(key);
    if (chain === undefined) chains.set(key, [change]);
    else chain.push(change);
  }
}

function firstAfter<T>(changes: readonly Change<T>[], start: number, revision: number): number {
  let low = start, high = changes.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (changes[middle].revision <= revision) low = middle + 1;
    else high = middle;
  }
  return low;
}
