/**
 * The selections in the kernel: a slot per service, family and scope, each with a map of its own inside.
 *
 *     backends ─▶ entries that differ, one batch, the count last ─▶ map in weir_selections[slot]
 *     other size or kind ─▶ new map, filled ─▶ weir_selections[slot], one write for many slots
 *
 * What the process before left is read when its service is looked at. A slot nobody names holds the empty map.
 *
 * @module
 */
import { type BpfMap, createMap, expedited, MapType, openMapById, u32 } from "@weir/loader";
import { SELECTION_COUNT, SELECTION_MAGLEV } from "@weir/maps";
import type { Bytes } from "@weir/maps";
import type { MapWrites } from "../kernel/map_writes.ts";
import { differing, rearrange, type SelectionWrites, type Weights } from "./selection_change.ts";

/** What a selection should hold: a Maglev table, or backends of which any may be taken. */
export type SelectionContent = { table: Uint32Array<ArrayBuffer> } | { weights: Weights };

interface Held {
  mapId: number;
  /** Entries that the map has room for. */
  capacity: number;
  maglev: boolean;
  entries: Uint32Array<ArrayBuffer>;
}

const BPF_F_INNER_MAP = 0x1000;
const NAME = "weir_selection", NAME_EMPTY = "weir_no_backend";
/** An array's element takes at least this much of the kernel's memory. */
const ELEMENT_BYTES = 8;
/** New maps that are open at once. */
const OPEN_MAX = 256;

/** The selections in the kernel. */
export class SelectionTable implements Disposable {
  readonly slotsMax: number;
  readonly #empty: BpfMap;
  readonly #emptyBytes: number;
  readonly #held = new Map<number, Held>();
  /** Slots of the process before, not looked at yet: map id. */
  readonly #found = new Map<number, number>();
  readonly #used = new Set<number>();
  #next = 1;
  #entries = 0;
  readonly #outer: BpfMap;
  readonly #writes: MapWrites;

  /** @param named slots that a frontend names; the others are emptied */
  constructor(
    outer: BpfMap,
    writes: MapWrites,
    named: ReadonlySet<number>,
  ) {
    this.#outer = outer;
    this.#writes = writes;
    this.slotsMax = outer.info.entriesMax;
    const { keys, values, count } = outer.packed();
    const slots = new Uint32Array(keys.buffer, keys.byteOffset, count);
    const ids = new Uint32Array(values.buffer, values.byteOffset, count);
    const strays: number[] = [], emptyIds = new Map<number, boolean>();
    for (const slot of named) {
      this.#used.add(slot);
      this.#next = Math.max(this.#next, slot + 1);
    }
    for (let i = 0; i < count; i++) {
      if (named.has(slots[i])) this.#found.set(slots[i], ids[i]);
      else {
        if (!emptyIds.has(ids[i])) emptyIds.set(ids[i], isEmptyMap(ids[i]));
        if (!emptyIds.get(ids[i])) strays.push(slots[i]);
      }
    }
    this.#empty = newMap(NAME_EMPTY, 2);
    this.#emptyBytes = bytesOf(this.#empty.fd);
    this.#pointOuter(strays.map((slot) => [slot, this.#empty]));
  }

  [Symbol.dispose](): void {
    this.#empty.close();
  }

  /** Slots in use. */
  get size(): number {
    return this.#used.size;
  }
  /** Slots that can be had; slot 0 is nobody's. */
  get room(): number {
    return this.slotsMax - 1 - this.#used.size;
  }
  /** Memory of the kernel that the maps inside take, without those not looked at yet. */
  get bytes(): number {
    return this.#held.size * (this.#emptyBytes - 2 * ELEMENT_BYTES) + this.#entries * ELEMENT_BYTES;
  }

  /** A slot; its content is written before a frontend names it. Undefined when all are taken. */
  allocate(): number | undefined {
    if (this.room <= 0) return undefined;
    for (;;) {
      if (this.#next >= this.slotsMax) this.#next = 1;
      const slot = this.#next++;
      if (this.#used.has(slot)) continue;
      this.#used.add(slot);
      return slot;
    }
  }

  /** Makes the kernel hold these. Every packet finds a whole choice meanwhile. */
  apply(changes: ReadonlyMap<number, SelectionContent>): void {
    const fresh: [number, Uint32Array<ArrayBuffer>, boolean][] = [];
    for (const [slot, content] of changes) {
      const held = this.#holding(slot), maglev = "table" in content;
      if (held === undefined || (held.maglev !== maglev && held.entries.length > 0)) {
        fresh.push([slot, "table" in content ? content.table : expand(content.weights), maglev]);
        continue;
      }
      if ("table" in content) {
        const sameSize = held.maglev &&
          (content.table.length === 0 || content.table.length === held.capacity);
        if (sameSize) this.#write(slot, held, maglevWrites(held, content.table));
        else fresh.push([slot, content.table, true]);
      } else {
        const change = rearrange(held.entries, content.weights);
        // A Maglev map that is empty may be of any size, and its count says what it is.
        if (change.next.length <= held.capacity && !held.maglev) this.#write(slot, held, change);
        else fresh.push([slot, change.next, false]);
      }
    }
    for (let at = 0; at < fresh.length; at += OPEN_MAX) this.#replace(fresh.slice(at, at + OPEN_MAX));
  }

  /** Empties slots that nobody can be looking at any more. */
  release(slots: readonly number[]): void {
    if (slots.length === 0) return;
    this.#pointOuter(slots.map((slot) => [slot, this.#empty]));
    for (const slot of slots) {
      this.#used.delete(slot);
      this.#found.delete(slot);
      this.#entries -= this.#held.get(slot)?.capacity ?? 0;
      this.#held.delete(slot);
    }
  }

  /** A slot's entries as this process knows them; for dumps. */
  entriesOf(slot: number): { maglev: boolean; entries: Uint32Array } | undefined {
    return slot === 0 ? undefined : this.#holding(slot);
  }

  #holding(slot: number): Held | undefined {
    const held = this.#held.get(slot), mapId = this.#found.get(slot);
    if (held !== undefined || mapId === undefined) return held;
    this.#found.delete(slot);
    const inner = openMapById(mapId, NAME);
    if (inner === undefined) return undefined;
    using map = inner;
    const { values } = map.packed();
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length >>> 2);
    const count = Math.min((words[0] & SELECTION_COUNT) >>> 0, words.length - 1);
    const adopted = {
      mapId,
      capacity: words.length - 1,
      maglev: (words[0] & SELECTION_MAGLEV) !== 0,
      entries: words.slice(1, 1 + count),
    };
    this.#held.set(slot, adopted);
    this.#entries += adopted.capacity;
    return adopted;
  }

