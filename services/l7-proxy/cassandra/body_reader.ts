/**
 * Reads the protocol's notations from the beginning of a body of which only a part may be there yet.
 * @module
 */

import { utf8Text } from "../utf8.ts";

/** The body goes on beyond what is there: at least `bytes` of it are needed to read on. */
export class NeedMore extends Error {
  override name = "NeedMore";
  constructor(readonly bytes: number) {
    super(`${bytes} bytes of the body are needed`);
  }
}

/** A body that is none. */
export class BodyError extends Error {
  override name = "BodyError";
}

/** More than is read, in a body that may be sound. */
export class TooLong extends Error {
  override name = "TooLong";
}

/** A cursor. Each method throws {@link NeedMore} where the part ends, {@link BodyError} where the body does. */
export class BodyReader {
  at = 0;

  /** @param bodyBytes Bytes of the whole body, of which `bytes` is the beginning. */
  constructor(readonly bytes: Uint8Array, readonly bodyBytes: number) {}

  u8(): number {
    return this.bytes[this.#take(1)];
  }

  u16(): number {
    const at = this.#take(2);
    return (this.bytes[at] << 8) | this.bytes[at + 1];
  }

  i32(): number {
    const at = this.#take(4);
    return (this.bytes[at] << 24) | (this.bytes[at + 1] << 16) | (this.bytes[at + 2] << 8) |
      this.bytes[at + 3];
  }

  skip(length: number): void {
    this.#take(length);
  }

  /** [short bytes], [string]. */
  shortBytes(): Uint8Array {
    const length = this.u16();
    const at = this.#take(length);
    return this.bytes.subarray(at, at + length);
  }

  string(): string {
    return utf8(this.shortBytes());
  }

  /** [long string]; throws {@link TooLong} for more than `max` bytes. */
  longString(max: number): string {
    const length = this.i32();
    if (length < 0) throw new BodyError(`a text of ${length} bytes`);
    if (length > max) {
      throw new TooLong(
        `a text of ${length} bytes, at most ${max} are read; bind long values instead of writing them out`,
      );
    }
    const at = this.#take(length);
    return utf8(this.bytes.subarray(at, at + length));
  }

  /** Passes [value]: -1 null and -2 unset have no bytes. */
  skipValue(): void {
    const length = this.i32();
    if (length > 0) this.#take(length);
    else if (length < -2) throw new BodyError(`a value of ${length} bytes`);
  }

  /** Passes [string list]. */
  skipStringList(): void {
    for (let count = this.u16(); count > 0; count--) this.shortBytes();
  }

  /** Passes [bytes map]. */
  skipBytesMap(): void {
    for (let count = this.u16(); count > 0; count--) {
      this.shortBytes();
      this.skipValue();
    }
  }

  #take(length: number): number {
    const start = this.at;
    const end = start + length;
    if (end > this.bodyBytes) {
      throw new BodyError(`it ends at byte ${this.bodyBytes}, byte ${end} was to come`);
    }
    if (end > this.bytes.length) throw new NeedMore(end);
    this.at = end;
    return start;
  }
}

function utf8(bytes: Uint8Array): string {
  const text = utf8Text(bytes);
  if (text === undefined) throw new BodyError("a text that is not UTF-8");
  return text;
}
