/** Named pools of addresses for pods: what people put, and how much of each is in use. @module */
import { type Kysely, sql } from "kysely";
import { PodPool } from "@weir/proto/identity";
import { invalidArgument, type IpFamily, Prefix, ProblemError } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import { overlap } from "./pod_cidrs.ts";

/** Name of the watched collection. */
export const POD_POOLS = "podpools";
/** Pools of one cluster, prefixes of one pool and family, and blocks of a pool that are counted. */
export const POD_POOLS_MAX = 1_024;
const CIDRS_MAX = 64;
export const POOL_BLOCKS_MAX = 2 ** 24;
/** A longer block has no address beside those that are left alone. */
const LENGTH_MAX: Readonly<Record<IpFamily, number>> = { 4: 30, 6: 126 };
const NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;

/** What a pool has of one family. */
export function familyOfPool(pool: PodPool, family: IpFamily): { cidrs: Prefix[]; length: number } {
  const [cidrs, length] = family === 4 ? [pool.cidrsV4, pool.lengthV4] : [pool.cidrsV6, pool.lengthV6];
  return { cidrs: cidrs.map((text) => Prefix.parse(text)), length };
}

/**
 * Upsert of a pool in canonical form.
 * @param options.others the pools that there are; the one of this name does not count
 * @throws {ProblemError} INVALID_ARGUMENT, POD_POOL_OVERLAPS
 */
export async function putPodPool(
  store: StoreTransaction,
  { name, given, others }: { name: string; given: PodPool; others: readonly PodPool[] },
): Promise<PodPool> {
  if (!NAME.test(name)) {
    throw invalidArgument("Cannot take this name of a pool of pods", {
      found: name.slice(0, 80),
      expected: "at most 63 lower case letters, digits, - and .",
    });
  }
  const pool = PodPool.create({
    name,
    cidrsV4: readCidrs(given.cidrsV4, given.lengthV4, 4),
    lengthV4: given.lengthV4,
    cidrsV6: readCidrs(given.cidrsV6, given.lengthV6, 6),
    lengthV6: given.lengthV6,
    file: given.file,
  });
  if (pool.cidrsV4.length + pool.cidrsV6.length === 0) {
    throw invalidArgument(`Cannot take pool ${name}: it has no prefix`, { expected: "cidrs of some family" });
  }
  const own = prefixesOf(pool);
  const twice = own.find((one, at) => own.slice(0, at).some((other) => overlap(one, other)));
  if (twice !== undefined) throw overlaps(name, twice.text, `another prefix of it`);
  for (const other of others) {
    if (other.name === name) continue;
    const theirs = prefixesOf(other);
    const clash = own.find((one) => theirs.some((prefix) => overlap(one, prefix)));
    if (clash !== undefined) throw overlaps(name, clash.text, `pool ${other.name}`);
  }
  const before = await store.get<PodPool>(POD_POOLS, name);
  if (JSON.stringify(before) !== JSON.stringify(pool)) await store.put(POD_POOLS, name, pool);
  return pool;
}

/** Blocks that nodes have, by "pool family". */
export async function fetchUsedBlocks(kysely: Kysely<unknown>): Promise<Map<string, number>> {
  const { rows } = await sql<{ pool: string; family: number; used: number }>`
    select pool, family, count(*) as used from weir_pool_block group by pool, family`.execute(kysely);
  return new Map(rows.map(({ pool, family, used }) => [`${pool} ${family}`, Number(used)]));
}

/** The pool with what {@link fetchUsedBlocks} says of it. */
export function withUsage(pool: PodPool, used: ReadonlyMap<string, number>): PodPool {
  const blocks = (family: IpFamily) => {
    const { cidrs, length } = familyOfPool(pool, family);
    return cidrs.reduce((sum, cidr) => Math.min(POOL_BLOCKS_MAX, sum + 2 ** (length - cidr.length)), 0);
  };
  return {
    ...pool,
    status: {
      blocksV4: blocks(4),
      usedV4: used.get(`${pool.name} 4`) ?? 0,
      blocksV6: blocks(6),
      usedV6: used.get(`${pool.name} 6`) ?? 0,
    },
  };
}

function readCidrs(texts: readonly string[], length: number, family: IpFamily): string[] {
  if (texts.length > CIDRS_MAX) {
    throw invalidArgument("Cannot take the pool: it has too many prefixes", {
      found: texts.length,
      expected: `at most ${CIDRS_MAX} of a family`,
    });
  }
  return texts.map((text) => {
    const prefix = Prefix.tryParse(text, { bare: false });
    if (prefix?.family !== family) {
      throw invalidArgument("Cannot take the pool: one of its prefixes is none", {
        found: text.slice(0, 80),
        expected: `an IPv${family} prefix`,
      });
    }
    if (length < prefix.length || length > LENGTH_MAX[family]) {
      throw invalidArgument(
        `Cannot take the pool: its blocks of IPv${family} do not fit into ${prefix.text}`,
        {
          found: `/${length}`,
          expected: `/${prefix.length} to /${LENGTH_MAX[family]}`,
        },
      );
    }
    return prefix.text;
  });
}

function prefixesOf({ cidrsV4, cidrsV6 }: PodPool): Prefix[] {
  return [...cidrsV4, ...cidrsV6].map((text) => Prefix.parse(text));
}

function overlaps(name: string, prefix: string, other: string): ProblemError {
  return new ProblemError("POD_POOL_OVERLAPS", {
    status: 409,
    detail: `Cannot take pool ${name}: ${prefix} overlaps with ${other}`,
    found: prefix,
    expected: "prefixes of its own",
  });
}
