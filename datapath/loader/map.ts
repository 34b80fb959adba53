/**
 * A map by its file descriptor: single entries, batches, iteration, per-CPU values, inner maps. Keys and values are raw
 * bytes; `@weir/maps` gives them meaning.
 *
 * @module
 */
import { E2BIG, EEXIST, ENOENT, ENOSPC } from "./errno.ts";
import { BpfError, MapFull } from "./errors.ts";
import { faultAt } from "./fault.ts";
import { type MapInfo, mapInfo } from "./info.ts";
import { closeFd, libbpf } from "./library.ts";

/** Map types that the loader treats specially. */
export const MapType = {
  HASH: 1,
  ARRAY: 2,
  PROG_ARRAY: 3,
  PERCPU_HASH: 5,
  PERCPU_ARRAY: 6,
  LRU_HASH: 9,
  LRU_PERCPU_HASH: 10,
  LPM_TRIE: 11,
  ARRAY_OF_MAPS: 12,
  HASH_OF_MAPS: 13,
  RINGBUF: 27,
} as const;

/** How an update treats an entry that is or is not there. */
export const UpdateFlag = { ANY: 0n, NOEXIST: 1n, EXIST: 2n } as const;

/** Entries per call of batched operations. */
const BATCH_ENTRIES = 256;
/** Entries of one page when a whole map is read at once. */
const PAGE_ENTRIES = 8192;

type Bytes = Uint8Array<ArrayBuffer>;

let cpusPossible: number | undefined;

/** CPUs that the kernel keeps per-CPU values for. */
function possibleCpus(): number {
  return cpusPossible ??= countCpus(Deno.readTextFileSync("/sys/devices/system/cpu/possible"));
}

/** Counts "0-3,8-11". */
export function countCpus(text: string): number {
  return text.trim().split(",").reduce((max, part) => Math.max(max, Number(part.split("-").at(-1)) + 1), 0);
}

/** An open map. Owns its descriptor: `close()` it, or `using`. */
export class BpfMap implements Disposable {
  readonly info: MapInfo;
  /** Bytes of a value as a lookup returns it: for per-CPU maps all CPUs, each rounded up to 8. */
  readonly valueBytes: number;
  readonly perCpu: boolean;

  /** @param name shown in messages; the kernel keeps only 15 characters of it */
  constructor(readonly fd: number, readonly name: string = "") {
    this.info = mapInfo(fd);
    this.name = name || this.info.name;
    this.perCpu = ([MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH] as number[])
      .includes(this.info.type);
    this.valueBytes = this.perCpu ? roundUp8(this.info.valueSize) * possibleCpus() : this.info.valueSize;
  }

  close(): void {
    closeFd(this.fd);
  }
  [Symbol.dispose](): void {
    this.close();
  }

  /** The value of a key, undefined when there is none. @throws {BpfError} */
  lookup(key: Bytes): Bytes | undefined {
    this.#checkKey(key);
    const value = new Uint8Array(this.valueBytes);
    const result = libbpf().bpf_map_lookup_elem(this.fd, key, value);
    if (result === -ENOENT) return undefined;
    if (result < 0) throw this.#failed("read", result);
    return value;
  }

  /** The value of a key in each CPU. */
  lookupPerCpu(key: Bytes): Bytes[] | undefined {
    const value = this.lookup(key);
    return value && this.splitPerCpu(value);
  }

  /** Parts of a per-CPU value. */
  splitPerCpu(value: Bytes): Bytes[] {
    const stride = roundUp8(this.info.valueSize);
    return Array.from(
      { length: value.length / stride },
      (_, cpu) => value.subarray(cpu * stride, cpu * stride + this.info.valueSize),
    );
  }

  /** Writes an entry. @throws {MapFull} when the map takes no more @throws {BpfError} */
  update(key: Bytes, value: Bytes, flag: bigint = UpdateFlag.ANY): void {
    this.#checkKey(key);
    if (value.length !== this.valueBytes) {
      throw new BpfError("map-failed", `Cannot write to map ${this.name}: value has the wrong size`, {
        found: `${value.length} bytes`,
        expected: `${this.valueBytes} bytes`,
      });
    }
    const result = faultAt("map-write", this.name) ||
      libbpf().bpf_map_update_elem(this.fd, key, value, flag);
    if (result < 0) throw this.#failed("write to", result);
  }

  /** Adds an entry; false when the key is there already. */
  insert(key: Bytes, value: Bytes): boolean {
    try {
      this.update(key, value, UpdateFlag.NOEXIST);
      return true;
    } catch (error) {
      if (error instanceof BpfError && error.errno === EEXIST) return false;
      throw error;
    }
  }

  /** Deletes an entry; false when there was none. */
  delete(key: Bytes): boolean {
    this.#checkKey(key);
    const result = faultAt("map-delete", this.name) || libbpf().bpf_map_delete_elem(this.fd, key);
    if (result === -ENOENT) return false;
    if (result < 0) throw this.#failed("delete from", result);
    return true;
  }

