/**
 * Little-endian byte streams of the protocol between host and module: every integer is 4 or 8 bytes, every
 * byte string is its length and then its bytes padded to 4.
 * @module
 */

const ENCODER = new TextEncoder(), DECODER = new TextDecoder();

/** Grows while it is written; `bytes()` gives what was written so far. */
export class WireWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  #reserve(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, at + count));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = at + count;
    return at;
  }

  /** Forgets what was written. */
  clear(): void {
    this.#length = 0;
  }

  /** Writes the low 32 bits of an integer. */
  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value >>> 0, true);
  }

  /** Writes length, bytes and padding. */
  byteString(value: Uint8Array): void {
    this.u32(value.length);
    if (value.length === 0) return;
    const at = this.#reserve((value.length + 3) & ~3);
    // the last word first: what the bytes leave of it is padding
    if (value.length & 3) this.#view.setUint32(this.#length - 4, 0, true);
    this.#bytes.set(value, at);
  }

  /** Writes a string as UTF-8. */
  text(value: string): void {
    const length = value.length;
    if (length > 64) return this.byteString(ENCODER.encode(value));
    // short names: a byte each, unless one is not ASCII
    this.u32(length);
    if (length === 0) return;
    const at = this.#reserve((length + 3) & ~3);
    if (length & 3) this.#view.setUint32(this.#length - 4, 0, true);
    for (let n = 0; n < length; n++) {
      const code = value.charCodeAt(n);
      if (code > 127) {
        this.#length = at - 4;
        return this.byteString(ENCODER.encode(value));
      }
      this.#bytes[at + n] = code;
    }
  }

  /** A copy of what was written. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  /** What was written, until something else is. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }
}

/** What is wrong with bytes that came from outside. */
export class WireError extends Error {
  /** Stable code of the error. */
  readonly code = "malformed-report";
  constructor(readonly offset: number, found: string) {
    super(`Cannot decode report at byte ${offset}: ${found}`);
    this.name = "WireError";
  }
}

/** Reads untrusted bytes; every read is checked against the end. */
export class WireReader {
  #view: DataView;
  #at = 0;
  constructor(readonly source: Uint8Array) {
    this.#view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  }

  /** Where the next read starts. */
  get offset(): number {
    return this.#at;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.source.length - at) {
      throw new WireError(at, `${count} bytes wanted, ${this.source.length - at} left`);
    }
    this.#at = at + count;
    return at;
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A count of things that take at least `bytesEach` bytes: it cannot exceed what is left. */
  count(bytesEach: number, countMax: number): number {
    const at = this.#at;
    const count = this.u32();
    if (count > countMax || count * bytesEach > this.source.length - this.#at) {
      throw new WireError(at, `count ${count} exceeds ${countMax} or the bytes left`);
    }
    return count;
  }

  text(bytesMax: number): string {
    const length = this.count(1, bytesMax);
    const at = this.#take((length + 3) & ~3);
    return DECODER.decode(this.source.subarray(at, at + length));
  }

  /** Demands that nothing is left. */
  end(): void {
    if (this.#at !== this.source.length) {
      throw new WireError(this.#at, `${this.source.length - this.#at} bytes after the end`);
    }
  }
}
