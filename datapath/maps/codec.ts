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
