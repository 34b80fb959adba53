/**
 * What this node's endpoints know of names: (endpoint, name, address) until when. Pure.
 *
 *     endpoint 7 ─┬─ www.example.com ─┬─ 192.0.2.1  until 12:01
 *                 │                   └─ 192.0.2.2  until 12:05, and a connection uses it
 *                 └─ api.example.com ─── 192.0.2.1  until 12:03      192.0.2.1 has both names
 *
 * @module
 */

/** Addresses that count of one name for one endpoint; of more, those that end last. */
export const ADDRESSES_PER_NAME_MAX = 4096;
/** Pairs of a name and an address that one endpoint may know; of more, those that end last. */
export const PAIRS_PER_ENDPOINT_MAX = 20_000;
/** The same of all endpoints; who knows most gives way. */
export const PAIRS_MAX = 100_000;
/** Of pairs that are too many, at least one part in so many goes at once: to find them costs a walk. */
const GO_PART = 16;

/** A name that an endpoint has asked for. */
export interface KnownQuery {
  readonly endpoint: number;
  readonly query: string;
  /** Until when, wall clock, milliseconds. */
  readonly addresses: ReadonlyMap<string, number>;
  /** Those that have ended and that a connection uses. */
  readonly inUse: ReadonlySet<string>;
}

interface Row extends KnownQuery {
  readonly addresses: Map<string, number>;
  /** Until when the disk has them. */
  readonly kept: Map<string, number>;
  readonly inUse: Set<string>;
}

/** The names; tells of each address whose names have changed. */
export class NameTable {
  readonly #byEndpoint = new Map<number, Map<string, Row>>();
  readonly #pairCounts = new Map<number, number>();
  /** Names of an address, and how many endpoints know it by them. */
  readonly #queries = new Map<string, Map<string, number>>();
  readonly #queryCounts = new Map<string, number>();
  readonly #onAddress: (address: string) => void;
  readonly #onRow: (row: KnownQuery) => void;
  #pairs = 0;
  /** Pairs that went because there were too many. */
  evicted = 0;

  /**
   * @param onAddress an address has another set of names
   * @param onRow what an endpoint knows of a name has changed; without addresses: nothing any more
   */
  constructor(onAddress: (address: string) => void, onRow: (row: KnownQuery) => void) {
    this.#onAddress = onAddress;
    this.#onRow = onRow;
  }

  /** Pairs of a name and an address, each endpoint's. */
  get pairs(): number {
    return this.#pairs;
  }

  /** How many pairs an endpoint has. */
  pairsOf(endpoint: number): number {
    return this.#pairCounts.get(endpoint) ?? 0;
  }

