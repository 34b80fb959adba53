/**
 * HPACK from its bytes (RFC 7541): static and dynamic table, Huffman. One for each side of a connection; every block must go through it, also
 * those that nobody wants, because each may change the table.
 *
 *     1xxxxxxx  a field of the table                     01xxxxxx  a field, and into the table with it
 *     001xxxxx  the table's size from now on             0001xxxx  a field that nobody may keep;  0000xxxx  a field
 *
 * @module
 */
import { HeaderField, type HeaderList } from "./header_field.ts";
import { Http2Error } from "./http2_error.ts";
import { decodeHuffman } from "./huffman.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { STATIC_TABLE } from "./static_table.ts";

/** No number in a block is larger. */
const NUMBER_MAX = 2 ** 24;
/** Every string of a block, decoded. */
const text = new Uint8Array(Math.ceil(HTTP2_LIMITS.headerBlock * 8 / 5));

/** A decoder with its table. */
export class HpackDecoder {
  /** Oldest first. */
  readonly #table: HeaderField[] = [];
  #tableBytes = 0;
  #tableMax: number = HTTP2_LIMITS.headerTable;
  #bytes: Uint8Array = text;
  #at = 0;

  /** Bytes that the table has, as RFC 7541 counts them. */
  get tableBytes(): number {
    return this.#tableBytes;
  }

  /**
   * Decodes one block. @throws {Http2Error} bad-compression: the table is not the other side's any more
   */
  decode(block: Uint8Array): HeaderList {
    this.#bytes = block;
    this.#at = 0;
    const fields: HeaderField[] = [];
    let size = 0, isTooLarge = false, isBegun = false;
    while (this.#at < block.length) {
      const first = block[this.#at];
      if (first >> 5 === 1) {
        if (isBegun) throw new Http2Error("bad-compression", "a size of the table behind a field");
        this.#resize(this.#number(5));
        continue;
      }
      isBegun = true;
      const field = first >= 128 ? this.#indexed(this.#number(7)) : this.#literal(first);
      size += field.size;
      if (size > HTTP2_LIMITS.headerList || fields.length >= HTTP2_LIMITS.fieldCount) isTooLarge = true;
      else fields.push(field);
    }
    return { fields, isTooLarge };
  }

  #indexed(index: number): HeaderField {
    const field = index <= STATIC_TABLE.length
      ? STATIC_TABLE[index - 1]
      : this.#table[this.#table.length - (index - STATIC_TABLE.length)];
    if (field === undefined) {
      throw new Http2Error("bad-compression", `index ${index}, which the table does not have`);
    }
    return field;
  }

  #literal(first: number): HeaderField {
    const isKept = first >= 64, isSensitive = first >> 4 === 1;
    const index = this.#number(isKept ? 6 : 4);
    const name = index === 0 ? this.#string() : this.#indexed(index).name;
    const field = new HeaderField(name, this.#string(), isSensitive, isKept);
    if (isKept) this.#add(field);
    return field;
  }

  #add(field: HeaderField): void {
    this.#evict(this.#tableMax - field.size);
    // One that is larger than the table only empties it.
    if (field.size > this.#tableMax) return;
    this.#table.push(field);
    this.#tableBytes += field.size;
  }

  #resize(bytes: number): void {
    if (bytes > HTTP2_LIMITS.headerTable) {
      throw new Http2Error(
        "bad-compression",
        `a table of ${bytes} bytes, of at most ${HTTP2_LIMITS.headerTable}`,
      );
    }
    this.#tableMax = bytes;
    this.#evict(bytes);
  }

  #evict(bytes: number): void {
    while (this.#tableBytes > bytes && this.#table.length > 0) this.#tableBytes -= this.#table.shift()!.size;
  }

  /** A number whose first byte has `bits` of it (RFC 7541, 5.1). */
  #number(bits: number): number {
    const bytes = this.#bytes, mask = (1 << bits) - 1;
    let number = bytes[this.#at++] & mask;
    if (number < mask) return number;
    for (let factor = 1;; factor *= 128) {
      if (this.#at >= bytes.length) throw new Http2Error("bad-compression", "the end inside a number");
      const byte = bytes[this.#at++];
      number += (byte & 127) * factor;
      if (number > NUMBER_MAX || factor > NUMBER_MAX) {
        throw new Http2Error("bad-compression", "a number that is too large");
      }
      if (byte < 128) return number;
    }
  }

  /** Text, one character for each byte. */
  #string(): string {
    const bytes = this.#bytes;
    if (this.#at >= bytes.length) throw new Http2Error("bad-compression", "the end in front of a string");
    const isHuffman = bytes[this.#at] >= 128,
      length = this.#number(7),
      start = this.#at,
      end = start + length;
    if (end > bytes.length) throw new Http2Error("bad-compression", "the end inside a string");
    this.#at = end;
    if (isHuffman) return latin1(text, 0, decodeHuffman(bytes, start, end, text));
    return latin1(bytes, start, end);
  }
}

/** Characters that a call takes as arguments without trouble. */
const PIECE = 4096;

function latin1(bytes: Uint8Array, start: number, end: number): string {
  if (end - start <= PIECE) return String.fromCharCode.apply(null, bytes.subarray(start, end) as never);
  let all = "";
  for (let at = start; at < end; at += PIECE) all += latin1(bytes, at, Math.min(end, at + PIECE));
  return all;
}
