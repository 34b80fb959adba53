/**
 * HPACK without a table of its own: each block stands for itself, so a request that is left out changes nothing for those after it.
 * @module
 */
import type { HeaderField } from "./header_field.ts";
import { INDEX_OF_FIELD, INDEX_OF_NAME } from "./static_table.ts";

/** A table's size of nothing: legal for whoever allows any, and wanted by who allows none. */
const NO_TABLE = 0x20;

/** Where blocks are written: more than any list that is read has. */
let scratch = new Uint8Array(96 * 1024);

/** An encoder of one connection. */
export class HpackEncoder {
  #isFirst = true;

  /** @returns the block; valid until the next call of any encoder */
  encode(fields: Iterable<HeaderField>): Uint8Array {
    let at = 0;
    if (this.#isFirst) scratch[at++] = NO_TABLE;
    this.#isFirst = false;
    for (const field of fields) {
      if (field.size + at > scratch.length) {
        const larger = new Uint8Array(2 * (field.size + at));
        larger.set(scratch);
        scratch = larger;
      }
      if (field.encoded === undefined) {
        const start = at;
        at = put(field, at);
        if (field.isKept) field.encoded = scratch.slice(start, at);
      } else {
        scratch.set(field.encoded, at);
        at += field.encoded.length;
      }
    }
    return scratch.subarray(0, at);
  }
}

function put({ name, value, isSensitive }: HeaderField, at: number): number {
  const whole = isSensitive ? undefined : INDEX_OF_FIELD.get(`${name}\0${value}`);
  if (whole !== undefined) return putNumber(whole, 7, 0x80, at);
  const index = INDEX_OF_NAME.get(name) ?? 0;
  at = putNumber(index, 4, isSensitive ? 0x10 : 0, at);
  if (index === 0) at = putString(name, at);
  return putString(value, at);
}

/** @param bits that the first byte has for it, behind `flags` */
function putNumber(number: number, bits: number, flags: number, at: number): number {
  const mask = (1 << bits) - 1;
  if (number < mask) {
    scratch[at] = flags | number;
    return at + 1;
  }
  scratch[at++] = flags | mask;
  for (number -= mask; number >= 128; number = number >> 7) scratch[at++] = number & 127 | 128;
  scratch[at++] = number;
  return at;
}

function putString(text: string, at: number): number {
  at = putNumber(text.length, 7, 0, at);
  for (let i = 0; i < text.length; i++) scratch[at++] = text.charCodeAt(i);
  return at;
}
