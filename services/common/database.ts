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
import { type Clock, systemClock } from "./clock.ts";
import { isDatabaseError } from "./database_error.ts";
import { NodeSqliteDialect } from "./node_sqlite.ts";
import { untilAborted } from "./deadline.ts";
import { deadlineClient } from "./pg_client.ts";
import { ProblemError } from "./problem.ts";

/** Longest time to wait for a connection, and for a lock, in milliseconds. */
export const DATABASE_WAIT_MS_MAX = 5000;
/** Longest time of one statement, and of the silence after it, in milliseconds. */
export const DATABASE_STATEMENT_MS_MAX = 5000;
/** How often a connection that only listens is asked whether it lives. */
const PROBE_MS = 5000;
/** Connections that one process opens. */
export const DATABASE_CONNECTIONS_MAX = 4;

/** A step of the schema; steps run once each, in the order of the list, each in a transaction. */
export interface Migration {
  /** Unique and stable, e.g. "identity-1-tables". */
  name: string;
  up(tx: Transaction<unknown>, kind: DatabaseKind): Promise<void>;
}

/** Service and number of a step's name. */
const STEP = /^([a-z-]+?)-(\d+)(?:-|$)/;

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
  readonly #clock: Clock;
  readonly #Client: typeof pg.Client;

  /** @param url one of the forms above; a bare path is a SQLite file */
  constructor(url: string, options: { clock?: Clock } = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#Client = deadlineClient(this.#clock, DATABASE_STATEMENT_MS_MAX);
    this.url = url.replace(/:\/\/([^:@/]+):[^@/]*@/, "://$1:***@");
    if (/^postgres(ql)?:/.test(url)) {
      this.kind = "postgres";
      this.#pool = new pg.Pool({
        connectionString: url,
        max: DATABASE_CONNECTIONS_MAX,
        connectionTimeoutMillis: DATABASE_WAIT_MS_MAX,
        statement_timeout: DATABASE_STATEMENT_MS_MAX,
        keepAlive: true,
        keepAliveInitialDelayMillis: PROBE_MS,
        Client: this.#Client,
      });
      // An idle connection that breaks tells the pool; without a listener that would end the process.
      this.#pool.on("error", () => {});
      // One that breaks between two statements of a transaction tells only itself; the next statement fails with it.
      this.#pool.on("connect", (client) => client.on("error", () => {}));
      this.kysely = new Kysely({ dialect: new PostgresDialect({ pool: this.#pool }) });
    } else {
      this.kind = "sqlite";
      this.#sqlite = new NodeSqliteDialect(url.replace(/^sqlite:(\/\/)?/, ""), {
        busyMs: DATABASE_WAIT_MS_MAX,
        clock: this.#clock,
      });
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
      if (own !== undefined && !isDatabaseError(own)) throw own;
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

  /**
   * Brings the schema up to date; repeatable, and safe when several replicas start at once.
   * @throws {ProblemError} DATABASE_NEWER: a newer version has changed the schema
   */
  async migrate(migrations: readonly Migration[]): Promise<string[]> {
    const done: string[] = [];
    // Two replicas that create the first table at once collide even with IF NOT EXISTS: the lock comes first.
    await this.transaction(async (tx) => {
      if (this.kind === "postgres") await sql`select pg_advisory_xact_lock(7711)`.execute(tx);
      await sql`create table if not exists weir_migrations (name text primary key)`.execute(tx);
      const rows = await sql<{ name: string }>`select name from weir_migrations`.execute(tx);
      const names = new Set(rows.rows.map((row) => row.name));
      this.#assertKnown(names, migrations);
      for (const migration of migrations) {
        if (names.has(migration.name)) continue;
        await migration.up(tx, this.kind);
        await sql`insert into weir_migrations (name) values (${migration.name})`.execute(tx);
        done.push(migration.name);
      }
    });
    return done;
  }

  /** Steps are numbered per service, "identity-2"; other services may have theirs in the same database. */
  #assertKnown(names: ReadonlySet<string>, migrations: readonly Migration[]): void {
    const known = new Map<string, number>();
    for (const { name } of migrations) {
      const [, service, number] = STEP.exec(name) ?? [];
      if (service !== undefined) known.set(service, Math.max(known.get(service) ?? 0, Number(number)));
    }
    for (const name of names) {
      const [, service, number] = STEP.exec(name) ?? [];
      if (!known.has(service) || Number(number) <= known.get(service)!) continue;
      throw new ProblemError("DATABASE_NEWER", {
        status: 503,
        detail: `Cannot use the database ${this.url}: a newer version of Weir has changed its tables`,
        found: name,
        expected: `at most ${service}-${known.get(service)}`,
        action: "Run that version here too, or restore the database as it was before the upgrade",
      });
    }
  }

  /**
   * Calls `onNotify` for each NOTIFY on `channel` until `signal` aborts. Rejects when the connection is lost, or does not
   * answer when it is asked; does nothing on SQLite, which one process owns.
   */
  async listen(channel: string, onNotify: () => void, signal: AbortSignal): Promise<void> {
    if (this.#pool === undefined || signal.aborted) return;
    const client = new this.#Client(this.#pool.options as pg.ClientConfig);
    let fail: (error: Error) => void = () => {};
    const lost = new Promise<never>((_, reject) => fail = reject);
    client.on("error", fail);
    client.on("end", () => fail(new Error("the connection ended")));
    lost.catch(() => {});
    const aborted = untilAborted(signal);
    try {
      await Promise.race([client.connect(), lost]);
      client.on("notification", onNotify);
      await client.query(`listen ${channel}`);
      onNotify(); // what came before the LISTEN would be missed
      while (!signal.aborted) {
        await Promise.race([this.#clock.sleep(PROBE_MS, signal), lost]);
        if (!signal.aborted) await Promise.race([client.query("select 1"), aborted, lost]);
      }
    } catch (error) {
      throw this.explain(error);
    } finally {
      client.off("error", fail);
      client.on("error", () => {});
      // A peer that is silent never confirms the end.
      await Promise.race([client.end().catch(() => {}), this.#clock.sleep(500)]);
      (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
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
      action: /no such table|relation "\w+" does not exist/.test((error as Error).message)
        ? "It lacks Weir's tables: restore it, or start the service anew to begin with an empty one"
        : "It is retried; see whether the database runs and WEIR_DATABASE_URL is right",
      cause: error,
    });
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    // The end of a connection whose peer is silent is never confirmed.
    await Promise.race([this.kysely.destroy().catch(() => {}), this.#clock.sleep(DATABASE_WAIT_MS_MAX)]);
  }
}
