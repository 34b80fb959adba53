/**
 * A table in memory that can be listed and watched. One writer; each change gets the next revision and stays in a
 * bounded history. A watcher is only a position in that history, so a slow one costs nothing: when its position falls off
 * the end, it has lost its stream and lists anew.
 *
 *     history  [ 41 | 42 | 43 | 44 | 45 ]      revision = 45, oldestRevision = 40
 *                          ^ a watcher at 43 still gets 44 and 45; one at 39 is told that it is gone
 *
 * A burst may go beyond `historyMax` while a watcher is still on its way through it, up to `historyBurstMax`.
 *
 * @module
 */
import { type Change, ChangeHistory, type KeysOf } from "./change_history.ts";
import { EpochLine, type Position, randomEpoch } from "./epoch.ts";
import { ProblemError } from "./problem.ts";
import type { TableObserver, TablePage, Watchable } from "./watchable.ts";

/** Changes that a table holds for watchers unless it is told otherwise. */
export const TABLE_HISTORY_MAX = 4096;
/** Changes that it holds while watchers are on their way through them. */
export const TABLE_HISTORY_BURST_MAX = 65_536;
/** Objects that a table takes unless it is told otherwise. */
export const TABLE_ENTRIES_MAX = 200_000;

/** Options of {@link WatchedTable}. */
export interface WatchedTableOptions {
  /** Name of the collection, for messages. */
  name: string;
  /** Default {@link TABLE_HISTORY_MAX}. */
  historyMax?: number;
  /** Default {@link TABLE_HISTORY_BURST_MAX}, at least `historyMax`. */
  historyBurstMax?: number;
  /** Default {@link TABLE_ENTRIES_MAX}. */
  entriesMax?: number;
  /** Revision of the empty table; by default from the wall clock, so that two instances seldom share one. */
  revision?: number;
  /** Default: random, so that a position of another instance is told apart. */
  epoch?: string;
}

/** A living object: its newest PUT, and its place among the others. */
interface Entry<T> {
  put: Change<T>;
  readonly place: number;
}

/** A table in memory that can be listed and watched. */
export class WatchedTable<T> implements Watchable<T> {
  readonly name: string;
  pending = false;
  readonly historyMax: number;
  readonly historyBurstMax: number;
  readonly entriesMax: number;
  /** In the order of the objects' first appearance. */
  #entries = new Map<string, Entry<T>>();
  #places = 0;
  #order: string;
  readonly #history = new ChangeHistory<T>();
  #revision: number;
  #oldest: number;
  #epochs: EpochLine;
  #waiting = new Set<() => void>();
  #listeners = new Set<(change: Change<T>) => void>();
  #resetListeners = new Set<() => void>();
  #observers = new Set<TableObserver<T>>();

  constructor(options: WatchedTableOptions) {
    this.name = options.name;
    this.historyMax = options.historyMax ?? TABLE_HISTORY_MAX;
    this.historyBurstMax = Math.max(this.historyMax, options.historyBurstMax ?? TABLE_HISTORY_BURST_MAX);
    this.entriesMax = options.entriesMax ?? TABLE_ENTRIES_MAX;
    this.#revision = this.#oldest = options.revision ?? Date.now() * 1000;
    this.#epochs = new EpochLine([{ epoch: options.epoch ?? randomEpoch(), fromRevision: 0 }]);
    this.#order = randomEpoch();
  }

  get revision(): number {
    return this.#revision;
  }
  get epoch(): string {
    return this.#epochs.newest;
  }
  get oldestRevision(): number {
    return this.#oldest;
  }
  /** Number of objects. */
  get size(): number {
    return this.#entries.size;
  }

  get order(): string {
    return this.#order;
  }

