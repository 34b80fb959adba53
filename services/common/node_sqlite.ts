/** Kysely on `node:sqlite`: one connection to one file, used by one query or transaction at a time. @module */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Clock } from "./clock.ts";
import { markDatabaseError } from "./database_error.ts";
import {
  CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type DialectAdapter,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";

/** Primary result codes after which the open file is worth nothing: IOERR, CORRUPT, CANTOPEN, NOTADB, READONLY. */
const REOPEN_AFTER = new Set([8, 10, 11, 14, 26]);

/** SQLite's BUSY and LOCKED: another process holds the lock. */
const BUSY = new Set([5, 6]);
const CANTOPEN = 14;
/** Between two tries for a lock. */
const BUSY_RETRY_MS = 20;
/** For the first look at a file alone: nothing else waits within the process's only turn. */
const OPEN_BUSY_MS = 250;

/** How long a statement waits for another process's lock, by which clock. */
export interface BusyOptions {
  busyMs: number;
  clock: Clock;
}

/** Kysely on `node:sqlite`. The file is opened with the first query, and anew after {@link reopenAfter}. */
export class NodeSqliteDialect implements Dialect {
  readonly #driver: NodeSqliteDriver;

  constructor(path: string, busy: BusyOptions) {
    this.#driver = new NodeSqliteDriver(path, busy);
  }

  createDriver(): Driver {
    return this.#driver;
  }
  createQueryCompiler(): QueryCompiler {
    return new SqliteQueryCompiler();
  }
  createAdapter(): DialectAdapter {
    return new QueuedSqliteAdapter();
  }
  // deno-lint-ignore no-explicit-any
  createIntrospector(db: Kysely<any>): DatabaseIntrospector {
    return new SqliteIntrospector(db);
  }

  /** Drops the open file when the error says that it is of no use; the next query opens it again. */
  reopenAfter(error: unknown): void {
    const code = (error as { errcode?: number }).errcode;
    if (code !== undefined && REOPEN_AFTER.has(code & 0xff)) this.#driver.drop();
  }
}

/** Kysely's own lock is never given back when opening fails, so the driver's queue does its work. */
class QueuedSqliteAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

class NodeSqliteDriver implements Driver {
  readonly #path: string;
  readonly #busy: BusyOptions;
  #database: DatabaseSync | undefined;
  #statements: Statements | undefined;
  /** Device and inode of the open file; undefined for a database in memory, or before the first opening. */
  #file: string | undefined;
  #tail: Promise<void> = Promise.resolve();
  #release = new WeakMap<DatabaseConnection, () => void>();

  constructor(path: string, busy: BusyOptions) {
    this.#path = path;
    this.#busy = busy;
  }

  init(): Promise<void> {
    return Promise.resolve();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const before = this.#tail;
    let release = () => {};
    this.#tail = new Promise((resolve) => release = resolve);
    await before;
    try {
      const connection = new NodeSqliteConnection(this.#open(), this.#busy);
      this.#release.set(connection, release);
      return connection;
    } catch (error) {
      release();
      throw error;
    }
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    // IMMEDIATE: the write lock comes first, so a transaction that reads and then writes never has to be retried.
    await connection.executeQuery(CompiledQuery.raw("begin immediate"));
  }
  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("commit"));
  }
  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await connection.executeQuery(CompiledQuery.raw("rollback"));
    } catch (error) {
      // A full disk rolls back by itself (sqlite.org/lang_transaction.html, section 3); the first error says why.
      if (!/no transaction is active/.test((error as Error).message)) throw error;
    }
  }
  releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#release.get(connection)?.();
    return Promise.resolve();
  }
  destroy(): Promise<void> {
    this.drop();
    return Promise.resolve();
  }

  drop(): void {
    try {
      this.#database?.close();
    } catch {
      // Already closed by its own failure.
    }
    this.#database = this.#statements = undefined;
  }

  #open(): Statements {
    const isFile = this.#path !== "" && this.#path !== ":memory:";
    if (this.#file !== undefined) {
      const now = fileOf(this.#path);
      // An open file that was deleted goes on to be written, for nobody; opening it anew would begin with nothing.
      if (now === undefined) throw Object.assign(new Error("its file is gone"), { errcode: CANTOPEN });
      if (now !== this.#file) this.drop();
    }
    if (this.#statements !== undefined) return this.#statements;
    const database = new DatabaseSync(this.#path);
    try {
      database.exec(`pragma busy_timeout = ${OPEN_BUSY_MS}`);
      database.exec("pragma journal_mode = wal");
      // WAL with FULL: a commit that was answered survives a power cut; an identity must never be given twice.
      database.exec("pragma synchronous = full");
      database.exec("pragma foreign_keys = on");
      // From here on a statement that finds a lock is tried again by the clock, while the process does its other work.
      database.exec("pragma busy_timeout = 0");
    } catch (error) {
      database.close(); // it is tried again and again, each time with a file of its own
      throw error;
    }
    if (isFile) this.#file = fileOf(this.#path);
    this.#database = database;
    return this.#statements = new Statements(database);
  }
}

function fileOf(path: string): string | undefined {
  try {
    const { dev, ino } = Deno.statSync(path);
    return `${dev}:${ino}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Statements that are kept ready. Most are asked again and again; those with lists of other lengths go in turn. */
const STATEMENTS_MAX = 256;

/** The statements of one open file that were prepared, the one that was not used for longest first. */
class Statements {
  readonly #database: DatabaseSync;
  readonly #known = new Map<string, { statement: StatementSync; hasRows: boolean }>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  get(text: string): { statement: StatementSync; hasRows: boolean } {
    let found = this.#known.get(text);
    if (found === undefined) {
      const statement = this.#database.prepare(text);
      found = { statement, hasRows: statement.columns().length > 0 };
    } else this.#known.delete(text);
    this.#known.set(text, found);
    if (this.#known.size > STATEMENTS_MAX) this.#known.delete(this.#known.keys().next().value!);
    return found;
  }
}

class NodeSqliteConnection implements DatabaseConnection {
  readonly #statements: Statements;
  readonly #busy: BusyOptions;

  constructor(statements: Statements, busy: BusyOptions) {
    this.#statements = statements;
    this.#busy = busy;
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const { busyMs, clock } = this.#busy;
    const startMs = clock.monotonicMs();
    while (true) {
      try {
        return this.#execute(query);
      } catch (error) {
        const code = (error as { errcode?: number }).errcode;
        const isBusy = code !== undefined && BUSY.has(code & 0xff);
        if (!isBusy || clock.monotonicMs() - startMs >= busyMs) throw markDatabaseError(error);
      }
      await clock.sleep(BUSY_RETRY_MS);
    }
  }

  #execute<R>(query: CompiledQuery): QueryResult<R> {
    const { statement, hasRows } = this.#statements.get(query.sql);
    const parameters = query.parameters.map(bindable);
    if (hasRows) return { rows: statement.all(...parameters) as R[] };
    const { changes, lastInsertRowid } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query);
  }
}

type Bindable = string | number | bigint | Uint8Array | null;

function bindable(value: unknown): Bindable {
  if (value === undefined || value === null) return null;
  if (typeof value === "boolean") return value ? 1 : 0;
  return value as Bindable;
}