  /** All entries. A map that others change meanwhile gives each untouched entry at least once. */
  entries(): [Bytes, Bytes][] {
    return this.#entriesBatched() ?? [...this.#entriesOneByOne()];
  }

  /** All keys; cheaper than entries for maps whose values are large. */
  keys(): Bytes[] {
    const keys: Bytes[] = [];
    for (let key = this.#nextKey(null); key; key = this.#nextKey(key)) {
      keys.push(key);
      if (keys.length > this.info.entriesMax * 2) break; // entries move while we walk: never endless
    }
    return keys;
  }

  /** Writes many entries with one call per batch, in their order. @returns system calls it took */
  updateBatch(entries: readonly (readonly [Bytes, Bytes])[]): number {
    let calls = 0;
    for (let start = 0; start < entries.length; start += BATCH_ENTRIES) {
      const part = entries.slice(start, start + BATCH_ENTRIES);
      const keys = concat(part.map(([key]) => key), this.info.keySize);
      const values = concat(part.map(([, value]) => value), this.valueBytes);
      calls += this.updatePacked(keys, values, part.length);
    }
    return calls;
  }

  /**
   * Writes `count` entries that lie one after another with one call, in their order; one by one where the map or the
   * kernel knows no batches, which says the same and names the entry that fails. @returns system calls it took
   */
  updatePacked(keys: Bytes, values: Bytes, count: number): number {
    const { keySize } = this.info, { valueBytes } = this;
    if (keys.length !== count * keySize || values.length !== count * valueBytes) {
      throw new BpfError(
        "map-failed",
        `Cannot write to map ${this.name}: ${count} entries have the wrong size`,
        {
          found: `${keys.length} and ${values.length} bytes`,
          expected: `${count * keySize} and ${count * valueBytes} bytes`,
        },
      );
    }
    if (count === 0) return 0;
    if (count > 1) {
      const done = new Uint32Array([count]);
      const bytes = new Uint8Array(done.buffer);
      const fault = faultAt("map-write", this.name);
      if (fault < 0) throw this.#failed("write to", fault);
      if (libbpf().bpf_map_update_batch(this.fd, keys, values, bytes, batchOptions()) >= 0) return 1;
    }
    for (let i = 0; i < count; i++) {
      this.update(
        keys.subarray(i * keySize, (i + 1) * keySize),
        values.subarray(i * valueBytes, (i + 1) * valueBytes),
      );
    }
    return count;
  }

  /** Deletes many keys; those that are not there are no error. @returns system calls it took */
  deleteBatch(keys: readonly Bytes[]): number {
    let calls = 0;
    for (let start = 0; start < keys.length; start += BATCH_ENTRIES) {
      const part = keys.slice(start, start + BATCH_ENTRIES);
      const count = new Uint32Array([part.length]);
      const packed = concat(part, this.info.keySize), bytes = new Uint8Array(count.buffer);
      calls++;
      if (part.length > 1 && libbpf().bpf_map_delete_batch(this.fd, packed, bytes, batchOptions()) >= 0) {
        continue;
      }
      // A key that is missing ends a batch; and not every map knows batches.
      for (const key of part) this.delete(key);
      calls += part.length - (part.length > 1 ? 0 : 1);
    }
    return calls;
  }

  /** Deletes everything. @returns how many entries went */
  clear(): number {
    const keys = this.keys();
    this.deleteBatch(keys);
    return keys.length;
  }

  /** All entries, keys and values each one after another: for maps too large to be taken apart. */
  packed(): { keys: Bytes; values: Bytes; count: number } {
    const { keySize, entriesMax } = this.info;
    const pages: { keys: Bytes; values: Bytes }[] = [];
    let count = 0;
    for (const page of this.#pages(Math.min(PAGE_ENTRIES, entriesMax))) {
      if (page === undefined) {
        const entries = [...this.#entriesOneByOne()];
        return {
          keys: concat(entries.map(([key]) => key), keySize),
          values: concat(entries.map(([, value]) => value), this.valueBytes),
          count: entries.length,
        };
      }
      pages.push(page);
      count += page.keys.length / keySize;
    }
    return {
      keys: joined(pages.map(({ keys }) => keys)),
      values: joined(pages.map(({ values }) => values)),
      count,
    };
  }

  /** User space can write no more. */
  freeze(): void {
    const result = libbpf().bpf_map_freeze(this.fd);
    if (result < 0) throw this.#failed("freeze", result);
  }

  /** The inner map behind an entry of a map of maps, undefined when there is none. */
  lookupInner(key: Bytes): BpfMap | undefined {
    const value = this.lookup(key);
    if (value === undefined) return undefined;
    return openMapById(new DataView(value.buffer).getUint32(0, true), `${this.name}[]`);
  }

  #entriesBatched(): [Bytes, Bytes][] | undefined {
    const { keySize } = this.info, { valueBytes } = this;
    const found: [Bytes, Bytes][] = [];
    for (const page of this.#pages(BATCH_ENTRIES)) {
      if (page === undefined) return undefined;
      for (let i = 0; i < page.keys.length / keySize; i++) {
        found.push([
          page.keys.slice(i * keySize, (i + 1) * keySize),
          page.values.slice(i * valueBytes, (i + 1) * valueBytes),
        ]);
      }
    }
    return found;
  }

