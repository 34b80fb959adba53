/**
 * Collections that live in a database and are watched from memory. Every change of every collection gets the next
 * revision of one counter, in one transaction with whatever else it writes; a log of changes carries them to the other
 * replicas, which are woken by NOTIFY.
 *
 *     transact() ── lock the counter ── write objects + log ── commit ── NOTIFY
 *                                                                │
 *     every replica:  log after my revision ── in order ─────────┴──▶ WatchedTable ──▶ watchers
 *
 * The counter's row is locked until the commit, so revisions become visible in their order and no reader skips one.
 * @module
 */
import { sql, type Transaction } from "kysely";
import type { Message } from "@weir/proto";
import { Backoff } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Database, Migration } from "./database.ts";
import type { Health } from "./health.ts";
import { Logger } from "./log.ts";
import { ProblemError } from "./problem.ts";
import { WatchedTable } from "./watched_table.ts";

/** Changes kept in the log, and rows read from it at once. */
export const STORE_LOG_MAX = 20_000;
const LOG_ROWS_AT_ONCE = 500;
/** How often the log is looked at without a wake-up. */
const POLL_MS = 5000;
const CHANNEL = "weir_store";

const MIGRATIONS: readonly Migration[] = [{
  name: "store-1",
  async up(tx, kind) {
    const bytes = sql.raw(kind === "postgres" ? "bytea" : "blob");
    await sql`create table weir_revision (id integer primary key, revision bigint not null)`.execute(tx);
    await sql`insert into weir_revision (id, revision) values (1, 1)`.execute(tx);
    await sql`create table weir_objects (collection text not null, name text not null, revision bigint not null,
      body ${bytes} not null, primary key (collection, name))`.execute(tx);
    await sql`create table weir_log (revision bigint primary key, collection text not null, name text not null,
      body ${bytes})`.execute(tx);
  },
}];

/** Options of {@link Store}. */
export interface StoreOptions {
  database: Database;
  clock?: Clock;
  log?: Logger;
  /** Gets the condition "database". */
  health?: Health;
  /** The service's own tables. */
  migrations?: readonly Migration[];
}

/** What runs inside one transaction. */
export class StoreTransaction {
  readonly #store: Store;
  #revision: number;

  /** @param tx for the service's own tables */
  constructor(store: Store, readonly tx: Transaction<unknown>, revision: number) {
    this.#store = store;
    this.#revision = revision;
  }

  /** Revision of the newest change, this transaction's included. */
  get revision(): number {
    return this.#revision;
  }

  /** The stored object, read within the transaction. */
  async get<T>(collection: string, name: string): Promise<T | undefined> {
    const { rows } = await sql<{ body: Uint8Array }>`
      select body from weir_objects where collection = ${collection} and name = ${name}`.execute(this.tx);
    return rows.length === 0 ? undefined : this.#store.message(collection).decode(rows[0].body) as T;
  }

  async put<T>(collection: string, name: string, value: T): Promise<void> {
    const body = this.#store.message(collection).encode(value as never);
    const revision = ++this.#revision;
    await sql`insert into weir_objects (collection, name, revision, body)
      values (${collection}, ${name}, ${revision}, ${body})
      on conflict (collection, name) do update set revision = excluded.revision, body = excluded.body`
      .execute(this.tx);
    await this.#append(revision, collection, name, body);
  }

  /** False when there was no such object. */
  async delete(collection: string, name: string): Promise<boolean> {
    const { rows } = await sql`delete from weir_objects where collection = ${collection} and name = ${name}
      returning name`.execute(this.tx);
    if (rows.length === 0) return false;
    await this.#append(++this.#revision, collection, name, null);
    return true;
  }

  async #append(revision: number, collection: string, name: string, body: Uint8Array | null): Promise<void> {
    await sql`insert into weir_log (revision, collection, name, body)
      values (${revision}, ${collection}, ${name}, ${body})`.execute(this.tx);
  }
}

