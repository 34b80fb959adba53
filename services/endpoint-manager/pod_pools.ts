/**
 * Named pools of addresses on this node: the blocks that the cluster gave it, who has which address, and how many more are
 * needed. A pool is asked for with the first endpoint that names it; blocks that nobody uses any more go back.
 *
 *     endpoint of pool "edge" ─▶ address of a block ─┬─ few are left ─▶ the node asks for more (NodeRegistration)
 *                                                    └─ a block is empty for a minute, and not needed ─▶ given back
 *
 * @module
 */
import { type Clock, IpAddress, type IpFamily } from "@weir/common";
import { AddressBlock } from "@weir/proto/endpoint";
import type { NodePool, PoolRequest } from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import { IpamError, PodAddresses } from "./ipam.ts";

/** Addresses that are asked for beyond those in use, and how few may be left before that is done. */
export const PREALLOCATED = 8;
const FEW = PREALLOCATED / 2;
/** A block that was used a moment ago rests, milliseconds. */
export const BLOCK_REST_MS = 60_000;

interface Block {
  readonly addresses: PodAddresses;
  /** Since when nobody has an address of it; undefined: somebody has. */
  emptySinceMs: number | undefined;
  /** It is being given back. */
  closing: boolean;
}

interface Pool {
  readonly blocks: Map<string, Block>;
  /** The directory has answered for it. */
  known: boolean;
  /** Why there is less than is needed. */
  error: string;
  /** Of which the pool has prefixes, as far as the directory says. */
  families: readonly number[];
  /** When an endpoint found no address last, by family; undefined: there are some now. */
  lacking: Record<IpFamily, number | undefined>;
}

/** For how long it counts that an endpoint found no address: one that still wants one tries again sooner, milliseconds. */
const LACKING_MS_MAX = 300_000;

/** The pools of this node. */
export class PodPools {
  readonly #pools = new Map<string, Pool>();
  readonly #clock: Clock;
  readonly #onNeed: () => void;

  /** @param parts.onNeed the directory is to be asked */
  constructor(parts: { clock: Clock; onNeed: () => void }) {
    this.#clock = parts.clock;
    this.#onNeed = parts.onNeed;
  }

  /** Blocks as the directory gives them. One that is gone, and in use, stays until it is not. */
  take(pools: readonly NodePool[]): void {
    const given = new Map(pools.map((pool) => [pool.pool, pool]));
    for (const [name, { cidrs, error, families }] of given) {
      const pool = this.#poolOf(name);
      pool.known = true;
      pool.error = error;
      pool.families = families;
      for (const cidr of cidrs) {
        if (pool.blocks.has(cidr)) continue;
        pool.blocks.set(cidr, {
          addresses: new PodAddresses(cidr),
          emptySinceMs: this.#now(),
          closing: false,
        });
      }
    }
    for (const pool of this.#pools.values()) {
      for (const family of [4, 6] as const) {
        if (freeOf(blocksOf(pool, family)) > 0) pool.lacking[family] = undefined;
      }
    }
    for (const [name, { blocks }] of this.#pools) {
      for (const [cidr, { addresses }] of blocks) {
        if (addresses.used === 0 && !given.get(name)?.cidrs.includes(cidr)) blocks.delete(cidr);
      }
    }
  }

