/** A bounded cache of encoded bytes: the oldest go first. @module */

/** A bounded cache of encoded bytes. */
export class ByteCache<K, V extends { readonly bytes: Uint8Array }> {
  readonly #bytesMax: number;
  #values = new Map<K, V>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  get(key: K): V | undefined {
    return this.#values.get(key);
  }

  /** Keeps `value` unless it is larger than a quarter of the cache. */
  set(key: K, value: V): void {
    if (value.bytes.length * 4 > this.#bytesMax || this.#values.has(key)) return;
    this.#values.set(key, value);
    this.#bytes += value.bytes.length;
    for (const [oldest, { bytes }] of this.#values) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#values.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }

  clear(): void {
    this.#values.clear();
    this.#bytes = 0;
  }
}
