/** Who may use services from outside, in the kernel: prefixes by service in one trie. @module */
import { type BpfMap, u32 } from "@weir/loader";
import { type Bytes, SourceRange } from "@weir/maps";
import { hex } from "../kernel/addresses.ts";
import type { MapWrites } from "../kernel/map_writes.ts";

/** Who may use services from outside, in the kernel. Keys are hex of their bytes. */
export class SourceRangeTable {
  readonly entriesMax: number;
  readonly #present = new Map<number, Set<string>>();
  #size = 0;
  readonly #map: BpfMap;
  readonly #writes: MapWrites;

  constructor(map: BpfMap, writes: MapWrites) {
    this.#map = map;
    this.#writes = writes;
    this.entriesMax = map.info.entriesMax;
    for (const [key] of map.entries()) this.#note(hex(key), true);
  }

  get size(): number {
    return this.#size;
  }
  get room(): number {
    return this.entriesMax - this.#size;
  }
  /** Services that have any. */
  get services(): Iterable<number> {
    return this.#present.keys();
  }
  of(service: number): ReadonlySet<string> {
    return this.#present.get(service) ?? new Set();
  }

  add(keys: readonly string[]): void {
    if (keys.length === 0) return;
    this.#writes.before();
    this.#writes.add(this.#map.updateBatch(keys.map((key) => [Uint8Array.fromHex(key) as Bytes, u32(1)])));
    for (const key of keys) this.#note(key, true);
  }
  delete(keys: readonly string[]): void {
    if (keys.length === 0) return;
    this.#writes.before();
    this.#writes.add(this.#map.deleteBatch(keys.map((key) => Uint8Array.fromHex(key) as Bytes)));
    for (const key of keys) this.#note(key, false);
  }

  #note(key: string, present: boolean): void {
    const { service } = SourceRange.decode(Uint8Array.fromHex(key));
    const keys = this.#present.get(service) ?? new Set();
    this.#size -= keys.size;
    if (present) keys.add(key);
    else keys.delete(key);
    this.#size += keys.size;
    if (keys.size === 0) this.#present.delete(service);
    else this.#present.set(service, keys);
  }
}
