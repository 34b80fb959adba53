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

/** Ids of one server, and of all servers. Beyond, the least recently used of the server with the most goes. */
export const PREPARED_PER_SERVER_MAX = 8192;
export const PREPARED_MAX = 65_536;
/** Bytes of an id; Cassandra's have 16. */
export const PREPARED_ID_BYTES_MAX = 64;

/** Prepared statements of all servers. */
export class PreparedStatements {
  readonly #servers = new Map<string, Map<string, PreparedStatement>>();
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
    let known = this.#servers.get(server);
    if (known === undefined) this.#servers.set(server, known = new Map());
    const key = idKey(id);
    if (!known.delete(key)) {
      if (known.size >= this.#perServerMax) this.#evict(server, known);
      else if (this.#size >= this.#max) this.#evict(...this.#largest());
      this.#size++;
    }
    // The server may have lost its last one just now.
    this.#servers.set(server, known);
    known.set(key, statement);
  }

  /** What an id stands for; undefined: not known. */
  get(server: string, id: Uint8Array): PreparedStatement | undefined {
    const known = this.#servers.get(server);
    const key = idKey(id);
    const statement = known?.get(key);
    if (known === undefined || statement === undefined) return undefined;
    known.delete(key);
    known.set(key, statement);
    return statement;
  }

  #evict(server: string, known: Map<string, PreparedStatement>): void {
    for (const key of known.keys()) {
      known.delete(key);
      break;
    }
    if (known.size === 0) this.#servers.delete(server);
    this.#size--;
    this.evicted++;
  }

  #largest(): [string, Map<string, PreparedStatement>] {
    let found: [string, Map<string, PreparedStatement>] | undefined;
    for (const entry of this.#servers) {
      if (found === undefined || entry[1].size > found[1].size) found = entry;
    }
    return found!;
  }
}

function idKey(id: Uint8Array): string {
  return String.fromCharCode.apply(null, id as unknown as number[]);
}
