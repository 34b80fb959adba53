/**
 * What prepared ids stand for. An id is a server's digest of keyspace and text, the same on all of its connections, so
 * that all connections to one server share what was learnt from its answers. An id that is not known any more costs the
 * driver a PREPARE.
 * @module
 */

import type { CqlStatement } from "@weir/l7-rules";

/** What an id stands for. */
export interface PreparedStatement {
  readonly statements: readonly CqlStatement[];
  /** Keyspaces that names without one may be in. */
  readonly keyspaces: readonly string[];
  /** Keyspace that executing it makes the connection's own; null: none. */
  readonly use: string | null;
}

/** Statements that ids of one server stand for, and ids of all servers. Beyond, the least recently used of the server with the most goes. */
export const PREPARED_PER_SERVER_MAX = 8192;
export const PREPARED_MAX = 65_536;
/** Bytes of an id; Cassandra's have 16. */
export const PREPARED_ID_BYTES_MAX = 64;

/** Those of one server, by id, the least recently used first. */
interface Known {
  readonly byId: Map<string, PreparedStatement>;
  /** Statements that they stand for: an id of a batch has up to 256. */
  statements: number;
}

/** Prepared statements of all servers. */
export class PreparedStatements {
  readonly #servers = new Map<string, Known>();
  readonly #perServerMax: number;
  readonly #max: number;
  #size = 0;
  /** Statements that went for want of room. */
  evicted = 0;

  constructor(limits: { perServerMax?: number; max?: number } = {}) {
    this.#perServerMax = limits.perServerMax ?? PREPARED_PER_SERVER_MAX;
    this.#max = limits.max ?? PREPARED_MAX;
  }

  /** Statements that are held. */
  get size(): number {
    return this.#size;
  }

  /** What the server answered to a PREPARE. */
  learn(server: string, id: Uint8Array, statement: PreparedStatement): void {
    const known = this.#servers.get(server) ?? { byId: new Map(), statements: 0 };
    const key = idKey(id), more = countOf(statement), before = known.byId.get(key);
    if (before !== undefined) this.#forget(server, known, key, before);
    while (known.statements + more > this.#perServerMax && known.byId.size > 0) this.#evict(server, known);
    while (this.#size + more > this.#max && this.#size > 0) this.#evict(...this.#largest());
    // The server may have lost its last one just now.
    this.#servers.set(server, known);
    known.byId.set(key, statement);
    known.statements += more;
    this.#size += more;
  }

  /** What an id stands for; undefined: not known. */
  get(server: string, id: Uint8Array): PreparedStatement | undefined {
    const byId = this.#servers.get(server)?.byId;
    const key = idKey(id);
    const statement = byId?.get(key);
    if (byId === undefined || statement === undefined) return undefined;
    byId.delete(key);
    byId.set(key, statement);
    return statement;
  }

  #forget(server: string, known: Known, key: string, statement: PreparedStatement): void {
    known.byId.delete(key);
    known.statements -= countOf(statement);
    this.#size -= countOf(statement);
    if (known.byId.size === 0) this.#servers.delete(server);
  }

  #evict(server: string, known: Known): void {
    const [key, statement] = known.byId.entries().next().value!;
    this.#forget(server, known, key, statement);
    this.evicted++;
  }

  #largest(): [string, Known] {
    let found: [string, Known] | undefined;
    for (const entry of this.#servers) {
      if (found === undefined || entry[1].statements > found[1].statements) found = entry;
    }
    return found!;
  }
}

function countOf({ statements }: PreparedStatement): number {
  return Math.max(1, statements.length);
}

function idKey(id: Uint8Array): string {
  return String.fromCharCode.apply(null, id as unknown as number[]);
}
