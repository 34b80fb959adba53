/** What lists and watches need of a table; {@link WatchedTable} keeps one, others compute theirs. @module */
import type { Change, KeysOf } from "./change_history.ts";

/** Who serves watchers of a table. Its methods are called within the change and must not throw. */
export interface TableObserver<T> {
  /** One object changed. Several of one turn come in the order of their revisions. */
  changed(change: Change<T>): void;
  /** So many objects changed after revision `since` that each watcher looks for itself. */
  manyChanged(since: number): void;
  /** Everything was replaced; there is no history before it. */
  reset(): void;
  /** Every watcher is to hear SYNCED. */
  announced(): void;
  /** True while a watcher has changes before it: the history waits for it. */
  readonly behind: boolean;
}

/** A part of a table. */
export interface TablePage<T> {
  readonly puts: readonly Change<T>[];
  /** Where the next page begins; undefined at the end. */
  readonly next?: number;
}

/** A table that can be listed and watched. No two of its changes have the same revision. */
export interface Watchable<T> {
  readonly name: string;
  /**
   * True while what the table mirrors was not read yet: its emptiness means nothing then, so collections answer
   * NOT_READY instead of an empty list that readers would take for "everything is gone".
   */
  readonly pending: boolean;
  /** Revision of the newest change. */
  readonly revision: number;
  /** The epoch of `revision`. */
  readonly epoch: string;
  /** The oldest revision after which every change is still held. */
  readonly oldestRevision: number;
  /** Name of the order that {@link page} goes by: another one when everything was replaced. */
  readonly order: string;
  get(name: string): T | undefined;
  /** The newest PUT of one object. */
  putOf(name: string): Change<T> | undefined;
  /** The newest PUT of every object. */
  puts(): Change<T>[];
  /**
   * Up to `max` objects that match, from a place on, in the table's order. An object keeps its place while it lives, so
   * pages that are taken one after the other give every object that lived all along, each as it is then.
   */
  page(from: number, max: number, filter?: (value: T) => boolean): TablePage<T>;
  /** True when every change after the position is held. A position without an epoch is taken to be of this history. */
  holds(position: { revision: number; epoch?: string }): boolean;
  /** Up to `max` changes after `revision`, oldest first; undefined when some of them are no longer held. */
  changesSince(revision: number, max?: number): Change<T>[] | undefined;
  /** Like {@link changesSince}, of those with one of `keys` in an index that {@link index} declared. */
  changesByKeys(
    revision: number,
    index: string,
    keys: Iterable<string>,
    max?: number,
  ): Change<T>[] | undefined;
  /** How many changes of this table are held after `revision`. */
  countSince(revision: number): number;
  /** Keeps changes by these keys too; repeatable. */
  index(name: string, keysOf: KeysOf<T>): void;
  /** Lets go of what was held for watchers that were behind. Called by observers when none is any more. */
  trim(): void;
  /** Tells `observer` of everything from now on. Answers the function that ends it. */
  observe(observer: TableObserver<T>): () => void;
}