  /** Entries first, the count last, in one batch. */
  #write(slot: number, held: Held, { places, ids, next }: SelectionWrites): void {
    const counted = next.length !== held.entries.length;
    const count = places.length + (counted ? 1 : 0);
    if (count === 0) return;
    const keys = new Uint32Array(count), values = new Uint32Array(count);
    for (let i = 0; i < places.length; i++) keys[i] = places[i] + 1;
    values.set(ids);
    if (counted) values[count - 1] = headerOf(next.length, held.maglev);
    const inner = openMapById(held.mapId, NAME);
    if (inner === undefined) throw new Error(`Cannot write selection ${slot}: its map is gone`);
    using map = inner;
    this.#writes.before();
    this.#writes.add(map.updatePacked(new Uint8Array(keys.buffer), new Uint8Array(values.buffer), count));
    held.entries = next;
  }

  #replace(fresh: readonly [number, Uint32Array<ArrayBuffer>, boolean][]): void {
    const made: [number, BpfMap, Held][] = [];
    try {
      for (const [slot, entries, maglev] of fresh) {
        const capacity = maglev ? Math.max(entries.length, 1) : capacityFor(entries.length);
        const map = newMap(NAME, capacity + 1);
        made.push([slot, map, { mapId: map.info.id, capacity, maglev, entries }]);
        this.#writes.before();
        this.#writes.add(fill(map, entries, maglev));
      }
      this.#pointOuter(made.map(([slot, map]) => [slot, map]));
      for (const [slot, , held] of made) {
        this.#entries += held.capacity - (this.#held.get(slot)?.capacity ?? 0);
        this.#held.set(slot, held);
        this.#found.delete(slot);
      }
    } finally {
      for (const [, map] of made) map.close();
    }
  }

  /** The kernel waits for running programs after each of these calls: many slots in one, and a short wait. */
  #pointOuter(slots: readonly [number, BpfMap][]): void {
    if (slots.length === 0) return;
    this.#writes.before();
    const calls = expedited(() =>
      this.#outer.updateBatch(slots.map(([slot, map]) => [u32(slot), u32(map.fd)]))
    );
    this.#writes.add(calls);
  }
}

/** Room for this many entries, so that a selection that grows is seldom made anew. */
function capacityFor(count: number): number {
  let capacity = 1;
  while (capacity < count) capacity *= 2;
  return capacity;
}

function headerOf(count: number, maglev: boolean): number {
  return (maglev ? count | SELECTION_MAGLEV : count) >>> 0;
}

function expand(weights: Weights): Uint32Array<ArrayBuffer> {
  return rearrange(new Uint32Array(0), weights).next;
}

/** An empty table keeps its entries and loses its count: nobody looks at them. */
function maglevWrites(held: Held, table: Uint32Array<ArrayBuffer>): SelectionWrites {
  if (table.length === 0) return { places: [], ids: [], next: table };
  return differing(held.entries, table);
}

function newMap(name: string, entries: number): BpfMap {
  const { ARRAY: type } = MapType;
  return createMap({ type, name, keySize: 4, valueSize: 4, entriesMax: entries, flags: BPF_F_INNER_MAP });
}

function fill(map: BpfMap, entries: Uint32Array, maglev: boolean): number {
  const count = entries.length + 1;
  const keys = new Uint32Array(count), values = new Uint32Array(count);
  for (let i = 0; i < count; i++) keys[i] = i;
  values[0] = headerOf(entries.length, maglev);
  values.set(entries, 1);
  return map.updatePacked(new Uint8Array(keys.buffer) as Bytes, new Uint8Array(values.buffer), count);
}

function isEmptyMap(id: number): boolean {
  const found = openMapById(id);
  if (found === undefined) return false;
  using map = found;
  return map.info.name === NAME_EMPTY.slice(0, 15);
}

/** What the kernel says it takes. */
export function bytesOf(fd: number): number {
  const found = /^memlock:\s*(\d+)/m.exec(Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`));
  return found === null ? 0 : Number(found[1]);
}
