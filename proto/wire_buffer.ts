/**
 * Bytes that grow at their end, with the scalars of protobuf's wire format. Little-endian.
 * @module
 */

const BYTES_FIRST = 4096;
/** A larger one is not kept for the next message. */
const BYTES_KEPT_MAX = 1 << 20;
/** Characters up to which a loop is faster than the encoder of the platform. */
const SHORT_TEXT_MAX = 64;
const TWO_32 = 0x1_0000_0000;

const utf8 = new TextEncoder();

/** One buffer for many messages, one after the other. */
export class WireBuffer {
  #bytes = new Uint8Array(BYTES_FIRST);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  /** What was written so far goes: a message that failed leaves half of itself. */
  clear(): void {
    this.#at = 0;
  }

  /** What was written, as bytes of its own. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.slice(0, this.#at);
    if (this.#bytes.length > BYTES_KEPT_MAX) this.#resize(BYTES_FIRST, 0);
    this.#at = 0;
    return taken;
  }

  /** A whole number from 0 to 2^32 - 1. */
  varint(value: number): void {
    this.#reserve(5);
    while (value > 0x7f) {
      this.#bytes[this.#at++] = value & 0x7f | 0x80;
      value >>>= 7;
    }
    this.#bytes[this.#at++] = value;
  }

  /** 64 bits as two halves. */
  varint64(low: number, high: number): void {
    this.#reserve(10);
    low >>>= 0;
    high >>>= 0;
    while (high > 0) {
      this.#bytes[this.#at++] = low & 0x7f | 0x80;
      low = (low >>> 7 | high << 25) >>> 0;
      high >>>= 7;
    }
    this.varint(low);
  }

  /** A whole number between -2^53 and 2^53; a negative one as its two's complement of 64 bits. */
  integer(value: number): void {
    if (value >= 0 && value < TWO_32) this.varint(value);
    else this.varint64(lowOf(value), highOf(value));
  }

  /** The same with its sign in the last bit. */
  zigzag(value: number): void {
    const low = lowOf(value), high = highOf(value), sign = high >> 31;
    this.varint64(low << 1 ^ sign, (high << 1 | low >>> 31) ^ sign);
  }

  fixed32(value: number): void {
    this.#reserve(4);
    this.#view.setInt32(this.#at, value, true);
    this.#at += 4;
  }

  fixed64(value: number): void {
    this.fixed32(lowOf(value));
    this.fixed32(highOf(value));
  }

  float(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.#at, value, true);
    this.#at += 4;
  }

  double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#at, value, true);
    this.#at += 8;
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** UTF-8 behind its length; what is no character becomes U+FFFD. */
  text(text: string): void {
    const { length } = text;
    this.#reserve(3 * length + 5);
    if (length <= SHORT_TEXT_MAX) {
      const start = this.#at;
      this.#bytes[this.#at++] = length;
      for (let at = 0; at < length; at++) {
        const code = text.charCodeAt(at);
        if (code > 0x7f) {
          this.#at = start;
          break;
        }
        this.#bytes[this.#at++] = code;
      }
      if (this.#at > start) return;
    }
    const mark = this.begin();
    this.#at += utf8.encodeInto(text, this.#bytes.subarray(this.#at)).written;
    this.end(mark);
  }

  /** Begins what has its length in front. @returns for {@link end} */
  begin(): number {
    this.#reserve(1);
    return this.#at++;
  }

  /** Ends it: most lengths take the one byte that was left for them. */
  end(mark: number): void {
    const end = this.#at, length = end - mark - 1;
    if (length <= 0x7f) {
      this.#bytes[mark] = length;
      return;
    }
    const more = length < 1 << 14 ? 1 : length < 1 << 21 ? 2 : length < 1 << 28 ? 3 : 4;
    this.#reserve(more);
    this.#bytes.copyWithin(mark + 1 + more, mark + 1, end);
    this.#at = mark;
    this.varint(length);
    this.#at = end + more;
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed > this.#bytes.length) this.#resize(Math.max(needed, 2 * this.#bytes.length), this.#at);
  }

  #resize(bytes: number, keep: number): void {
    const before = this.#bytes;
    this.#bytes = new Uint8Array(bytes);
    this.#bytes.set(before.subarray(0, keep));
    this.#view = new DataView(this.#bytes.buffer);
  }
}

/** The lower and the upper 32 bits of a whole number's two's complement. */
const lowOf = (value: number) => value % TWO_32 | 0;
const highOf = (value: number) => Math.floor(value / TWO_32) | 0;
