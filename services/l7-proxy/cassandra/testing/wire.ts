/**
 * The client's and the server's side of the native protocol, as far as tests speak it. Blocks are compressed without copies.
 * @module
 */

import { crc24, payloadCrc32 } from "../checksum.ts";
import { HEADER_BYTES, Opcode, readHeader } from "../envelope.ts";

/** Puts numbers, texts and bytes one after the other. */
export class Writer {
  readonly #bytes: number[] = [];

  u8(value: number): this {
    this.#bytes.push(value & 255);
    return this;
  }
  u16(value: number): this {
    return this.u8(value >> 8).u8(value);
  }
  i32(value: number): this {
    return this.u16(value >> 16).u16(value);
  }
  raw(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }
  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u16(bytes.length).raw(bytes);
  }
  longString(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.i32(bytes.length).raw(bytes);
  }
  shortBytes(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }
  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

export interface EnvelopeOptions {
  version?: number;
  flags?: number;
  stream?: number;
}

export function envelope(
  opcode: number,
  body: Uint8Array,
  { version = 4, flags = 0, stream = 0 }: EnvelopeOptions = {},
): Uint8Array {
  return new Writer().u8(version).u8(flags).u16(stream & 0xffff).u8(opcode).i32(body.length).raw(body).bytes;
}

export function response(
  opcode: number,
  body: Uint8Array,
  { version = 4, flags = 0, stream = 0 }: EnvelopeOptions = {},
): Uint8Array {
  return envelope(opcode, body, { version: version | 0x80, flags, stream });
}

export function startup(options: Record<string, string>, at: EnvelopeOptions = {}): Uint8Array {
  const all = Object.entries({ CQL_VERSION: "3.0.0", ...options });
  const body = new Writer().u16(all.length);
  for (const [name, value] of all) body.string(name).string(value);
  return envelope(Opcode.STARTUP, body.bytes, at);
}

/** @param keyspace Of the request itself, from version 5 on. */
export function queryBody(
  text: string,
  { version = 4, keyspace, values = [] }: { version?: number; keyspace?: string; values?: Uint8Array[] } = {},
): Uint8Array {
  const body = new Writer().longString(text);
  return parameters(body, { version, keyspace, values }).bytes;
}

function parameters(
  body: Writer,
  { version = 4, keyspace, values = [] }: { version?: number; keyspace?: string; values?: Uint8Array[] },
): Writer {
  const flags = (keyspace === undefined ? 0 : 0x80) | (values.length > 0 ? 0x01 : 0) | 0x04 | 0x20;
  body.u16(1);
  if (version >= 5) body.i32(flags);
  else body.u8(flags);
  if (values.length > 0) {
    body.u16(values.length);
    for (const value of values) body.i32(value.length).raw(value);
  }
  body.i32(5000).i32(0).i32(1);
  if (keyspace !== undefined) body.string(keyspace);
  return body;
}

export function query(
  text: string,
  at: EnvelopeOptions & { keyspace?: string; values?: Uint8Array[] } = {},
): Uint8Array {
  return envelope(Opcode.QUERY, queryBody(text, at), at);
}

export function prepare(text: string, at: EnvelopeOptions & { keyspace?: string } = {}): Uint8Array {
  const body = new Writer().longString(text);
  if ((at.version ?? 4) >= 5) {
    body.i32(at.keyspace === undefined ? 0 : 1);
    if (at.keyspace !== undefined) body.string(at.keyspace);
  }
  return envelope(Opcode.PREPARE, body.bytes, at);
}

export function execute(id: Uint8Array, at: EnvelopeOptions & { values?: Uint8Array[] } = {}): Uint8Array {
  const body = new Writer().shortBytes(id);
  if ((at.version ?? 4) >= 5) body.shortBytes(id);
  return envelope(Opcode.EXECUTE, parameters(body, at).bytes, at);
}

