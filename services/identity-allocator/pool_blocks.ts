/**
 * Blocks of named pools that nodes have, within one transaction of the store: a node says how many addresses it needs of a pool,
 * and gets blocks until it has them. What cannot be given is said, and keeps no node from registering.
 * @module
 */
import { sql } from "kysely";
import type { Node, NodePool, PodPool } from "@weir/proto/identity";
import { invalidArgument, type IpFamily, Prefix } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import { fetchTaken, overlap } from "./pod_cidrs.ts";
import { familyOfPool, POD_POOLS, POOL_BLOCKS_MAX } from "./pod_pools.ts";

/** Pools of which one node may have blocks, blocks of one pool and family, and addresses that it may ask for. */
export const POOLS_PER_NODE_MAX = 16;
export const BLOCKS_PER_NODE_MAX = 64;
const NEEDED_MAX = 8_192;

interface Block {
  readonly pool: string;
  readonly prefix: Prefix;
}

/**
 * The blocks that the node has from now on: those that it has, less what it gives back, those that it says it has and nobody else
 * does, and as many more as it needs.
 * @throws {ProblemError} INVALID_ARGUMENT
 */
export async function settleBlocks(store: StoreTransaction, node: string, given: Node): Promise<NodePool[]> {
  const names = new Set([...given.requestedPools, ...given.pools].map(({ pool }) => pool));
  check(given, names);
  const { rows } = await sql<{ cidr: string; pool: string }>`
    select cidr, pool from weir_pool_block where node = ${node}`.execute(store.tx);
  const blocks: Block[] = rows.map(({ cidr, pool }) => ({ pool, prefix: Prefix.parse(cidr) }));
  if (blocks.length === 0 && names.size === 0) return [];
  const errors = new Map<string, string>();
  const released = new Set(given.releasedCidrs.map((text) => Prefix.tryParse(text)?.text));
  const own = blocks.filter(({ prefix }) => !released.has(prefix.text));
  for (const { prefix } of blocks) {
    if (released.has(prefix.text)) {
      await sql`delete from weir_pool_block where cidr = ${prefix.text} and node = ${node}`.execute(store.tx);
    }
  }
  const pools = new Map<string, PodPool>();
  for (const name of new Set([...names, ...own.map(({ pool }) => pool)])) {
    const pool = await store.get<PodPool>(POD_POOLS, name);
    if (pool !== undefined) pools.set(name, pool);
  }
  const taken = new Taken(store);
  for (const { pool: name, cidrs } of given.pools) {
    for (const text of cidrs) {
      const prefix = Prefix.tryParse(text, { bare: false });
      if (
        prefix === undefined || released.has(prefix.text) ||
        own.some((one) => one.prefix.text === prefix.text)
      ) {
        continue;
      }
      const pool = pools.get(name);
      const clash = pool === undefined ? undefined : await taken.clash(prefix);
      if (pool === undefined || !isBlockOf(pool, prefix)) {
        errors.set(name, `${prefix.text} is no block of pool ${name}`);
      } else if (clash !== undefined) errors.set(name, `${prefix.text} belongs to node ${clash}`);
      else own.push(await insert(store, taken, { node, pool: name, prefix }));
    }
  }
  for (const { pool: name, neededV4, neededV6 } of given.requestedPools) {
    for (const [family, needed] of [[4, neededV4], [6, neededV6]] as const) {
      const why = await give(store, taken, { node, name, pool: pools.get(name), family, needed, own });
      if (why !== "") errors.set(name, why);
    }
  }
  return [...new Set([...names, ...own.map(({ pool }) => pool)])].sort().map((pool): NodePool => ({
    pool,
    cidrs: own.filter((one) => one.pool === pool).map(({ prefix }) => prefix.text).sort(),
    error: errors.get(pool) ?? "",
    families: familiesOf(pools.get(pool)),
  } as NodePool));
}

/** Frees what a node has. */
export async function releaseBlocks(store: StoreTransaction, node: string): Promise<void> {
  await sql`delete from weir_pool_block where node = ${node}`.execute(store.tx);
}

/** Gives blocks until the node has what it needs; answers why it does not get there. */
async function give(
  store: StoreTransaction,
  taken: Taken,
  { node, name, pool, family, needed, own }: {
    node: string;
    name: string;
    pool: PodPool | undefined;
    family: IpFamily;
    needed: number;
    own: Block[];
  },
): Promise<string> {
  const has = () => own.filter((one) => one.pool === name && one.prefix.family === family);
  const enough = () => has().reduce((sum, { prefix }) => sum + usableOf(prefix), 0) >= needed;
  if (enough()) return "";
  if (pool === undefined) return `there is no pool ${name}`;
  const { cidrs, length } = familyOfPool(pool, family);
  if (cidrs.length === 0) return "";
  while (!enough()) {
    const count = has().length;
    if (count >= BLOCKS_PER_NODE_MAX) {
      return `node ${node} has ${count} of ${BLOCKS_PER_NODE_MAX} blocks of pool ${name}`;
    }
    const prefix = await firstFree(taken, cidrs, length);
    if (prefix === undefined) {
      return `every /${length} of ${cidrs.map(({ text }) => text).join(", ")} (pool ${name}) is taken`;
    }
    own.push(await insert(store, taken, { node, pool: name, prefix }));
  }
  return "";
}

