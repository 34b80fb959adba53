/** Pod CIDRs of nodes, within one transaction of the store: each belongs to one node, and none overlaps with another. @module */
import { sql } from "kysely";
import { invalidArgument, type IpFamily, Prefix, ProblemError } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AllocatorParts } from "./config.ts";

/** Prefixes of a pool that are counted at most. */
const POOL_COUNT_MAX = 2 ** 24;

interface Pool {
  readonly prefix: Prefix;
  /** Length of one pod CIDR. */
  readonly length: number;
  readonly count: number;
  /** Where the next search begins: nothing before it is free, for all that this process knows. */
  next: number;
}

/** Gives nodes their pod CIDRs. One for each process: it remembers where the free ones begin. */
export class PodCidrs {
  readonly #pools: Record<IpFamily, Pool | undefined>;

  constructor({ config }: AllocatorParts) {
    this.#pools = {
      4: poolOf(config.podPoolV4, config.podLengthV4),
      6: poolOf(config.podPoolV6, config.podLengthV6),
    };
  }

  /**
   * The pod CIDR of a node: the one it wants; when that is "", the one it has, else the first free one of the pool.
   * @throws {ProblemError} POD_CIDR_TAKEN, POD_CIDRS_EXHAUSTED, INVALID_ARGUMENT
   */
  async give(store: StoreTransaction, node: string, wanted: string, family: IpFamily): Promise<string> {
    const own = await sql<{ cidr: string }>`
      select cidr from weir_pod_cidr where node = ${node} and family = ${family}`.execute(store.tx);
    const has = own.rows[0]?.cidr;
    if (wanted === "") return has ?? await this.#takeFree(store, node, family);
    const prefix = Prefix.tryParse(wanted, { bare: false });
    if (prefix?.family !== family) {
      throw invalidArgument("Cannot take the node: its pod CIDR is wrong", {
        found: wanted,
        expected: `an IPv${family} prefix`,
      });
    }
    if (prefix.text === has) return has;
    const clash = (await fetchTaken(store, family)).find((row) =>
      row.node !== node && overlap(row.prefix, prefix)
    );
    if (clash !== undefined) {
      throw new ProblemError("POD_CIDR_TAKEN", {
        status: 409,
        detail:
          `Cannot give ${prefix.text} to node ${node}: it overlaps with ${clash.prefix.text} of node ${clash.node}`,
        found: `${clash.prefix.text} of ${clash.node}`,
        expected: "a prefix of its own",
        action: "Leave the pod CIDR empty to get a free one",
      });
    }
    if (has !== undefined) await this.#free(store, has);
    await insert(store, node, prefix.text, family);
    return prefix.text;
  }

  /** Frees what a node has. */
  async release(store: StoreTransaction, node: string): Promise<void> {
    const { rows } = await sql<{ cidr: string }>`
      select cidr from weir_pod_cidr where node = ${node}`.execute(store.tx);
    for (const { cidr } of rows) await this.#free(store, cidr);
  }

  /** Forgets what this process knows of free ones: the database is another one. */
  reset(): void {
    for (const pool of Object.values(this.#pools)) if (pool) pool.next = 0;
  }

  async #free(store: StoreTransaction, cidr: string): Promise<void> {
    await sql`delete from weir_pod_cidr where cidr = ${cidr}`.execute(store.tx);
    const prefix = Prefix.parse(cidr), pool = this.#pools[prefix.family];
    if (pool?.prefix.contains(prefix)) pool.next = Math.min(pool.next, indexOf(pool, prefix));
  }

  async #takeFree(store: StoreTransaction, node: string, family: IpFamily): Promise<string> {
    const pool = this.#pools[family];
    if (pool === undefined) return "";
    const near = await this.#firstFreeNear(store, pool, family);
    const index = near ?? await firstFree(store, pool, family);
    if (index === undefined) throw exhausted(node, pool);
    pool.next = index + 1;
    const { text } = cidrAt(pool, index);
    await insert(store, node, text, family);
    return text;
  }

  /** The next one, when it is free: then nobody has to read what all nodes have. */
  async #firstFreeNear(store: StoreTransaction, pool: Pool, family: IpFamily): Promise<number | undefined> {
    if (pool.next === 0 || pool.next >= pool.count) return undefined;
    const candidate = cidrAt(pool, pool.next);
    const { rows } = await sql<{ cidr: string }>`
      select cidr from weir_pod_cidr where cidr = ${candidate.text}
      union all select cidr from weir_pod_cidr
        where family = ${family} and cidr not like ${`%/${pool.length}`}
      union all select cidr from weir_pool_block where family = ${family}`.execute(store.tx);
    return rows.some(({ cidr }) => overlap(Prefix.parse(cidr), candidate)) ? undefined : pool.next;
  }
}

async function firstFree(store: StoreTransaction, pool: Pool, family: IpFamily): Promise<number | undefined> {
  const taken = await fetchTaken(store, family);
  const exact = new Set(taken.map(({ prefix }) => prefix.text));
  // Prefixes that were asked for by hand may have another length.
  const odd = taken.filter(({ prefix }) => prefix.length !== pool.length);
  for (let index = 0; index < pool.count; index++) {
    const candidate = cidrAt(pool, index);
    if (exact.has(candidate.text) || odd.some(({ prefix }) => overlap(prefix, candidate))) continue;
    return index;
  }
  return undefined;
}

function poolOf(text: string, length: number): Pool | undefined {
  if (text === "") return undefined;
  const prefix = Prefix.parse(text);
  return { prefix, length, count: Math.min(2 ** (length - prefix.length), POOL_COUNT_MAX), next: 0 };
}

function cidrAt(pool: Pool, index: number): Prefix {
  const step = 1n << BigInt(pool.prefix.address.bits - pool.length);
  return Prefix.of(pool.prefix.address.add(step * BigInt(index)), pool.length);
}

/** Index of the pool's prefix that has the address of `inside`. */
function indexOf(pool: Pool, inside: Prefix): number {
  let index = 0;
  for (let bit = pool.prefix.length; bit < pool.length; bit++) {
    index = index * 2 + ((inside.address.byteAt(bit >> 3) >> (7 - (bit & 7))) & 1);
  }
  return Math.min(index, pool.count);
}

/** Whether some address is in both. */
export function overlap(one: Prefix, other: Prefix): boolean {
  return one.contains(other) || other.contains(one);
}

/** Every prefix that some node has for its pods: of the cluster's pool, and of named ones. */
export async function fetchTaken(
  store: StoreTransaction,
  family: IpFamily,
): Promise<{ prefix: Prefix; node: string }[]> {
  const { rows } = await sql<{ cidr: string; node: string }>`
    select cidr, node from weir_pod_cidr where family = ${family}
    union all select cidr, node from weir_pool_block where family = ${family}`.execute(store.tx);
  return rows.map(({ cidr, node }) => ({ prefix: Prefix.parse(cidr), node }));
}

async function insert(store: StoreTransaction, node: string, cidr: string, family: IpFamily): Promise<void> {
  await sql`insert into weir_pod_cidr (cidr, node, family) values (${cidr}, ${node}, ${family})`.execute(
    store.tx,
  );
}

function exhausted(node: string, { prefix, count }: Pool): ProblemError {
  return new ProblemError("POD_CIDRS_EXHAUSTED", {
    status: 507,
    detail: `Cannot give node ${node} a pod CIDR: all ${count} of ${prefix.text} are taken`,
    found: count,
    expected: `fewer than ${count} nodes`,
    action: "Delete nodes that are gone, or configure a larger pool",
  });
}
