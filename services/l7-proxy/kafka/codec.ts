/**
 * Reads and writes messages by their form. Values: numbers, `bigint` for int64, texts, bytes, arrays, objects by field name; null.
 * @module
 */

import { utf8Text } from "../utf8.ts";
import { hasVersion, type KafkaField, type KafkaMessage } from "./schema.ts";

/** A message that is none. */
export class KafkaFormError extends Error {
  override name = "KafkaFormError";
}

/** What a message has. Tagged fields that nobody knows are kept by their number. */
export interface KafkaStruct {
  [field: string]: KafkaValue;
}
export type KafkaValue = number | bigint | boolean | string | null | Uint8Array | KafkaStruct | KafkaValue[];

/** Version and form of lengths. */
export interface KafkaForm {
  readonly version: number;
  readonly flexible: boolean;
}

const UNKNOWN_TAGS = "#tags";
const TAGS_MAX = 64;

/** A cursor. All throw {@link KafkaFormError} where the bytes end. */
export class KafkaReader {
  at = 0;
  readonly #view: DataView;
  #elements = 0;

  /** @param elementsMax texts and structs in arrays, all together: each becomes an object, however few bytes it has */
  constructor(readonly bytes: Uint8Array, readonly elementsMax = Infinity) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get rest(): number {
    return this.bytes.length - this.at;
  }

  take(length: number): number {
    const start = this.at;
    if (length < 0 || length > this.rest) {
      throw new KafkaFormError(`it ends at byte ${this.bytes.length}, byte ${start + length} was to come`);
    }
    this.at += length;
    return start;
  }

  /** Takes note of `count` elements that are to be read. */
  expect(count: number): void {
    this.#elements += count;
    if (this.#elements > this.elementsMax) {
      throw new KafkaFormError(`it has over ${this.elementsMax} elements`);
    }
  }

  int8(): number {
    return this.#view.getInt8(this.take(1));
  }
  int16(): number {
    return this.#view.getInt16(this.take(2));
  }
  int32(): number {
    return this.#view.getInt32(this.take(4));
  }
  int64(): bigint {
    return this.#view.getBigInt64(this.take(8));
  }
  float64(): number {
    return this.#view.getFloat64(this.take(8));
  }

  /** At most 5 bytes, 32 bits. */
  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.bytes[this.take(1)];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffffffff) break;
        return value;
      }
    }
    throw new KafkaFormError("a number of more than 32 bits");
  }

  raw(length: number): Uint8Array {
    const start = this.take(length);
    return this.bytes.subarray(start, start + length);
  }

  /** [string]; `flexible`: with a compact length. */
  text(flexible: boolean): string | null {
    const length = flexible ? this.varint() - 1 : this.int16();
    if (length < -1) throw new KafkaFormError(`a text of ${length} bytes`);
    return length === -1 ? null : utf8(this.raw(length));
  }

  /** Passes the tagged fields. */
  skipTags(): void {
    for (let count = this.varint(); count > 0; count--) {
      this.varint();
      this.take(this.varint());
    }
  }
}

function utf8(bytes: Uint8Array): string {
  const text = utf8Text(bytes);
  if (text === undefined) throw new KafkaFormError("a text that is not UTF-8");
  return text;
}

/** Reads a message's body. Throws {@link KafkaFormError}. */
export function decodeMessage(message: KafkaMessage, form: KafkaForm, reader: KafkaReader): KafkaStruct {
  return readStruct(message.fields, form, reader);
}

function readStruct(fields: readonly KafkaField[], form: KafkaForm, reader: KafkaReader): KafkaStruct {
  const struct: KafkaStruct = {};
  for (const field of fields) {
    if (!hasVersion(field.versions, form.version)) continue;
    if (hasVersion(field.tagged, form.version)) struct[field.name] = defaultOf(field, form);
    else struct[field.name] = readField(field, form, reader);
  }
  if (form.flexible) readTags(fields, form, reader, struct);
  return struct;
}

