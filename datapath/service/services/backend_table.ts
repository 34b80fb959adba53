/**
 * The backends in the kernel: an id per service, address and port. The kernel's records are the only memory of ids, so the
 * next process finds them again; an id that is given up keeps its address and rests, because flows, sockets and clients
 * with affinity may still remember it.
 *
 *     acquire ─▶ record ─▶ in selections ─▶ out of selections ─▶ GONE, resting ─▶ cleared, free
 *
 * @module
 */
import { type BpfMap, u32 } from "@weir/loader";
import { Backend, BACKEND_GONE, type Bytes } from "@weir/maps";
import { hex } from "../kernel/addresses.ts";
import type { MapWrites } from "../kernel/map_writes.ts";

/** How long an id rests before somebody else may have it. */
export const REST_MS = 60_000;

/** Where a record has its state. */
const STATE_AT = 19;

/** The backends in the kernel. */
export class BackendTable {
  readonly idsMax: number;
  /** What the kernel holds, record after record. */
  readonly #image: Bytes;
  readonly #ids = new Map<string, number>();
  /** Ids that rest, oldest first, and until when. */
  readonly #resting = new Map<number, number>();
  /** Ids that were acquired and have no record yet. */
  readonly #acquired = new Set<number>();
  /** Ids of the process before by service, until their service is looked at. */
  readonly #found = new Map<number, Map<string, number>>();
  #live = 0;
  #next = 1;
  readonly #map: BpfMap;
  readonly #writes: MapWrites;

  constructor(map: BpfMap, writes: MapWrites, nowMs: number) {
    this.#map = map;
    this.#writes = writes;
    const { values, count } = map.packed(); // an array is read whole, from 0
    this.#image = values;
    this.idsMax = count;
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length >>> 2);
    const wordsOf = Backend.bytes / 4;
    for (let id = 1; id < count; id++) {
      const at = id * wordsOf;
      if (words[at] + words[at + 1] + words[at + 2] + words[at + 3] + words[at + 4] === 0) continue;
      const record = this.get(id);
      this.#next = id + 1;
      const key = backendKey(record);
      if (record.state === BACKEND_GONE || this.#ids.has(key)) this.#resting.set(id, nowMs + REST_MS);
      else {
        this.#live++;
        const found = this.#found.get(record.service) ?? new Map();
        this.#found.set(record.service, found.set(key, id));
      }
      if (!this.#ids.has(key)) this.#ids.set(key, id);
    }
  }

  /** Ids in use. */
  get size(): number {
    return this.#live;
  }
  get resting(): number {
    return this.#resting.size;
  }
  /** Ids that can be had now. Id 0 is nobody's. */
  get room(): number {
    return this.idsMax - 1 - this.#live - this.#resting.size;
  }

  /** The record as the kernel has it. */
  get(id: number): Backend {
    return Backend.decode(this.#image, id * Backend.bytes);
  }

  /** True when {@link acquire} of it takes no room: it has an id, or one that rests. */
  knows(key: string): boolean {
    return this.#ids.has(key);
  }

  /** The id of a backend: the one it has or had, else a free one; undefined when there is none. */
  acquire(key: string): number | undefined {
    const known = this.#ids.get(key);
    if (known !== undefined) {
      if (this.#resting.delete(known)) this.#live++;
      return known;
    }
    if (this.room <= 0) return undefined;
    for (;;) {
      if (this.#next >= this.idsMax) this.#next = 1;
      const id = this.#next++;
      if (!this.#isFree(id)) continue;
      this.#ids.set(key, id);
      this.#acquired.add(id);
      this.#live++;
      return id;
    }
  }

  /** Takes over what the process before left of a service: key and id. */
  adopt(service: number): Map<string, number> {
    const found = this.#found.get(service) ?? new Map();
    this.#found.delete(service);
    return found;
  }
  /** Services of the process before that were not looked at. */
  get unadopted(): Iterable<number> {
    return this.#found.keys();
  }

  /** The state in the kernel; undefined for an id that has no record yet. All else of a record never changes. */
  stateOf(id: number): number | undefined {
    return this.#acquired.has(id) ? undefined : this.#image[id * Backend.bytes + STATE_AT];
  }

  /** Writes records in one batch. */
  put(records: readonly [number, Backend][]): void {
    this.#write(records.map(([id, record]) => [id, Backend.encode(record)]));
  }

  /** No selection names these any more, and no program that runs can have read one that did. */
  retire(ids: readonly number[], nowMs: number): void {
    this.#write(ids.map((id) => [id, Backend.encode({ ...this.get(id), state: BACKEND_GONE })]));
    for (const id of ids) {
      this.#resting.set(id, nowMs + REST_MS);
      this.#live--;
    }
  }

  /** Clears the ids that rested long enough. @returns how many */
  clearRested(nowMs: number): number {
    const rested: number[] = [];
    for (const [id, untilMs] of this.#resting) {
      if (untilMs > nowMs) break;
      rested.push(id);
    }
    for (const id of rested) {
      const key = backendKey(this.get(id));
      if (this.#ids.get(key) === id) this.#ids.delete(key);
      this.#resting.delete(id);
    }
    this.#write(rested.map((id) => [id, new Uint8Array(Backend.bytes)]));
    return rested.length;
  }

  #isFree(id: number): boolean {
    const at = id * Backend.bytes;
    for (let i = 0; i < Backend.bytes; i++) if (this.#image[at + i] !== 0) return false;
    return !this.#acquired.has(id);
  }

  #write(records: readonly [number, Bytes][]): void {
    if (records.length === 0) return;
    const keys = new Uint8Array(records.length * 4), values = new Uint8Array(records.length * Backend.bytes);
    records.forEach(([id, image], i) => {
      keys.set(u32(id), i * 4);
      values.set(image, i * Backend.bytes);
    });
    this.#writes.before();
    this.#writes.add(this.#map.updatePacked(keys, values, records.length));
    for (const [id, image] of records) {
      this.#image.set(image, id * Backend.bytes);
      this.#acquired.delete(id);
    }
  }
}

/** What an id is for. */
export function backendKey(backend: Pick<Backend, "service" | "protocol" | "address" | "portBe">): string {
  return `${backend.service}/${backend.protocol}/${hex(backend.address)}/${backend.portBe}`;
}