  /** The map by batched lookups; gives undefined and ends where it knows none. @param size entries of a page */
  *#pages(size: number): Generator<{ keys: Bytes; values: Bytes } | undefined> {
    const { keySize, entriesMax } = this.info;
    const cursor = [new Uint8Array(Math.max(keySize, 4)), new Uint8Array(Math.max(keySize, 4))];
    let first = true;
    // A bucket of a hash larger than the batch gives ENOSPC: then the batch grows.
    for (let found = 0; found <= entriesMax * 2;) {
      const keys = new Uint8Array(keySize * size), values = new Uint8Array(this.valueBytes * size);
      const count = new Uint32Array([size]);
      const result = libbpf().bpf_map_lookup_batch(
        this.fd,
        first ? null : cursor[0],
        cursor[1],
        keys,
        values,
        new Uint8Array(count.buffer),
        batchOptions(),
      );
      if (result === -ENOSPC && size < entriesMax * 2) {
        size *= 4;
        continue;
      }
      if (result < 0 && result !== -ENOENT) {
        yield undefined;
        return;
      }
      found += count[0];
      yield {
        keys: keys.subarray(0, count[0] * keySize),
        values: values.subarray(0, count[0] * this.valueBytes),
      };
      if (result === -ENOENT) return;
      first = false;
      cursor.reverse();
    }
  }

  *#entriesOneByOne(): Generator<[Bytes, Bytes]> {
    for (const key of this.keys()) {
      const value = this.lookup(key);
      if (value !== undefined) yield [key, value];
    }
  }

  #nextKey(key: Bytes | null): Bytes | undefined {
    const next = new Uint8Array(this.info.keySize);
    const result = libbpf().bpf_map_get_next_key(this.fd, key, next);
    if (result === -ENOENT) return undefined;
    if (result < 0) throw this.#failed("walk", result);
    return next;
  }

  #checkKey(key: Bytes): void {
    if (key.length === this.info.keySize) return;
    throw new BpfError("map-failed", `Cannot use map ${this.name}: key has the wrong size`, {
      found: `${key.length} bytes`,
      expected: `${this.info.keySize} bytes`,
    });
  }

  #failed(action: string, result: number): BpfError {
    const full = result === -E2BIG || (result === -ENOSPC && this.info.type === MapType.LPM_TRIE);
    return full
      ? new MapFull(this.name, this.info.entriesMax)
      : new BpfError("map-failed", `Cannot ${action} map ${this.name}`, { errno: -result });
  }
}

/** What a map is made of. */
export interface MapSpec {
  type: number;
  name: string;
  keySize: number;
  valueSize: number;
  entriesMax: number;
  flags?: number;
  /** Maps of maps: descriptor of a map like those that will be inside. */
  innerFd?: number;
}

/** Creates a map of its own, outside of any object; used for inner maps. @throws {BpfError} */
export function createMap(spec: MapSpec): BpfMap {
  const opts = new DataView(new ArrayBuffer(48));
  opts.setBigUint64(0, 48n, true);
  opts.setUint32(24, spec.innerFd ?? 0, true);
  opts.setUint32(28, spec.flags ?? 0, true);
  const fd = faultAt("map-create", spec.name) || libbpf().bpf_map_create(
    spec.type,
    new TextEncoder().encode(spec.name.slice(0, 15) + "\0") as Bytes,
    spec.keySize,
    spec.valueSize,
    spec.entriesMax,
    new Uint8Array(opts.buffer),
  );
  if (fd < 0) throw new BpfError("map-failed", `Cannot create map ${spec.name}`, { errno: -fd });
  return new BpfMap(fd, spec.name);
}

/** An open map by its id in the kernel, undefined when it is gone. */
export function openMapById(id: number, name: string = ""): BpfMap | undefined {
  const fd = libbpf().bpf_map_get_fd_by_id(id);
  return fd < 0 ? undefined : new BpfMap(fd, name);
}

/** A 32-bit key or value in the machine's order (every supported machine is little endian). */
export function u32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function roundUp8(bytes: number): number {
  return (bytes + 7) & ~7;
}

function batchOptions(): Bytes {
  const opts = new Uint8Array(24);
  opts[0] = 24;
  return opts;
}

function concat(parts: Bytes[], size: number): Bytes {
  const all = new Uint8Array(parts.length * size);
  parts.forEach((part, i) => all.set(part, i * size));
  return all;
}

function joined(parts: Bytes[]): Bytes {
  if (parts.length === 1) return parts[0];
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
