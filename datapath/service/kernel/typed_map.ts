/** A map with codecs: what the services' code sees of the kernel's maps. @module */
import { type BpfMap, u32 } from "@weir/loader";
import type { Bytes, StructCodec } from "@weir/maps";

/** How a plain number or bytes stand in a map. */
export const U32: StructCodec<number> = {
  bytes: 4,
  decode: (bytes, at = 0) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true),
  encode: (value) => u32(value),
};
/** 64 bits. */
export const U64: StructCodec<bigint> = {
  bytes: 8,
  decode: (bytes, at = 0) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true),
  encode: (value) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return bytes;
  },
};
/** A 16-byte address. */
export const ADDRESS: StructCodec<Bytes> = {
  bytes: 16,
  decode: (bytes, at = 0) => bytes.slice(at, at + 16) as Bytes,
  encode: (value) => value,
};

/** One map, typed. */
export class TypedMap<K, V> {
  constructor(readonly map: BpfMap, readonly key: StructCodec<K>, readonly value: StructCodec<V>) {}

  get entriesMax(): number {
    return this.map.info.entriesMax;
  }
  get(key: K): V | undefined {
    const found = this.map.lookup(this.key.encode(key));
    return found && this.value.decode(found);
  }
  /** The value in each CPU. */
  getPerCpu(key: K): V[] {
    return (this.map.lookupPerCpu(this.key.encode(key)) ?? []).map((part) => this.value.decode(part));
  }
  put(key: K, value: V): void {
    this.map.update(this.key.encode(key), this.value.encode(value));
  }
  delete(key: K): boolean {
    return this.map.delete(this.key.encode(key));
  }
  entries(): [K, V][] {
    return this.map.entries().map(([key, value]) => [this.key.decode(key), this.value.decode(value)]);
  }
  entriesPerCpu(): [K, V[]][] {
    return this.map.entries().map(([key, value]) => [
      this.key.decode(key),
      this.map.splitPerCpu(value).map((part) => this.value.decode(part)),
    ]);
  }
}
