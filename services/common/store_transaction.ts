/** What runs inside one transaction of the {@link Store}. @module */
import { sql, type Transaction } from "kysely";
import { ProblemError } from "./problem.ts";
import type { Head } from "./store_schema.ts";
import type { StoredCollection } from "./stored_collection.ts";
import { tableFull } from "./watched_table.ts";

/** What runs inside one transaction of the {@link Store}. */
export class StoreTransaction {
  readonly #collection: (name: string) => StoredCollection;
  readonly #isInStep: boolean;
  readonly #tag: string;
  #revision: number;
  #sizes = new Map<string, { size: number; has: Map<string, boolean> }>();

  /**
   * @param tx for the service's own tables
   * @param options `head`: the counter; `tag` of this transaction; `isInStep`: the tables in memory are up to `head`
   */
  constructor(
    readonly tx: Transaction<unknown>,
    options: {
      collection: (name: string) => StoredCollection;
      head: Head;
      tag: string;
      isInStep: boolean;
    },
  ) {
    this.#collection = options.collection;
    this.#revision = options.head.revision;
    this.#tag = options.tag;
    this.#isInStep = options.isInStep;
  }

  /** Revision of the newest change, this transaction's included. */
  get revision(): number {
    return this.#revision;
  }

  /**
   * The stored object, read within the transaction.
   * @throws {ProblemError} OBJECT_UNREADABLE
   */
  async get<T>(collection: string, name: string): Promise<T | undefined> {
    const { rows } = await sql<{ body: Uint8Array }>`
      select body from weir_objects where collection = ${collection} and name = ${name}`.execute(this.tx);
    if (rows.length === 0) return undefined;
    try {
      return this.#collection(collection).message.decode(rows[0].body) as T;
    } catch (cause) {
      throw new ProblemError("OBJECT_UNREADABLE", {
        status: 500,
        detail: `Cannot read ${collection} ${JSON.stringify(name)} from the database`,
        action: "Put it anew, or delete it",
        cause,
      });
    }
  }

  /** @throws {ProblemError} TABLE_FULL, before anything is written */
  async put<T>(collection: string, name: string, value: T): Promise<void> {
    const stored = this.#collection(collection);
    await this.#assertRoom(stored, name);
    const body = stored.message.encode(value as never);
    const revision = ++this.#revision;
    await sql`insert into weir_objects (collection, name, revision, body)
      values (${collection}, ${name}, ${revision}, ${body})
      on conflict (collection, name) do update set revision = excluded.revision, body = excluded.body`
      .execute(this.tx);
    await this.#append(revision, collection, name, body);
    this.#count(stored, name, true);
  }

  /** False when there was no such object. */
  async delete(collection: string, name: string): Promise<boolean> {
    const stored = this.#collection(collection);
    const { rows } = await sql`delete from weir_objects where collection = ${collection} and name = ${name}
      returning name`.execute(this.tx);
    if (rows.length === 0) return false;
    await this.#append(++this.#revision, collection, name, null);
    if (this.#sizes.has(collection)) await this.#sizeOf(stored, name, true);
    this.#count(stored, name, false);
    return true;
  }

  async #append(revision: number, collection: string, name: string, body: Uint8Array | null): Promise<void> {
    await sql`insert into weir_log (revision, collection, name, body, tag)
      values (${revision}, ${collection}, ${name}, ${body}, ${this.#tag})`.execute(this.tx);
  }

  async #assertRoom(stored: StoredCollection, name: string): Promise<void> {
    const { table } = stored;
    // A table that is far from full needs no exact count.
    if (table.size * 2 < table.entriesMax && !this.#sizes.has(table.name)) return;
    const { size, has } = await this.#sizeOf(stored, name);
    if (!has.get(name) && size >= table.entriesMax) throw tableFull(table, name, size);
  }

  /** Objects of a collection as this transaction sees it, and whether `name` is among them. */
  async #sizeOf(stored: StoredCollection, name: string, wasThere?: boolean) {
    const { table } = stored;
    let known = this.#sizes.get(table.name);
    if (known === undefined) {
      let size = table.size + stored.unreadable.size;
      if (!this.#isInStep || this.#revision > table.revision) {
        const { rows } = await sql<{ count: string | number }>`
          select count(*) as count from weir_objects where collection = ${table.name}`.execute(this.tx);
        size = Number(rows[0].count);
      }
      this.#sizes.set(table.name, known = { size, has: new Map() });
    }
    if (!known.has.has(name)) {
      const { rows } = wasThere === undefined
        ? await sql`select name from weir_objects where collection = ${table.name} and name = ${name}`
          .execute(this.tx)
        : { rows: wasThere ? [name] : [] };
      known.has.set(name, rows.length > 0);
    }
    return known;
  }

  #count(stored: StoredCollection, name: string, isThere: boolean): void {
    const known = this.#sizes.get(stored.table.name);
    if (known === undefined) return;
    const before = known.has.get(name) ?? false;
    if (before !== isThere) known.size += isThere ? 1 : -1;
    known.has.set(name, isThere);
  }
}