function readTags(
  fields: readonly KafkaField[],
  form: KafkaForm,
  reader: KafkaReader,
  struct: KafkaStruct,
): void {
  const count = reader.varint();
  if (count > TAGS_MAX) throw new KafkaFormError(`${count} tagged fields, at most ${TAGS_MAX} are taken`);
  let last = -1;
  const unknown: KafkaValue[] = [];
  for (let index = 0; index < count; index++) {
    const tag = reader.varint();
    if (tag <= last) throw new KafkaFormError(`tagged field ${tag} behind ${last}`);
    last = tag;
    const size = reader.varint();
    const field = fields.find((it) => it.tag === tag && hasVersion(it.tagged, form.version));
    const bytes = reader.raw(size);
    if (field === undefined) {
      unknown.push({ tag, bytes });
      continue;
    }
    const inner = new KafkaReader(bytes);
    struct[field.name] = readField(field, form, inner);
    if (inner.rest > 0) throw new KafkaFormError(`tagged field ${tag} has ${inner.rest} bytes too many`);
  }
  if (unknown.length > 0) struct[UNKNOWN_TAGS] = unknown;
}

function readField(field: KafkaField, form: KafkaForm, reader: KafkaReader): KafkaValue {
  if (!field.array) return readValue(field, form, reader);
  const count = form.flexible ? reader.varint() - 1 : reader.int32();
  if (count === -1 && hasVersion(field.nullable, form.version)) return null;
  // Each element has a byte at least.
  if (count < 0 || count > reader.rest) {
    throw new KafkaFormError(`${field.name} has ${count} elements in ${reader.rest} bytes`);
  }
  if (field.type === "struct" || field.type === "string") reader.expect(count);
  const element: KafkaField = { ...field, nullable: undefined };
  const all: KafkaValue[] = [];
  for (let index = 0; index < count; index++) all.push(readValue(element, form, reader));
  return all;
}

function readValue(field: KafkaField, form: KafkaForm, reader: KafkaReader): KafkaValue {
  switch (field.type) {
    case "bool":
      return reader.int8() !== 0;
    case "int8":
      return reader.int8();
    case "int16":
      return reader.int16();
    case "uint16":
      return reader.int16() & 0xffff;
    case "int32":
      return reader.int32();
    case "uint32":
      return reader.int32() >>> 0;
    case "int64":
      return reader.int64();
    case "float64":
      return reader.float64();
    case "uuid":
      return reader.raw(16);
    case "string": {
      const text = reader.text(form.flexible);
      if (text === null && !hasVersion(field.nullable, form.version)) {
        throw new KafkaFormError(`${field.name} is null`);
      }
      return text;
    }
    case "bytes":
    case "records": {
      const length = form.flexible ? reader.varint() - 1 : reader.int32();
      if (length < -1) throw new KafkaFormError(`${field.name} has ${length} bytes`);
      return length === -1 ? null : reader.raw(length);
    }
    case "struct":
      if (hasVersion(field.nullable, form.version) && reader.int8() < 0) return null;
      return readStruct(field.fields ?? [], form, reader);
  }
  throw new KafkaFormError(`${field.name} is a ${field.type}`);
}