/** See the module comment. */
export class Store {
  readonly database: Database;
  readonly #options: StoreOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  // deno-lint-ignore no-explicit-any
  #collections = new Map<string, { message: Message<any>; table: WatchedTable<any> }>();
  #revision = 0;
  #stop = new AbortController();
  #loops: Promise<void>[] = [];
  #pulling: Promise<void> = Promise.resolve();
  #loaded = false;

  constructor(options: StoreOptions) {
    this.database = options.database;
    this.#options = options;
    this.#log = options.log ?? Logger.silent();
    this.#clock = options.clock ?? systemClock;
  }

  /** Declares a collection, before `start()`. Its table is read by everybody and written by this store alone. */
  collection<T>(
    name: string,
    message: Message<T>,
    options: { entriesMax?: number; historyMax?: number } = {},
  ): WatchedTable<T> {
    const table = new WatchedTable<T>({ name, revision: 0, ...options });
    table.pending = true;
    this.#collections.set(name, { message, table });
    return table;
  }

  /** Message of a collection; an assertion for names that were not declared. */
  // deno-lint-ignore no-explicit-any
  message(collection: string): Message<any> {
    const found = this.#collections.get(collection);
    if (found === undefined) throw new Error(`Collection ${collection} was not declared`);
    return found.message;
  }

