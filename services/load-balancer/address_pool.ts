/**
 * Pools of addresses for services of type LoadBalancer: which pool may serve which service, and which of its addresses
 * are free.
 * @module
 */
import {
  IpAddress,
  type IpFamily,
  LabelSet,
  makeLabel,
  parseSelectorTerms,
  type Selector,
  SelectorError,
} from "@weir/common";
import type { AddressPool } from "@weir/proto/loadbalancer";
import { type AddressRange, parseRange, rangeHolds, rangesOverlap } from "./address_range.ts";
import type { ServiceSpec } from "./model.ts";

/** Counters of addresses stop here: 2^53. */
const TOTAL_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/** A range, and where to look for a free address: every one before `hint` is taken. */
interface PoolRange extends AddressRange {
  hint: bigint;
}

interface Pool {
  readonly message: AddressPool;
  readonly ranges: PoolRange[];
  /** Undefined where it cannot be read: the pool then serves nobody. */
  readonly selector: Selector | undefined;
  /** Name of the older pool that it overlaps with; such a pool is not used. */
  conflict: string;
}

/** Pools of addresses for services of type LoadBalancer. */
export class PoolTable {
  readonly #pools = new Map<string, Pool>();

  /** Puts or (undefined) deletes a pool. The message was checked when it was stored. */
  set(name: string, message: AddressPool | undefined): void {
    if (message === undefined) this.#pools.delete(name);
    else {
      this.#pools.set(name, {
        message,
        ranges: message.ranges.flatMap((text) => {
          const range = parseRange(text);
          return range === undefined ? [] : [{ ...range, hint: range.first }];
        }),
        selector: readSelector(message.serviceSelector),
        conflict: "",
      });
    }
    this.#findConflicts();
  }

  get size(): number {
    return this.#pools.size;
  }
  messages(): AddressPool[] {
    return [...this.#pools.values()].map((pool) => pool.message);
  }
  has(name: string): boolean {
    return this.#pools.has(name);
  }

  /** Name of the older pool that this one overlaps with, or "". */
  conflictOf(name: string): string {
    return this.#pools.get(name)?.conflict ?? "";
  }

  /** Pools that may serve the service, oldest first. */
  poolsFor(spec: ServiceSpec): { name: string; ranges: readonly PoolRange[] }[] {
    const labels = labelsOf(spec);
    return this.#inOrder().filter((pool) =>
      !pool.message.disabled && pool.conflict === "" && pool.selector?.matches(labels)
    ).map((pool) => ({ name: pool.message.name, ranges: pool.ranges }));
  }

  /** Whether a pool that may serve the service holds the address. */
  holds(spec: ServiceSpec, address: IpAddress): boolean {
    return this.poolsFor(spec).some(({ ranges }) => ranges.some((range) => rangeHolds(range, address)));
  }

  /** The first address of the pools that `isTaken` does not know. What is given back is told by {@link released}. */
  findFree(spec: ServiceSpec, family: IpFamily, isTaken: (address: string) => boolean): string | undefined {
    for (const { ranges } of this.poolsFor(spec)) {
      for (const range of ranges) {
        if (range.family !== family) continue;
        for (; range.hint <= range.last; range.hint++) {
          const { text } = IpAddress.fromBigInt(range.hint, family);
          if (!isTaken(text)) return text;
        }
      }
    }
    return undefined;
  }

  /** An address is free again. */
  released(text: string): void {
    const address = IpAddress.parse(text);
    for (const { ranges } of this.#pools.values()) {
      for (const range of ranges) {
        if (!rangeHolds(range, address)) continue;
        const number = address.toBigInt();
        if (number < range.hint) range.hint = number;
      }
    }
  }

  /** How many addresses a pool has, and how many of `used` are in it. */
  usage(name: string, used: Iterable<string>): { total: number; used: number } {
    const pool = this.#pools.get(name);
    if (pool === undefined) return { total: 0, used: 0 };
    const total = pool.ranges.reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
    let count = 0;
    for (const text of used) {
      const address = IpAddress.parse(text);
      if (pool.ranges.some((range) => rangeHolds(range, address))) count++;
    }
    return { total: Number(total > TOTAL_MAX ? TOTAL_MAX : total), used: count };
  }

  #inOrder(): Pool[] {
    return [...this.#pools.values()].sort((a, b) =>
      a.message.createdUnixS - b.message.createdUnixS || (a.message.name < b.message.name ? -1 : 1)
    );
  }

  #findConflicts(): void {
    const used: Pool[] = [];
    for (const pool of this.#inOrder()) {
      const other = used.find((other) =>
        other.ranges.some((a) => pool.ranges.some((b) => rangesOverlap(a, b)))
      );
      pool.conflict = other?.message.name ?? "";
      if (other === undefined) used.push(pool);
    }
  }
}

function readSelector(terms: readonly string[]): Selector | undefined {
  try {
    return parseSelectorTerms(terms);
  } catch (error) {
    if (error instanceof SelectorError) return undefined;
    throw error;
  }
}

/** What a pool's selector may ask of a service: its labels, and its name and namespace under Cilium's keys. */
function labelsOf(spec: ServiceSpec): LabelSet {
  const texts = {
    ...spec.labels,
    "io.kubernetes.service.namespace": spec.namespace,
    "io.kubernetes.service.name": spec.name,
  };
  return LabelSet.from(
    Object.entries(texts).flatMap(([key, value]) => {
      try {
        return [makeLabel("k8s", key, value)];
      } catch {
        return []; // a label that no selector can name
      }
    }),
  );
}