export function batch(
  members: (string | Uint8Array)[],
  at: EnvelopeOptions & { keyspace?: string } = {},
): Uint8Array {
  const body = new Writer().u8(0).u16(members.length);
  for (const member of members) {
    if (typeof member === "string") body.u8(0).longString(member);
    else body.u8(1).shortBytes(member);
    // A null, an unset value, and one with bytes.
    body.u16(3).i32(-1).i32(-2).i32(2).raw([1, 2]);
  }
  const flags = at.keyspace === undefined ? 0 : 0x80;
  body.u16(1);
  if ((at.version ?? 4) >= 5) body.i32(flags);
  else body.u8(flags);
  if (at.keyspace !== undefined) body.string(at.keyspace);
  return envelope(Opcode.BATCH, body.bytes, at);
}

export const READY = (at: EnvelopeOptions = {}) => response(Opcode.READY, new Uint8Array(0), at);
export const VOID = (at: EnvelopeOptions = {}) => response(Opcode.RESULT, new Writer().i32(1).bytes, at);
export const setKeyspace = (keyspace: string, at: EnvelopeOptions = {}) =>
  response(Opcode.RESULT, new Writer().i32(3).string(keyspace).bytes, at);
export const error = (code: number, text: string, at: EnvelopeOptions = {}) =>
  response(Opcode.ERROR, new Writer().i32(code).string(text).bytes, at);

/** RESULT of a PREPARE behind a tracing id, warnings and a payload where the flags say so. */
export function prepared(id: Uint8Array, at: EnvelopeOptions = {}): Uint8Array {
  const flags = at.flags ?? 0;
  const body = new Writer();
  if ((flags & 0x02) !== 0) body.raw(new Uint8Array(16).fill(4));
  if ((flags & 0x08) !== 0) body.u16(2).string("`USE <keyspace>` with prepared statements").string("");
  if ((flags & 0x04) !== 0) body.u16(1).string("key").i32(4).raw([0, 0, 0, 4]);
  return response(Opcode.RESULT, body.i32(4).shortBytes(id).shortBytes(id).i32(0).i32(0).i32(0).bytes, at);
}

/** A block of LZ4 that has literals only. */
export function lz4Literals(plain: Uint8Array): Uint8Array {
  const block = new Writer();
  if (plain.length < 15) return block.u8(plain.length << 4).raw(plain).bytes;
  block.u8(0xf0);
  let rest = plain.length - 15;
  for (; rest >= 255; rest -= 255) block.u8(255);
  return block.u8(rest).raw(plain).bytes;
}

/** The envelope with its body compressed. */
export function compressed(plain: Uint8Array, how: "lz4" | "snappy"): Uint8Array {
  const header = readHeader(plain);
  const body = plain.subarray(HEADER_BYTES);
  const block = new Writer();
  if (how === "lz4") {
    block.i32(body.length).raw(lz4Literals(body));
  } else {
    let length = body.length;
    for (; length >= 0x80; length >>= 7) block.u8(length | 0x80);
    block.u8(length);
    for (let at = 0; at < body.length; at += 60) {
      const piece = body.subarray(at, at + 60);
      block.u8((piece.length - 1) << 2).raw(piece);
    }
  }
  const bytes = block.bytes;
  return new Writer().u8(plain[0]).u8(header.flags | 1).raw(plain.subarray(2, 5)).i32(bytes.length).raw(bytes)
    .bytes;
}

/** A segment, compressed if `lz4`. */
export function segment(payload: Uint8Array, { lz4 = false, selfContained = true } = {}): Uint8Array {
  const sent = lz4 ? lz4Literals(payload) : payload;
  const header = new Uint8Array(lz4 ? 8 : 6);
  const bits = lz4
    ? BigInt(sent.length) | (BigInt(payload.length) << 17n) | (selfContained ? 1n << 34n : 0n)
    : BigInt(sent.length) | (selfContained ? 1n << 17n : 0n);
  for (let at = 0; at < header.length - 3; at++) header[at] = Number((bits >> BigInt(8 * at)) & 255n);
  const sum = crc24(header, 0, header.length - 3);
  header.set([sum & 255, (sum >> 8) & 255, sum >> 16], header.length - 3);
  const crc = payloadCrc32(sent);
  return new Writer().raw(header).raw(sent).raw([crc & 255, (crc >> 8) & 255, (crc >> 16) & 255, crc >>> 24])
    .bytes;
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
