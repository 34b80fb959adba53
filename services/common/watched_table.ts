/**
 * A table in memory that can be listed and watched. One writer; each change gets the next revision and stays in a
 * bounded history. A watcher is only a position in that history, so a slow one costs nothing: when its position falls off
 * the end, it has lost its stream and lists anew.
 *
 *     history  [ 41 | 42 | 43 | 44 | 45 ]      revision = 45, oldestRevision = 40
 *                          ^ a watcher at 43 still gets 44 and 45; one at 39 is told that it is gone
 *
 * @module
 */
import { ProblemError } from "./problem.ts";

/** Changes that a table holds for watchers unless it is told otherwise. */
export const TABLE_HISTORY_MAX = 4096;
/** Objects that a table takes unless it is told otherwise. */
export const TABLE_ENTRIES_MAX = 200_000;

/** One change of one object. */
export interface Change<T> {
  readonly type: "PUT" | "DELETED";
  readonly revision: number;
  readonly name: string;
  /** The whole object after the change; undefined when it was deleted. */
  readonly value?: T;
  /** The object before the change; undefined when it is new. */
  readonly previous?: T;
}

/** Options of {@link WatchedTable}. */
export interface WatchedTableOptions {
  /** Name of the collection, for messages. */
  name: string;
  /** Default {@link TABLE_HISTORY_MAX}. */
  historyMax?: number;
  /** Default {@link TABLE_ENTRIES_MAX}. */
  entriesMax?: number;
  /**
   * Revision of the empty table. The default is taken from the wall clock, so that a revision of an earlier process is
   * always older than what this one holds and its watcher is told to list anew.
   */
  revision?: number;
}

/** See the module comment. */
export class WatchedTable<T> {
  readonly name: string;
  /**
   * True while what the table mirrors was not read yet: its emptiness means nothing then, so collections answer
   * NOT_READY instead of an empty list that readers would take for "everything is gone".
   */
  pending = false;
  readonly historyMax: number;
  readonly entriesMax: number;
  #entries = new Map<string, T>();
  #history: Change<T>[] = [];
  #historyStart = 0;
  #revision: number;
  #oldest: number;
  #waiting = new Set<() => void>();
  #listeners = new Set<(change: Change<T>) => void>();

  constructor(options: WatchedTableOptions) {
    this.name = options.name;
    this.historyMax = options.historyMax ?? TABLE_HISTORY_MAX;
    this.entriesMax = options.entriesMax ?? TABLE_ENTRIES_MAX;
    this.#revision = this.#oldest = options.revision ?? Date.now() * 1000;
  }

  /** Revision of the newest change. */
  get revision(): number {
    return this.#revision;
  }
  /** The oldest revision after which every change is still held. */
  get oldestRevision(): number {
    return this.#oldest;
  }
  /** Number of objects. */
  get size(): number {
    return this.#entries.size;
  }

  get(name: string): T | undefined {
    return this.#entries.get(name);
  }
  has(name: string): boolean {
    return this.#entries.has(name);
  }
  /** All objects, in order of their first appearance. */
  list(): T[] {
    return [...this.#entries.values()];
  }
  /** All names with their objects. */
  entries(): [string, T][] {
    return [...this.#entries];
  }

  /**
   * Puts the whole object. `revision` is given only by a writer that mirrors another table; it must grow, else it is
   * taken as "the next".
   * @throws {ProblemError} TABLE_FULL: a new object beyond `entriesMax`
   */
  put(name: string, value: T, revision?: number): Change<T> {
    const previous = this.#entries.get(name);
    if (previous === undefined && this.#entries.size >= this.entriesMax) {
      throw new ProblemError("TABLE_FULL", {
        status: 507,
        detail: `Cannot add ${
          JSON.stringify(name)
        } to ${this.name}: it holds ${this.#entries.size} of ${this.entriesMax}`,
        found: this.#entries.size,
        expected: `fewer than ${this.entriesMax}`,
        action: "Delete objects that are no longer needed",
      });
    }
    this.#entries.set(name, value);
    return this.#record({ type: "PUT", revision: this.#next(revision), name, value, previous });
  }

  /** Deletes; undefined (and no revision) when there was no such object. */
  delete(name: string, revision?: number): Change<T> | undefined {
    const previous = this.#entries.get(name);
    if (previous === undefined) return undefined;
    this.#entries.delete(name);
    return this.#record({ type: "DELETED", revision: this.#next(revision), name, previous });
  }

  /**
   * Replaces everything with `entries` at `revision`, without a history: watchers list anew. For a mirror that lost its
   * place in what it mirrors.
   */
  reset(entries: Iterable<[string, T]>, revision: number): void {
    this.#entries = new Map(entries);
    this.#history = [];
    this.#historyStart = 0;
    this.#revision = this.#oldest = revision;
    this.#wake();
  }

  /** Moves to `revision` without a change of this table: another table with the same counter has changed. */
  advance(revision: number): void {
    if (revision <= this.#revision) return;
    this.#revision = revision;
    this.#wake();
  }

  /** Up to `max` changes after `revision`, oldest first; undefined when some of them are no longer held. */
  changesSince(revision: number, max = 256): Change<T>[] | undefined {
    if (revision < this.#oldest || revision > this.#revision) return undefined;
    let low = this.#historyStart, high = this.#history.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#history[middle].revision <= revision) low = middle + 1;
      else high = middle;
    }
    return this.#history.slice(low, low + max);
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

  #next(revision: number | undefined): number {
    return revision !== undefined && revision > this.#revision ? revision : this.#revision + 1;
  }

  #record(change: Change<T>): Change<T> {
    this.#revision = change.revision;
    this.#history.push(change);
    if (this.#history.length - this.#historyStart > this.historyMax) {
      this.#oldest = this.#history[this.#historyStart].revision;
      this.#history[this.#historyStart++] = undefined as unknown as Change<T>;
      // Dropping from the front one by one would copy the whole array each time.
      if (this.#historyStart >= this.historyMax) {
        this.#history = this.#history.slice(this.#historyStart);
        this.#historyStart = 0;
      }
    }
    for (const listener of this.#listeners) listener(change);
    this.#wake();
    return change;
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