/** Puts bytes one after the other. */
export class KafkaWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  length = 0;

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }

  int8(value: number): void {
    const at = this.#room(1);
    this.#view.setInt8(at, value);
  }
  int16(value: number): void {
    const at = this.#room(2);
    this.#view.setInt16(at, value);
  }
  int32(value: number): void {
    const at = this.#room(4);
    this.#view.setInt32(at, value);
  }
  int64(value: bigint): void {
    const at = this.#room(8);
    this.#view.setBigInt64(at, value);
  }
  float64(value: number): void {
    const at = this.#room(8);
    this.#view.setFloat64(at, value);
  }
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }
  varint(value: number): void {
    for (; value >= 0x80; value = Math.floor(value / 128)) this.int8((value & 0x7f) | 0x80);
    this.int8(value);
  }

  #room(length: number): number {
    const at = this.length;
    this.length += length;
    if (this.length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

/** Writes a message's body; what a struct lacks is as by default. */
export function encodeMessage(
  message: KafkaMessage,
  form: KafkaForm,
  struct: KafkaStruct,
  writer: KafkaWriter,
): void {
  writeStruct(message.fields, form, struct, writer);
}

function writeStruct(
  fields: readonly KafkaField[],
  form: KafkaForm,
  struct: KafkaStruct,
  writer: KafkaWriter,
): void {
  const tags: { tag: number; bytes: Uint8Array }[] = [];
  for (const field of fields) {
    if (!hasVersion(field.versions, form.version)) continue;
    const value = struct[field.name];
    if (!hasVersion(field.tagged, form.version)) {
      writeField(field, form, value === undefined ? defaultOf(field, form) : value, writer);
    } else if (value !== undefined && !isDefault(value, defaultOf(field, form))) {
      const inner = new KafkaWriter();
      writeField(field, form, value, inner);
      tags.push({ tag: field.tag!, bytes: inner.bytes });
    }
  }
  if (!form.flexible) return;
  tags.push(...(struct[UNKNOWN_TAGS] ?? []) as unknown as typeof tags);
  tags.sort((a, b) => a.tag - b.tag);
  writer.varint(tags.length);
  for (const { tag, bytes } of tags) {
    writer.varint(tag);
    writer.varint(bytes.length);
    writer.raw(bytes);
  }
}

function writeField(field: KafkaField, form: KafkaForm, value: KafkaValue, writer: KafkaWriter): void {
  if (!field.array) return writeValue(field, form, value, writer);
  const list = value as KafkaValue[] | null;
  if (form.flexible) writer.varint(list === null ? 0 : list.length + 1);
  else writer.int32(list === null ? -1 : list.length);
  const element: KafkaField = { ...field, nullable: undefined };
  for (const each of list ?? []) writeValue(element, form, each, writer);
}

function writeValue(field: KafkaField, form: KafkaForm, value: KafkaValue, writer: KafkaWriter): void {
  switch (field.type) {
    case "bool":
      return writer.int8(value ? 1 : 0);
    case "int8":
      return writer.int8(value as number);
    case "int16":
    case "uint16":
      return writer.int16(value as number);
    case "int32":
    case "uint32":
      return writer.int32(value as number);
    case "int64":
      return writer.int64(BigInt(value as number | bigint));
    case "float64":
      return writer.float64(value as number);
    case "uuid":
      return writer.raw(value as Uint8Array);
    case "string": {
      const bytes = value === null ? null : new TextEncoder().encode(value as string);
      if (form.flexible) writer.varint(bytes === null ? 0 : bytes.length + 1);
      else writer.int16(bytes === null ? -1 : bytes.length);
      if (bytes !== null) writer.raw(bytes);
      return;
    }
    case "bytes":
    case "records": {
      const bytes = value as Uint8Array | null;
      if (form.flexible) writer.varint(bytes === null ? 0 : bytes.length + 1);
      else writer.int32(bytes === null ? -1 : bytes.length);
      if (bytes !== null) writer.raw(bytes);
      return;
    }
  }
  if (hasVersion(field.nullable, form.version)) {
    writer.int8(value === null ? -1 : 1);
    if (value === null) return;
  }
  writeStruct(field.fields ?? [], form, value as KafkaStruct, writer);
}

/** What a field is where nobody says anything. */
export function defaultOf(field: KafkaField, form: KafkaForm): KafkaValue {
  if (field.default !== undefined) {
    return field.type === "int64" && field.default !== null ? BigInt(field.default) : field.default;
  }
  if (field.array) return [];
  switch (field.type) {
    case "bool":
      return false;
    case "string":
      return "";
    case "uuid":
      return new Uint8Array(16);
    case "bytes":
    case "records":
      return hasVersion(field.nullable, form.version) ? null : new Uint8Array(0);
    case "struct": {
      const struct: KafkaStruct = {};
      for (const each of field.fields ?? []) {
        if (hasVersion(each.versions, form.version)) struct[each.name] = defaultOf(each, form);
      }
      return struct;
    }
    case "int64":
      return 0n;
  }
  return 0;
}

function isDefault(value: KafkaValue, initial: KafkaValue): boolean {
  if (Array.isArray(value)) {
    return Array.isArray(initial) && value.length === initial.length && value.length === 0;
  }
  if (value instanceof Uint8Array) {
    return initial instanceof Uint8Array && value.every((byte, at) => byte === initial[at]);
  }
  if (value !== null && typeof value === "object") {
    return initial !== null && typeof initial === "object" &&
      JSON.stringify(value, big) === JSON.stringify(initial, big);
  }
  return value === initial;
}

function big(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}n` : value;
}
