/** What generated codecs are made of. @module */

/** Bytes that own their buffer. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Reads and writes one struct. Numbers in network order have names that end in Be; padding is written as zero. */
export interface StructCodec<T> {
  /** Size of the struct. */
  readonly bytes: number;
  decode(bytes: Uint8Array, at?: number): T;
  /** Writes into `out`, by default into new zeroed bytes of the struct's size. */
  encode(value: T, out?: Bytes, at?: number): Bytes;
}

/** A copy of `size` bytes. */
export function take(bytes: Uint8Array, at: number, size: number): Bytes {
  return bytes.slice(at, at + size) as Bytes;
}

/** Writes bytes of exactly that size. */
export function put(out: Uint8Array, at: number, size: number, value: Uint8Array): void {
  if (value.length !== size) {
    throw new RangeError(`Cannot encode ${value.length} bytes: the field has ${size}`);
  }
  out.set(value, at);
}

/** How a plain number stands in a map. */
export const U32: StructCodec<number> = {
  bytes: 4,
  decode: (bytes, at = 0) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true),
  encode(value, out = new Uint8Array(4), at = 0) {
    new DataView(out.buffer, out.byteOffset).setUint32(at, value, true);
    return out;
  },
};
/** 64 bits. */
export const U64: StructCodec<bigint> = {
  bytes: 8,
  decode: (bytes, at = 0) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true),
  encode(value, out = new Uint8Array(8), at = 0) {
    new DataView(out.buffer, out.byteOffset).setBigUint64(at, value, true);
    return out;
  },
};
/** A 16-byte address. */
export const ADDRESS: StructCodec<Bytes> = {
  bytes: 16,
  decode: (bytes, at = 0) => take(bytes, at, 16),
  encode(value, out = new Uint8Array(16), at = 0) {
    put(out, at, 16, value);
    return out;
  },
};