  /** What the directory is to be asked for. */
  requests(): Init<PoolRequest>[] {
    for (const { lacking } of this.#pools.values()) {
      for (const family of [4, 6] as const) {
        if (this.#now() - (lacking[family] ?? Infinity) > LACKING_MS_MAX) lacking[family] = undefined;
      }
    }
    return [...this.#pools].map(([pool, state]) => ({
      pool,
      neededV4: neededOf(state, 4),
      neededV6: neededOf(state, 6),
    })).filter(({ neededV4, neededV6 }) => neededV4 + neededV6 > 0);
  }

  /** Blocks that are given back from now on; {@link keep} takes that back. */
  release(): string[] {
    const released: string[] = [];
    for (const pool of this.#pools.values()) {
      for (const [cidr, block] of pool.blocks) {
        if (!block.closing && !this.#isSpare(pool, block)) continue;
        block.closing = true;
        released.push(cidr);
      }
    }
    return released;
  }

  /** Nothing was given back. */
  keep(): void {
    for (const { blocks } of this.#pools.values()) for (const block of blocks.values()) block.closing = false;
  }

  /** Whether the directory is to be asked again: for what it could not give, or because blocks rest unused. */
  get isDue(): boolean {
    return [...this.#pools.values()].some((pool) =>
      pool.error !== "" ||
      [...pool.blocks.values()].some((block) => block.closing || this.#isSpare(pool, block))
    );
  }

  /**
   * The next free address of a pool, now `owner`'s; undefined: the pool has none of this family.
   * @throws {IpamError} IPAM_EXHAUSTED; the directory is asked for more
   */
  allocate(name: string, family: IpFamily, owner: string): IpAddress | undefined {
    const pool = this.#poolOf(name);
    const blocks = blocksOf(pool, family).filter(({ closing }) => !closing);
    for (const block of blocks) {
      if (isFull(block)) continue;
      const address = block.addresses.allocate(owner);
      block.emptySinceMs = undefined;
      if (freeOf(blocks) < FEW) this.#onNeed();
      return address;
    }
    if (pool.families.length > 0 && !pool.families.includes(family)) return undefined;
    pool.lacking[family] = this.#now();
    this.#onNeed();
    throw new IpamError(
      "IPAM_EXHAUSTED",
      `Cannot give ${owner} an IPv${family} address of pool ${name}: ${this.#whyNone(name, pool, blocks)}`,
    );
  }

  /** Takes a certain address, if a block has it; repeatable for one owner. @throws {IpamError} IPAM_TAKEN, IPAM_OUTSIDE */
  claim(name: string, address: IpAddress, owner: string): void {
    const block = [...this.#poolOf(name).blocks.values()].find(({ addresses }) =>
      addresses.prefix.contains(address)
    );
    if (block === undefined) return;
    block.addresses.claim(address, owner);
    block.emptySinceMs = undefined;
    block.closing = false;
  }

  /** Frees an address if `owner` has it. Repeatable. */
  free(text: string, owner: string): void {
    const address = IpAddress.tryParse(text);
    if (address === undefined) return;
    for (const { blocks } of this.#pools.values()) {
      for (const block of blocks.values()) {
        if (!block.addresses.prefix.contains(address)) continue;
        block.addresses.release(text, owner);
        if (block.addresses.used === 0) block.emptySinceMs ??= this.#now();
      }
    }
  }

  /** How each block is used, and what is lacking. */
  usage(): AddressBlock[] {
    return [...this.#pools].flatMap(([pool, state]) => {
      const { blocks } = state;
      // While there are enough for now, that there are no more is nobody's trouble.
      const error = ([4, 6] as const).some((family) => isShort(state, family)) ? state.error : "";
      const rows = [...blocks.values()].map(({ addresses }) => addressBlock(addresses, pool, error));
      return rows.length > 0 || error === ""
        ? rows
        : [AddressBlock.create({ name: `pool:${pool}`, pool, error })];
    });
  }

  #whyNone(name: string, pool: Pool, blocks: readonly Block[]): string {
    if (!pool.known) return `the control plane has given this node no block of ${name} yet`;
    const used = blocks.reduce((sum, { addresses }) => sum + addresses.used, 0);
    const has = blocks.length === 0
      ? "this node has no block of it"
      : `all ${used} of this node's are in use`;
    return pool.error === "" ? has : `${has}, and ${pool.error}`;
  }

  #poolOf(name: string): Pool {
    let pool = this.#pools.get(name);
    if (pool === undefined) {
      this.#pools.set(
        name,
        pool = {
          blocks: new Map(),
          known: false,
          error: "",
          families: [],
          lacking: { 4: undefined, 6: undefined },
        },
      );
    }
    return pool;
  }

  /** Empty for long enough, and the others have what is needed. */
  #isSpare(pool: Pool, block: Block): boolean {
    const { emptySinceMs, addresses: { prefix: { family } } } = block;
    if (emptySinceMs === undefined || this.#now() - emptySinceMs < BLOCK_REST_MS) return false;
    const others = blocksOf(pool, family).filter((one) => one !== block && !one.closing);
    const used = others.reduce((sum, { addresses }) => sum + addresses.used, 0);
    return used === 0 ? neededOf(pool, family) === 0 : freeOf(others) >= 2 * PREALLOCATED;
  }

  #now(): number {
    return this.#clock.monotonicMs();
  }
}

/** Addresses that are in use, and some more; 0: none is used. */
function neededOf(pool: Pool, family: IpFamily): number {
  const used = blocksOf(pool, family).reduce((sum, { addresses }) => sum + addresses.used, 0);
  const isWanted = used > 0 || pool.lacking[family] !== undefined;
  return isWanted ? used + PREALLOCATED : 0;
}

function blocksOf(pool: Pool, family: IpFamily): Block[] {
  return [...pool.blocks.values()].filter(({ addresses }) => addresses.prefix.family === family);
}

function isShort(pool: Pool, family: IpFamily): boolean {
  return neededOf(pool, family) > 0 && freeOf(blocksOf(pool, family)) < FEW;
}

function isFull({ addresses }: Block): boolean {
  return BigInt(addresses.used) >= addresses.usableMax;
}

function freeOf(blocks: readonly Block[]): number {
  return blocks.reduce((sum, { addresses }) => sum + Number(addresses.usableMax) - addresses.used, 0);
}

/** A prefix of addresses as people see it. */
export function addressBlock({ prefix, used, usableMax }: PodAddresses, pool = "", error = ""): AddressBlock {
  const usable = Number(usableMax < 0xffff_ffffn ? usableMax : 0xffff_ffffn);
  return AddressBlock.create({ name: prefix.text, pool, used, usable, error });
}