  /** True once everything was loaded. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /**
   * Migrates and loads; resolves when the tables are complete. While the database is away it waits with backoff, and
   * health says so. `wait: false` resolves at once and goes on in the background.
   */
  async start(options: { wait?: boolean } = {}): Promise<void> {
    this.#options.health?.waitFor("database", "waiting for the first load");
    const loading = this.#untilStopped("load", async () => {
      await this.database.migrate([...MIGRATIONS, ...this.#options.migrations ?? []]);
      await this.#load();
    });
    const loops = loading.then(() => {
      if (this.#stop.signal.aborted) return;
      this.#loops.push(this.#poll(), this.#listenLoop());
    });
    this.#loops.push(loops);
    if (options.wait !== false) await loops;
  }

  /**
   * Runs `action` in one transaction that holds the counter, then brings the tables up to date and answers.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, or what `action` throws
   */
  async transact<R>(action: (tx: StoreTransaction) => Promise<R>): Promise<R> {
    if (!this.#loaded) {
      throw new ProblemError("DATABASE_UNAVAILABLE", {
        status: 503,
        detail: `Cannot write: the database ${this.database.url} was not loaded yet`,
        action: "It is retried; see /readyz?verbose",
      });
    }
    let result: R;
    try {
      result = await this.#run(action);
    } catch (error) {
      if ((error as ProblemError).code === "DATABASE_UNAVAILABLE") this.#unhealthy(error as ProblemError);
      throw error;
    }
    // The commit stands: a failure to read it back is healed by the poll and must not look like a failed write.
    await this.pull().catch((error) => this.#unhealthy(this.database.explain(error)));
    return result;
  }

  /** Applies what the log has beyond this replica. Runs one at a time. */
  pull(): Promise<void> {
    const next = this.#pulling.then(() => this.#pullNow());
    this.#pulling = next.catch(() => {});
    return next;
  }

  /** Ends all background work; the database stays open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#loops);
    await this.#pulling;
  }

  #run<R>(action: (tx: StoreTransaction) => Promise<R>): Promise<R> {
    return this.database.transaction(async (tx) => {
      const { rows } = await sql<{ revision: string }>`
        update weir_revision set revision = revision where id = 1 returning revision`.execute(tx);
      const before = Number(rows[0].revision);
      const store = new StoreTransaction(this, tx, before);
      const result = await action(store);
      if (store.revision > before) {
        await sql`update weir_revision set revision = ${store.revision} where id = 1`.execute(tx);
        await sql`delete from weir_log where revision <= ${store.revision - STORE_LOG_MAX}`.execute(tx);
        if (this.database.kind === "postgres") await sql.raw(`notify ${CHANNEL}`).execute(tx);
      }
      return result;
    });
  }

  async #load(): Promise<void> {
    const { revision, rows } = await this.database.transaction(async (tx) => {
      const counter = await sql<{ revision: string }>`
        update weir_revision set revision = revision where id = 1 returning revision`.execute(tx);
      const objects = await sql<{ collection: string; name: string; body: Uint8Array }>`
        select collection, name, body from weir_objects order by revision`.execute(tx);
      return { revision: Number(counter.rows[0].revision), rows: objects.rows };
    });
    for (const [collection, { message, table }] of this.#collections) {
      const mine = rows.filter((row) => row.collection === collection);
      table.reset(mine.map((row) => [row.name, message.decode(row.body)]), revision);
      table.pending = false;
    }
    this.#revision = revision;
    this.#loaded = true;
    this.#healthy();
  }

  async #pullNow(): Promise<void> {
    if (!this.#loaded) return;
    while (true) {
      const { rows, counter, oldest } = await this.database.query(async (kysely) => {
        // The log is read first: what is committed in between is seen by the next round, never skipped.
        const log = await sql<
          { revision: string; collection: string; name: string; body: Uint8Array | null }
        >`
          select revision, collection, name, body from weir_log where revision > ${this.#revision}
          order by revision limit ${LOG_ROWS_AT_ONCE}`.execute(kysely);
        const ends = await sql<{ counter: string; oldest: string | null }>`
          select (select revision from weir_revision where id = 1) as counter,
                 (select min(revision) from weir_log) as oldest`.execute(kysely);
        return { rows: log.rows, counter: Number(ends.rows[0].counter), oldest: ends.rows[0].oldest };
      });
      const first = rows.length > 0 ? Number(rows[0].revision) : undefined;
      const missed = first !== undefined
        ? first > this.#revision + 1
        : oldest !== null && Number(oldest) > this.#revision + 1;
      if (missed || counter < this.#revision) {
        // Away for longer than the log reaches, or the database was restored to an earlier state.
        await this.#load();
        return;
      }
      for (const row of rows) this.#apply(row.collection, row.name, row.body, Number(row.revision));
      this.#healthy();
      if (rows.length < LOG_ROWS_AT_ONCE) return;
    }
  }

  #apply(collection: string, name: string, body: Uint8Array | null, revision: number): void {
    this.#revision = revision;
    for (const [key, { message, table }] of this.#collections) {
      if (key !== collection) table.advance(revision);
      else if (body === null) table.delete(name, revision);
      else table.put(name, message.decode(body), revision);
      table.advance(revision);
    }
  }

  async #poll(): Promise<void> {
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      await this.#clock.sleep(POLL_MS, signal);
      if (!signal.aborted) await this.#untilStopped("poll", () => this.pull());
    }
  }

  async #listenLoop(): Promise<void> {
    if (this.database.kind !== "postgres") return;
    await this.#untilStopped("listen", async () => {
      await this.database.listen(CHANNEL, () => {
        this.pull().catch((error) => this.#unhealthy(this.database.explain(error)));
      }, this.#stop.signal);
    });
  }

  /** Retries `action` with backoff until it succeeds or the store stops. */
  async #untilStopped(what: string, action: () => Promise<void>): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 5000 });
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      try {
        return await action();
      } catch (error) {
        if (signal.aborted) return;
        const problem = this.database.explain(error);
        const delayMs = backoff.nextMs();
        this.#unhealthy(problem);
        this.#log.debug("Database work failed", { what, error: problem, retryMs: delayMs });
        await this.#clock.sleep(delayMs, signal);
      }
    }
  }

  #down = false;

  #healthy(): void {
    if (this.#down) this.#log.info("The database is back", { database: this.database.url });
    this.#down = false;
    this.#options.health?.ok("database", this.database.url);
  }

  #unhealthy(problem: ProblemError): void {
    if (!this.#down) this.#log.error("The database is away", { error: problem });
    this.#down = true;
    this.#options.health?.waitFor("database", problem.message);
  }
}