async function firstFree(
  taken: Taken,
  cidrs: readonly Prefix[],
  length: number,
): Promise<Prefix | undefined> {
  for (const cidr of cidrs) {
    // Most of what nodes have lies elsewhere, or is a block of this pool.
    const { exact, odd } = await taken.within(cidr, length);
    const step = 1n << BigInt(cidr.address.bits - length);
    const count = Math.min(2 ** (length - cidr.length), POOL_BLOCKS_MAX);
    for (let index = 0; index < count; index++) {
      const candidate = Prefix.of(cidr.address.add(step * BigInt(index)), length);
      if (!exact.has(candidate.text) && !odd.some((prefix) => overlap(prefix, candidate))) return candidate;
    }
  }
  return undefined;
}

/** Prefixes that nodes have, read once in a transaction. */
class Taken {
  readonly #store: StoreTransaction;
  readonly #byFamily = new Map<
    IpFamily,
    { exact: Map<string, string>; rows: { prefix: Prefix; node: string }[] }
  >();

  constructor(store: StoreTransaction) {
    this.#store = store;
  }

  /** The node that has it, or a part of it, or more. */
  async clash(prefix: Prefix): Promise<string | undefined> {
    const { exact, rows } = await this.#of(prefix.family);
    return exact.get(prefix.text) ??
      rows.find((row) => row.prefix.length !== prefix.length && overlap(row.prefix, prefix))?.node;
  }

  /** What is taken of a prefix: by text, and those of another length than a block's. */
  async within(cidr: Prefix, length: number): Promise<{ exact: ReadonlyMap<string, string>; odd: Prefix[] }> {
    const { exact, rows } = await this.#of(cidr.family);
    const odd = rows.map(({ prefix }) => prefix).filter((one) => one.length !== length && overlap(one, cidr));
    return { exact, odd };
  }

  async add(prefix: Prefix, node: string): Promise<void> {
    const { exact, rows } = await this.#of(prefix.family);
    exact.set(prefix.text, node);
    rows.push({ prefix, node });
  }

  async #of(family: IpFamily) {
    let found = this.#byFamily.get(family);
    if (found === undefined) {
      const rows = await fetchTaken(this.#store, family);
      found = { rows, exact: new Map(rows.map(({ prefix, node }) => [prefix.text, node])) };
      this.#byFamily.set(family, found);
    }
    return found;
  }
}

async function insert(
  store: StoreTransaction,
  taken: Taken,
  { node, pool, prefix }: { node: string; pool: string; prefix: Prefix },
): Promise<Block> {
  await sql`insert into weir_pool_block (cidr, node, pool, family)
    values (${prefix.text}, ${node}, ${pool}, ${prefix.family})`.execute(store.tx);
  await taken.add(prefix, node);
  return { pool, prefix };
}

function familiesOf(pool: PodPool | undefined): IpFamily[] {
  const { cidrsV4 = [], cidrsV6 = [] } = pool ?? {};
  return [...cidrsV4.length > 0 ? [4 as const] : [], ...cidrsV6.length > 0 ? [6 as const] : []];
}

function isBlockOf(pool: PodPool, prefix: Prefix): boolean {
  const { cidrs, length } = familyOfPool(pool, prefix.family);
  return prefix.length === length && cidrs.some((cidr) => cidr.contains(prefix));
}

/** Addresses of a block that endpoints can have: not the network's, the first, and for IPv4 the last. */
export function usableOf(prefix: Prefix): number {
  const count = 2 ** (prefix.address.bits - prefix.length);
  return count - (prefix.family === 4 ? 3 : 2);
}

function check({ requestedPools, pools }: Node, names: ReadonlySet<string>): void {
  const needed = Math.max(0, ...requestedPools.flatMap(({ neededV4, neededV6 }) => [neededV4, neededV6]));
  const blocks = Math.max(0, ...pools.map(({ cidrs }) => cidrs.length));
  if (names.size <= POOLS_PER_NODE_MAX && needed <= NEEDED_MAX && blocks <= 2 * BLOCKS_PER_NODE_MAX) return;
  throw invalidArgument("Cannot take the node: it asks for too much of the pools", {
    found: `${names.size} pools, ${needed} addresses, ${blocks} blocks`,
    expected:
      `at most ${POOLS_PER_NODE_MAX} pools, ${NEEDED_MAX} addresses and ${BLOCKS_PER_NODE_MAX} blocks of a family`,
  });
}
