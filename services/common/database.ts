/**
 * Databases of the cluster-scope services through Kysely: SQLite by default, PostgreSQL by URL; the same queries and
 * migrations on both. A database that goes away is an error of the request, never of the process.
 *
 *     sqlite:/var/lib/weir/identity.db   sqlite::memory:   postgres://user@host/db   postgres:///db?host=/run/postgresql
 *
 * @module
 */
import { Kysely, PostgresDialect, sql, type Transaction } from "kysely";
import pg from "pg";
import { NodeSqliteDialect } from "./node_sqlite.ts";
import { ProblemError } from "./problem.ts";

/** Longest time to wait for a connection, and for a lock, in milliseconds. */
export const DATABASE_WAIT_MS_MAX = 5000;
/** Longest time of one statement in PostgreSQL, in milliseconds. */
export const DATABASE_STATEMENT_MS_MAX = 15_000;
/** Connections that one process opens. */
export const DATABASE_CONNECTIONS_MAX = 4;

/** A step of the schema; steps run once each, in the order of the list, each in a transaction. */
export interface Migration {
  /** Unique and stable, e.g. "identity-1-tables". */
  name: string;
  up(tx: Transaction<unknown>, kind: DatabaseKind): Promise<void>;
}

/** Which database it is, where SQL differs. */
export type DatabaseKind = "sqlite" | "postgres";

/** A connection pool and what belongs to it. */
export class Database {
  readonly kind: DatabaseKind;
  readonly url: string;
  // deno-lint-ignore no-explicit-any
  readonly kysely: Kysely<any>;
  readonly #sqlite?: NodeSqliteDialect;
  readonly #pool?: pg.Pool;

  /** @param url see the module comment; a bare path is a SQLite file */
  constructor(url: string) {
    this.url = url.replace(/:\/\/([^:@/]+):[^@/]*@/, "://$1:***@");
    if (/^postgres(ql)?:/.test(url)) {
      this.kind = "postgres";
      this.#pool = new pg.Pool({
        connectionString: url,
        max: DATABASE_CONNECTIONS_MAX,
        connectionTimeoutMillis: DATABASE_WAIT_MS_MAX,
        statement_timeout: DATABASE_STATEMENT_MS_MAX,
        keepAlive: true,
      });
      // An idle connection that breaks tells the pool; without a listener that would end the process.
      this.#pool.on("error", () => {});
      // The same for one that is in use: the query that runs on it, or the next one, fails and says so.
      this.#pool.on("connect", (client) => client.on("error", () => {}));
      // One that breaks between two statements of a transaction tells only itself; the next statement fails with it.
      this.#pool.on("connect", (client) => client.on("error", () => {}));
      this.kysely = new Kysely({ dialect: new PostgresDialect({ pool: this.#pool }) });
    } else {
      this.kind = "sqlite";
      this.#sqlite = new NodeSqliteDialect(url.replace(/^sqlite:(\/\/)?/, ""), DATABASE_WAIT_MS_MAX);
      this.kysely = new Kysely({ dialect: this.#sqlite });
    }
  }

  /**
   * Runs `action` in one transaction. Failures of the database itself are DATABASE_UNAVAILABLE (503, retry); everything
   * that `action` throws passes unchanged after the rollback.
   */
  async transaction<R>(action: (tx: Transaction<unknown>) => Promise<R>): Promise<R> {
    let own: unknown;
    try {
      return await this.kysely.transaction().execute(async (tx) => {
        try {
          return await action(tx as Transaction<unknown>);
        } catch (error) {
          own = error;
          throw error;
        }
      });
    } catch (error) {
      if (own instanceof ProblemError) throw own;
      throw this.explain(error);
    }
  }

  /** Runs `action` outside a transaction, with the same errors. */
  async query<R>(action: (kysely: Kysely<unknown>) => Promise<R>): Promise<R> {
    try {
      return await action(this.kysely);
    } catch (error) {
      throw this.explain(error);
    }
  }

  /** Brings the schema up to date; repeatable, and safe when several replicas start at once. */
  async migrate(migrations: readonly Migration[]): Promise<string[]> {
    const done: string[] = [];
    // Two replicas that create the first table at once collide even with IF NOT EXISTS: the lock comes first.
    await this.transaction(async (tx) => {
      if (this.kind === "postgres") await sql`select pg_advisory_xact_lock(7711)`.execute(tx);
      await sql`create table if not exists weir_migrations (name text primary key)`.execute(tx);
      const rows = await sql<{ name: string }>`select name from weir_migrations`.execute(tx);
      const names = new Set(rows.rows.map((row) => row.name));
      for (const migration of migrations) {
        if (names.has(migration.name)) continue;
        await migration.up(tx, this.kind);
        await sql`insert into weir_migrations (name) values (${migration.name})`.execute(tx);
        done.push(migration.name);
      }
    });
    return done;
  }

  /**
   * Calls `onNotify` for each NOTIFY on `channel` until `signal` aborts. Rejects when the connection is lost; does nothing
   * on SQLite, which one process owns.
   */
  async listen(channel: string, onNotify: () => void, signal: AbortSignal): Promise<void> {
    if (this.#pool === undefined || signal.aborted) return;
    const client = new pg.Client({ ...this.#pool.options, statement_timeout: 0 } as pg.ClientConfig);
    let fail: (error: Error) => void = () => {};
    const lost = new Promise<never>((_, reject) => fail = reject);
    client.on("error", fail);
    client.on("end", () => fail(new Error("the connection ended")));
    lost.catch(() => {});
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true })
    );
    try {
      await Promise.race([client.connect(), lost]);
      client.on("notification", onNotify);
      await client.query(`listen ${channel}`);
      onNotify(); // what came before the LISTEN would be missed
      await Promise.race([aborted, lost]);
    } catch (error) {
      throw this.explain(error);
    } finally {
      client.off("error", fail);
      client.on("error", () => {});
      await client.end().catch(() => {});
    }
  }

  /** Any failure of the database as a problem. */
  explain(error: unknown): ProblemError {
    if (error instanceof ProblemError) return error;
    const code = (error as { code?: string }).code ?? "";
    // PostgreSQL class 23: integrity; SQLite 2067 and 1555: unique and primary key.
    const sqlite = (error as { errcode?: number }).errcode;
    if (/^23/.test(code) || sqlite === 2067 || sqlite === 1555) {
      return new ProblemError("DATABASE_CONFLICT", {
        status: 409,
        detail: `Cannot write to ${this.url}: ${(error as Error).message}`,
        action: "Try again",
        cause: error,
      });
    }
    this.#sqlite?.reopenAfter(error);
    const detail = error instanceof AggregateError
      ? error.errors.map((e) => e.message).join("; ")
      : undefined;
    return new ProblemError("DATABASE_UNAVAILABLE", {
      status: 503,
      detail: `Cannot use the database ${this.url}: ${detail ?? ((error as Error).message || code)}`,
      action: "It is retried; see whether the database runs and WEIR_DATABASE_URL is right",
      cause: error,
    });
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.kysely.destroy().catch(() => {});
  }
}
