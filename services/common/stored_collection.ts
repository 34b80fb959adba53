/** One collection of the {@link Store}: its table in memory, made from rows. @module */
import type { Message } from "@weir/proto";
import type { Change } from "./change_history.ts";
import type { EpochLine } from "./epoch.ts";
import { errorText } from "./log.ts";
import type { LogRow, ObjectRow } from "./store_schema.ts";
import { WatchedTable, type WatchedTableOptions } from "./watched_table.ts";

/**
 * One collection of the {@link Store}.
 * A row that cannot be decoded is set aside, and what the table had of it stays.
 */
// deno-lint-ignore no-explicit-any
export class StoredCollection<T = any> {
  readonly message: Message<T>;
  readonly table: WatchedTable<T>;
  /** Objects that are stored and cannot be read, with the reason. */
  readonly unreadable = new Map<string, string>();

  constructor(message: Message<T>, options: WatchedTableOptions) {
    this.message = message;
    this.table = new WatchedTable<T>({ ...options, revision: 0 });
    this.table.pending = true;
  }

  /** One row of the log, in order. */
  apply(row: LogRow): void {
    const { name, body, revision } = row;
    if (body === null) {
      this.unreadable.delete(name);
      this.table.delete(name, revision);
      return;
    }
    const value = this.#decode(name, body);
    if (value !== undefined) this.table.put(name, value, revision);
  }

  /**
   * Everything anew: the objects, and the newest changes of a log that has every change of every collection after
   * `logFrom`.
   */
  load(
    objects: readonly ObjectRow[],
    log: readonly LogRow[],
    options: { revision: number; logFrom: number; epochs: EpochLine },
  ): void {
    this.unreadable.clear();
    const mine = log.filter((row) => row.collection === this.table.name);
    const taken = mine.slice(-this.table.historyMax);
    const oldest = taken.length < mine.length
      ? mine[mine.length - taken.length - 1].revision
      : options.logFrom;
    const history: Change<T>[] = [], last = new Map<string, Change<T>>();
    let complete = oldest;
    for (const { name, body, revision } of taken) {
      const before = last.get(name);
      const value = body === null ? undefined : this.#decode(name, body);
      if (body !== null && value === undefined) {
        // Nobody can be told of this change: whoever was before it lists anew.
        history.length = 0;
        last.clear();
        complete = revision;
        continue;
      }
      const previous = before === undefined ? { previousUnknown: true } : { previous: before.value };
      const type = body === null ? "DELETED" : "PUT";
      const change: Change<T> = { type, revision, name, value, ...previous };
      history.push(change);
      last.set(name, change);
    }
    this.unreadable.clear();
    const puts: Change<T>[] = [];
    for (const { collection, name, revision, body } of objects) {
      if (collection !== this.table.name) continue;
      const known = last.get(name);
      if (known?.revision === revision && known.type === "PUT") {
        puts.push(known);
        continue;
      }
      const value = this.#decode(name, body) ?? this.table.get(name);
      if (value !== undefined) puts.push({ type: "PUT", revision, name, value });
    }
    this.table.reset(puts, options.revision, { history, oldest: complete, epochs: options.epochs });
    this.table.pending = false;
  }

  #decode(name: string, body: Uint8Array): T | undefined {
    try {
      const value = this.message.decode(body);
      this.unreadable.delete(name);
      return value;
    } catch (error) {
      this.unreadable.set(name, errorText(error));
      return undefined;
    }
  }
}
