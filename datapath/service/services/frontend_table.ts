/**
 * The frontends in the kernel, and who has a claim to each: of two services that want one address and port the one that
 * came first has it, and the other waits until it goes.
 *
 * @module
 */
import { type BpfMap, u32 } from "@weir/loader";
import { type Bytes, Frontend, FrontendKey, State } from "@weir/maps";
import { hex } from "../kernel/addresses.ts";
import type { MapWrites } from "../kernel/map_writes.ts";
import type { ServiceMaps } from "../kernel/service_maps.ts";

/** The frontends in the kernel, and who has a claim to each. Keys and values are hex of their bytes. */
export class FrontendTable {
  readonly entriesMax: number;
  readonly #present = new Map<string, string>();
  /** Keys of the process before by service, until their service is looked at. */
  readonly #found = new Map<number, string[]>();
  /** Services by key, oldest first. */
  readonly #claims = new Map<string, number[]>();
  readonly #map: BpfMap;
  readonly #state: BpfMap;
  readonly #writes: MapWrites;

  constructor({ frontends: map, state }: Pick<ServiceMaps, "frontends" | "state">, writes: MapWrites) {
    this.#map = map;
    this.#state = state;
    this.#writes = writes;
    this.entriesMax = map.info.entriesMax;
    const { keys, values, count } = map.packed();
    for (let i = 0; i < count; i++) {
      const key = hex(keys.subarray(i * FrontendKey.bytes, (i + 1) * FrontendKey.bytes));
      this.#present.set(key, hex(values.subarray(i * Frontend.bytes, (i + 1) * Frontend.bytes)));
      const { service } = Frontend.decode(values, i * Frontend.bytes);
      const found = this.#found.get(service);
      if (found === undefined) this.#found.set(service, [key]);
      else found.push(key);
      // Who has it in the kernel had it first.
      this.#claims.set(key, [service]);
    }
    // The process before may have ended between a change and its revision.
    this.#revise();
  }

  get size(): number {
    return this.#present.size;
  }
  get room(): number {
    return this.entriesMax - this.#present.size;
  }
  /** Slots that a frontend names. */
  get slots(): Set<number> {
    const slots = new Set<number>();
    for (const value of this.#present.values()) {
      for (const slot of frontendOf(value).selections) if (slot !== 0) slots.add(slot);
    }
    return slots;
  }

  has(key: string): boolean {
    return this.#present.has(key);
  }
  get(key: string): Frontend | undefined {
    const value = this.#present.get(key);
    return value === undefined ? undefined : frontendOf(value);
  }

  /** Takes over what the process before left of a service. */
  adopt(service: number): string[] {
    const found = this.#found.get(service) ?? [];
    this.#found.delete(service);
    return found;
  }
  /** True when the process before left frontends of a service, and nobody took them over. */
  finds(service: number): boolean {
    return this.#found.has(service);
  }
  /** Services of the process before that were not looked at. */
  get unadopted(): Iterable<number> {
    return this.#found.keys();
  }

  /** Says that a service wants a frontend. @returns who has it */
  claim(key: string, service: number): number {
    const claims = this.#claims.get(key);
    if (claims === undefined) this.#claims.set(key, [service]);
    else if (!claims.includes(service)) claims.push(service);
    return claims?.[0] ?? service;
  }

  /** A service wants it no longer. @returns who has it now, if that is somebody else than before */
  unclaim(key: string, service: number): number | undefined {
    const claims = this.#claims.get(key) ?? [];
    const left = claims.filter((claimant) => claimant !== service);
    if (left.length === 0) this.#claims.delete(key);
    else this.#claims.set(key, left);
    return claims[0] === service ? left[0] : undefined;
  }

  /** Writes what differs from what is there. */
  put(entries: ReadonlyMap<string, Frontend>): void {
    const changed: [string, string][] = [];
    for (const [key, frontend] of entries) {
      const value = hex(Frontend.encode(frontend));
      if (this.#present.get(key) !== value) changed.push([key, value]);
    }
    if (changed.length === 0) return;
    this.#writes.before();
    try {
      this.#writes.add(
        this.#map.updateBatch(changed.map(([key, value]) => [bytesOfHex(key), bytesOfHex(value)])),
      );
    } finally {
      this.#revise();
    }
    for (const [key, value] of changed) this.#present.set(key, value);
  }

  /** Every frontend leads to nobody. */
  clearSlots(): void {
    const entries = [...this.#present].map(([key, value]): [string, Frontend] => [key, frontendOf(value)]);
    this.put(new Map(entries.map(([key, frontend]) => [key, { ...frontend, selections: [0, 0] }])));
  }

  delete(keys: Iterable<string>): void {
    const present = [...keys].filter((key) => this.#present.has(key));
    if (present.length === 0) return;
    this.#writes.before();
    try {
      this.#writes.add(this.#map.deleteBatch(present.map(bytesOfHex)));
    } finally {
      this.#revise();
    }
    for (const key of present) this.#present.delete(key);
  }

  /** Known flows look at their frontend again: it may be another service's. */
  #revise(): void {
    const state = State.decode(this.#state.lookup(u32(0))!);
    this.#state.update(
      u32(0),
      State.encode({ ...state, frontendsRevision: state.frontendsRevision + 1 >>> 0 }),
    );
  }
}

function frontendOf(value: string): Frontend {
  return Frontend.decode(bytesOfHex(value));
}

function bytesOfHex(text: string): Bytes {
  return Uint8Array.fromHex(text) as Bytes;
}
