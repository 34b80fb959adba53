/** Kysely on `node:sqlite`: one connection to one file, used by one query or transaction at a time. @module */
import { DatabaseSync } from "node:sqlite";
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

/** See the module comment. The file is opened with the first query, and anew after {@link reopenAfter}. */
export class NodeSqliteDialect implements Dialect {
  readonly #driver: NodeSqliteDriver;

  /** @param busyMs how long a statement waits for another process's lock */
  constructor(path: string, busyMs: number) {
    this.#driver = new NodeSqliteDriver(path, busyMs);
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
  readonly #busyMs: number;
  #database: DatabaseSync | undefined;
  #tail: Promise<void> = Promise.resolve();
  #release = new WeakMap<DatabaseConnection, () => void>();

  constructor(path: string, busyMs: number) {
    this.#path = path;
    this.#busyMs = busyMs;
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
      const connection = new NodeSqliteConnection(this.#open());
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
    await connection.executeQuery(CompiledQuery.raw("rollback"));
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
    this.#database = undefined;
  }

  #open(): DatabaseSync {
    if (this.#database !== undefined) return this.#database;
    const database = new DatabaseSync(this.#path);
    database.exec(`pragma busy_timeout = ${this.#busyMs}`);
    database.exec("pragma journal_mode = wal");
    // WAL with FULL: a commit that was answered survives a power cut; an identity must never be given twice.
    database.exec("pragma synchronous = full");
    database.exec("pragma foreign_keys = on");
    return this.#database = database;
  }
}

class NodeSqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    try {
      const statement = this.#database.prepare(query.sql);
      const parameters = query.parameters.map(bindable);
      if (statement.columns().length > 0) {
        return Promise.resolve({ rows: statement.all(...parameters) as R[] });
      }
      const { changes, lastInsertRowid } = statement.run(...parameters);
      return Promise.resolve({
        rows: [],
        numAffectedRows: BigInt(changes),
        insertId: BigInt(lastInsertRowid),
      });
    } catch (error) {
      return Promise.reject(error);
    }
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