  *rows(): Generator<KnownQuery> {
    for (const rows of this.#byEndpoint.values()) yield* rows.values();
  }

  /** Names that somebody knows an address of. */
  queries(): Iterable<string> {
    return this.#queryCounts.keys();
  }
  hasQuery(query: string): boolean {
    return this.#queryCounts.has(query);
  }

  /** Who knows a name. */
  *rowsOf(query: string): Generator<KnownQuery> {
    for (const rows of this.#byEndpoint.values()) {
      const row = rows.get(query);
      if (row) yield row;
    }
  }

  /** Addresses of a name. */
  addressesOf(query: string): Set<string> {
    const found = new Set<string>();
    for (const rows of this.#byEndpoint.values()) {
      for (const address of rows.get(query)?.addresses.keys() ?? []) found.add(address);
    }
    return found;
  }

  /** Names of an address. */
  queriesOf(address: string): Iterable<string> {
    return this.#queries.get(address)?.keys() ?? [];
  }

  get(endpoint: number, query: string): KnownQuery | undefined {
    return this.#byEndpoint.get(endpoint)?.get(query);
  }

  /** Whether the disk has all of these until then. */
  isKept(endpoint: number, query: string, addresses: readonly string[], untilMs: number): boolean {
    const kept = this.#byEndpoint.get(endpoint)?.get(query)?.kept;
    return addresses.every((address) => (kept?.get(address) ?? -1) >= untilMs);
  }

  /**
   * An endpoint has heard of addresses; what it knows until later stays.
   * @param isKept the disk has it
   */
  learn(
    { endpoint, query, addresses, untilMs }: {
      endpoint: number;
      query: string;
      addresses: readonly string[];
      untilMs: number;
    },
    isKept: boolean,
  ): void {
    let rows = this.#byEndpoint.get(endpoint);
    if (!rows) this.#byEndpoint.set(endpoint, rows = new Map());
    let row = rows.get(query);
    if (!row) {
      rows.set(query, row = { endpoint, query, addresses: new Map(), kept: new Map(), inUse: new Set() });
      this.#queryCounts.set(query, (this.#queryCounts.get(query) ?? 0) + 1);
    }
    for (const address of addresses) {
      const known = row.addresses.get(address);
      if (known === undefined) this.#count(row, address, 1);
      row.addresses.set(address, Math.max(known ?? 0, untilMs));
      if (isKept) row.kept.set(address, untilMs);
      row.inUse.delete(address);
    }
    const tooMany = row.addresses.size - ADDRESSES_PER_NAME_MAX;
    if (tooMany > 0) this.#evict([row], tooMany);
    const beyond = this.pairsOf(endpoint) - PAIRS_PER_ENDPOINT_MAX;
    if (beyond > 0) this.#evict(rows.values(), Math.max(beyond, PAIRS_PER_ENDPOINT_MAX / GO_PART));
    if (this.#pairs > PAIRS_MAX) {
      const [most] = [...this.#pairCounts].sort(([, a], [, b]) => b - a)[0];
      this.#evict(this.#byEndpoint.get(most)!.values(), Math.ceil(this.pairsOf(most) / GO_PART));
    }
    this.#onRow(row);
  }

  /** Nobody knows these of the name any more. Repeatable. */
  drop({ endpoint, query }: KnownQuery, addresses: Iterable<string>): void {
    const rows = this.#byEndpoint.get(endpoint), row = rows?.get(query);
    if (!rows || !row) return;
    for (const address of addresses) {
      row.inUse.delete(address);
      row.kept.delete(address);
      if (row.addresses.delete(address)) this.#count(row, address, -1);
    }
    this.#tidy(rows, row);
    this.#onRow(row);
  }

  /** An endpoint is gone. */
  forget(endpoint: number): void {
    for (const row of [...this.#byEndpoint.get(endpoint)?.values() ?? []]) {
      this.drop(row, [...row.addresses.keys()]);
    }
  }

  /** Names of which addresses have ended at this time, and these addresses. */
  *ended(nowMs: number): Generator<{ row: KnownQuery; addresses: string[] }> {
    for (const row of this.rows()) {
      const addresses: string[] = [];
      for (const [address, untilMs] of row.addresses) if (untilMs <= nowMs) addresses.push(address);
      if (addresses.length > 0) yield { row, addresses };
    }
  }

  /** These stay, although they have ended, because connections use some of them. */
  keep({ endpoint, query }: KnownQuery, addresses: Iterable<string>): void {
    const row = this.#byEndpoint.get(endpoint)?.get(query);
    if (!row) return;
    const before = row.inUse.size;
    for (const address of addresses) if (row.addresses.has(address)) row.inUse.add(address);
    if (row.inUse.size !== before) this.#onRow(row);
  }

  #evict(rows: Iterable<Row>, count: number): void {
    const all = [...rows].flatMap((row) =>
      Array.from(row.addresses, ([address, untilMs]) => ({ row, address, untilMs }))
    ).sort((a, b) => a.untilMs - b.untilMs);
    const byRow = Map.groupBy(all.slice(0, count), ({ row }) => row);
    for (const [row, gone] of byRow) this.drop(row, gone.map(({ address }) => address));
    this.evicted += Math.min(count, all.length);
  }

  #tidy(rows: Map<string, Row>, row: Row): void {
    if (row.addresses.size > 0) return;
    rows.delete(row.query);
    if (rows.size === 0) this.#byEndpoint.delete(row.endpoint);
    const count = this.#queryCounts.get(row.query)! - 1;
    if (count > 0) this.#queryCounts.set(row.query, count);
    else this.#queryCounts.delete(row.query);
  }

  #count({ endpoint, query }: Row, address: string, by: 1 | -1): void {
    this.#pairs += by;
    const pairs = this.pairsOf(endpoint) + by;
    if (pairs > 0) this.#pairCounts.set(endpoint, pairs);
    else this.#pairCounts.delete(endpoint);
    let queries = this.#queries.get(address);
    if (!queries) this.#queries.set(address, queries = new Map());
    const before = queries.get(query) ?? 0;
    if (before + by > 0) queries.set(query, before + by);
    else queries.delete(query);
    if (queries.size === 0) this.#queries.delete(address);
    if (before === 0 || before + by === 0) this.#onAddress(address);
  }
}
