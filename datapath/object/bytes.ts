/** Reads of little-endian numbers and names in which every offset is checked first. @module */
import { LIMITS, ObjectError, type ObjectErrorCode } from "./error.ts";

const decoder = new TextDecoder("utf-8", { fatal: false });

/** A read-only view of bytes with a name; reading past its end is an {@link ObjectError}, never `undefined`. */
export class Bytes {
  readonly length: number;
  readonly #view: DataView;

  /**
   * @param data The bytes; not copied.
   * @param subject What they are, for error texts.
   * @param code The code of errors raised here.
   */
  constructor(
    readonly data: Uint8Array,
    readonly subject: string,
    readonly code: ObjectErrorCode = "truncated",
  ) {
    this.length = data.byteLength;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** Throws unless `[offset, offset + size)` lies inside. */
  check(offset: number, size: number): void {
    // Written so that neither NaN nor a sum beyond 2^53 can slip through.
    if (offset >= 0 && size >= 0 && offset <= this.length && size <= this.length - offset) return;
    throw new ObjectError(this.code, this.subject, {
      found: `a reference to ${size} bytes at offset ${offset}`,
      expected: `offsets inside its ${this.length} bytes`,
    });
  }

  u8(offset: number): number {
    this.check(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.check(offset, 2);
    return this.#view.getUint16(offset, true);
  }

  u32(offset: number): number {
    this.check(offset, 4);
    return this.#view.getUint32(offset, true);
  }

  i32(offset: number): number {
    this.check(offset, 4);
    return this.#view.getInt32(offset, true);
  }

  u64(offset: number): bigint {
    this.check(offset, 8);
    return this.#view.getBigUint64(offset, true);
  }

  /** A 64-bit file quantity as a number; values beyond 2^53 are an error (no file is that large). */
  size64(offset: number): number {
    const value = this.u64(offset);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new ObjectError(this.code, this.subject, {
        found: `the 64-bit size or offset ${value}`,
        expected: "one below 2^53",
      });
    }
    return Number(value);
  }

  /** A checked part of these bytes, under its own name; not copied. */
  slice(offset: number, size: number, subject: string = this.subject): Bytes {
    this.check(offset, size);
    return new Bytes(this.data.subarray(offset, offset + size), subject, this.code);
  }

  /** The NUL-terminated name at `offset`; an unterminated or overlong one is an error. */
  name(offset: number): string {
    this.check(offset, 1);
    // The search is bounded: a table without NULs, asked once per symbol, must not cost its whole length each time.
    const length = this.data.subarray(offset, offset + LIMITS.nameBytesMax + 1).indexOf(0);
    if (length < 0) {
      throw new ObjectError(this.code, this.subject, {
        found: `a name at offset ${offset} without an end`,
        expected: `a NUL within ${LIMITS.nameBytesMax} bytes`,
      });
    }
    return decoder.decode(this.data.subarray(offset, offset + length));
  }
}