  get(name: string): T | undefined {
    return this.#entries.get(name)?.put.value;
  }
  has(name: string): boolean {
    return this.#entries.has(name);
  }
  /** All objects, in order of their first appearance. */
  list(): T[] {
    return Array.from(this.#entries.values(), ({ put }) => put.value!);
  }
  /** All names with their objects. */
  entries(): [string, T][] {
    return Array.from(this.#entries, ([name, { put }]) => [name, put.value!]);
  }
  puts(): Change<T>[] {
    return Array.from(this.#entries.values(), ({ put }) => put);
  }
  putOf(name: string): Change<T> | undefined {
    return this.#entries.get(name)?.put;
  }
  page(from: number, max: number, filter?: (value: T) => boolean): TablePage<T> {
    const puts: Change<T>[] = [];
    for (const { put, place } of this.#entries.values()) {
      if (place < from || filter?.(put.value!) === false) continue;
      if (puts.length >= max) return { puts, next: place };
      puts.push(put);
    }
    return { puts };
  }

  /**
   * Puts the whole object. `revision` is given only by a writer that mirrors another table, which has its own limit; it
   * must grow, else it is taken as "the next".
   * @throws {ProblemError} TABLE_FULL: a new object beyond `entriesMax`
   */
  put(name: string, value: T, revision?: number): Change<T> {
    const entry = this.#entries.get(name), previous = entry?.put.value;
    if (entry === undefined && revision === undefined && this.#entries.size >= this.entriesMax) {
      throw tableFull(this, name, this.#entries.size);
    }
    const change: Change<T> = { type: "PUT", revision: this.#next(revision), name, value, previous };
    if (entry === undefined) this.#entries.set(name, { put: change, place: this.#places++ });
    else entry.put = change;
    return this.#record(change);
  }

  /** Deletes; undefined (and no revision) when there was no such object. */
  delete(name: string, revision?: number): Change<T> | undefined {
    const previous = this.#entries.get(name)?.put.value;
    if (previous === undefined) return undefined;
    this.#entries.delete(name);
    return this.#record({ type: "DELETED", revision: this.#next(revision), name, previous });
  }

  /**
   * Replaces everything with `entries` at `revision`, for a mirror that lost its place in what it mirrors. `history` is
   * what is known of the changes before, oldest first, and `oldest` the revision after which it is complete.
   */
  reset(
    entries: Iterable<Change<T>>,
    revision: number,
    more: { history?: readonly Change<T>[]; oldest?: number; epochs?: EpochLine } = {},
  ): void {
    this.#order = randomEpoch();
    this.#entries = new Map(Array.from(entries, (put, place) => [put.name, { put, place }]));
    this.#places = this.#entries.size;
    this.#history.clear();
    for (const change of more.history ?? []) this.#history.push(change);
    this.#revision = revision;
    this.#oldest = more.oldest ?? revision;
    if (more.epochs !== undefined) this.#epochs = more.epochs;
    this.#trim();
    for (const observer of this.#observers) observer.reset();
    for (const listener of this.#resetListeners) listener();
    this.#wake();
  }

  /**
   * Moves to `revision` without a change of this table: another table with the same counter has changed. Wakes those who
   * wait for the counter, no watcher.
   */
  advance(revision: number): void {
    if (revision <= this.#revision) return;
    this.#revision = revision;
    this.#wake();
  }

  /** The epochs of the counter that this table mirrors. Watchers hear a new one at once. */
  setEpochs(epochs: EpochLine): void {
    const before = this.epoch;
    this.#epochs = epochs;
    if (epochs.newest !== before) this.announce();
  }

  /** Sends SYNCED to every watcher at once, also to those whose objects did not change. */
  announce(): void {
    for (const observer of this.#observers) observer.announced();
  }

  /** True when the position is one of this table's history, whether its changes are still held or not. */
  remembers(position: Position): boolean {
    return this.#epochs.includes(position);
  }

  holds(position: { revision: number; epoch?: string }): boolean {
    const { revision, epoch } = position;
    if (revision < this.#oldest || revision > this.#revision) return false;
    return epoch === undefined || epoch === "" || this.#epochs.includes({ epoch, revision });
  }

  changesSince(revision: number, max = 256): Change<T>[] | undefined {
    return this.holds({ revision }) ? this.#history.since(revision, max) : undefined;
  }

  changesByKeys(
    revision: number,
    index: string,
    keys: Iterable<string>,
    max = 256,
  ): Change<T>[] | undefined {
    return this.holds({ revision }) ? this.#history.sinceByKeys(revision, index, keys, max) : undefined;
  }

  countSince(revision: number): number {
    return this.#history.countSince(revision);
  }

  index(name: string, keysOf: KeysOf<T>): void {
    this.#history.index(name, keysOf);
  }

  /** Resolves when the table is beyond `revision` (or below it: it was reset), or when `signal` aborts. */
  waitBeyond(revision: number, signal?: AbortSignal): Promise<void> {
    if (this.#revision !== revision || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal?.addEventListener("abort", done);
    });
  }

  /** Calls `listener` within each later put and delete. Answers the function that ends it. */
  onChange(listener: (change: Change<T>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls `listener` after each later {@link reset}. Answers the function that ends it. */
  onReset(listener: () => void): () => void {
    this.#resetListeners.add(listener);
    return () => this.#resetListeners.delete(listener);
  }

  observe(observer: TableObserver<T>): () => void {
    this.#observers.add(observer);
    return () => this.#observers.delete(observer);
  }

  trim(): void {
    this.#trim();
  }

  #next(revision: number | undefined): number {
    return revision !== undefined && revision > this.#revision ? revision : this.#revision + 1;
  }

  #record(change: Change<T>): Change<T> {
    this.#revision = change.revision;
    this.#history.push(change);
    for (const observer of this.#observers) observer.changed(change);
    this.#trim();
    for (const listener of this.#listeners) listener(change);
    this.#wake();
    return change;
  }

  #trim(): void {
    let behind: boolean | undefined;
    while (this.#history.length > this.historyMax) {
      behind ??= [...this.#observers].some((observer) => observer.behind);
      if (behind && this.#history.length <= this.historyBurstMax) return;
      const dropped = this.#history.shift();
      this.#oldest = dropped.revision;
      // The entry of a living object is its newest PUT: it must not keep what was there before.
      (dropped as { previous?: T }).previous = undefined;
    }
  }

  #wake(): void {
    if (this.#waiting.size === 0) return;
    for (const done of [...this.#waiting]) done();
  }
}

/** TABLE_FULL, status 507. */
export function tableFull(
  table: { name: string; entriesMax: number },
  name: string,
  size: number,
): ProblemError {
  return new ProblemError("TABLE_FULL", {
    status: 507,
    detail: `Cannot add ${JSON.stringify(name)} to ${table.name}: it holds ${size} of ${table.entriesMax}`,
    found: size,
    expected: `fewer than ${table.entriesMax}`,
    action: "Delete objects that are no longer needed",
  });
}
