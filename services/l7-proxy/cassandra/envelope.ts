/**
 * Envelopes of the native protocol, versions 3 to 5: nine bytes before each body. Big endian.
 *
 *     0         1         2                   4         5
 *     | version |  flags  |      stream       | opcode  |   version: bit 7 set in responses
 *     |                body length            |             stream: signed, -1 events
 * @module
 */

/** What an envelope is. */
export const Opcode = {
  ERROR: 0x00,
  STARTUP: 0x01,
  READY: 0x02,
  AUTHENTICATE: 0x03,
  OPTIONS: 0x05,
  SUPPORTED: 0x06,
  QUERY: 0x07,
  RESULT: 0x08,
  PREPARE: 0x09,
  EXECUTE: 0x0a,
  REGISTER: 0x0b,
  EVENT: 0x0c,
  BATCH: 0x0d,
  AUTH_CHALLENGE: 0x0e,
  AUTH_RESPONSE: 0x0f,
  AUTH_SUCCESS: 0x10,
} as const;
/** Name of an opcode for people; its number where it has none. */
export function opcodeName(opcode: number): string {
  return OPCODE_NAMES.get(opcode) ?? `opcode 0x${opcode.toString(16).padStart(2, "0")}`;
}
const OPCODE_NAMES = new Map<number, string>(Object.entries(Opcode).map(([name, value]) => [value, name]));

/** Bits of the flags. */
export const EnvelopeFlag = {
  COMPRESSED: 0x01,
  TRACING: 0x02,
  CUSTOM_PAYLOAD: 0x04,
  WARNING: 0x08,
  BETA: 0x10,
} as const;

/** Codes of ERROR that we send. */
export const ErrorCode = {
  PROTOCOL: 0x000a,
  OVERLOADED: 0x1001,
  UNAUTHORIZED: 0x2100,
  UNPREPARED: 0x2500,
} as const;

/** Bytes of a header. */
export const HEADER_BYTES = 9;

/** The nine bytes. */
export interface EnvelopeHeader {
  /** 3, 4, 5, without the bit for responses. */
  readonly version: number;
  readonly response: boolean;
  readonly flags: number;
  readonly stream: number;
  readonly opcode: number;
  readonly bodyBytes: number;
}

/** Reads the header at `offset`; nine bytes are there. */
export function readHeader(bytes: Uint8Array, offset = 0): EnvelopeHeader {
  const stream = (bytes[offset + 2] << 8) | bytes[offset + 3];
  return {
    version: bytes[offset] & 0x7f,
    response: bytes[offset] >= 0x80,
    flags: bytes[offset + 1],
    stream: stream >= 0x8000 ? stream - 0x10000 : stream,
    opcode: bytes[offset + 4],
    bodyBytes: ((bytes[offset + 5] << 24) | (bytes[offset + 6] << 16) | (bytes[offset + 7] << 8) |
      bytes[offset + 8]) >>> 0,
  };
}

/** Bytes of a text in an ERROR; longer ones are cut. */
export const ERROR_TEXT_BYTES_MAX = 4096;

/** An ERROR as an envelope, plain. `id`: the prepared id that UNPREPARED names. */
export function encodeError(
  { version, stream, code, text, id }: {
    version: number;
    stream: number;
    code: number;
    text: string;
    id?: Uint8Array;
  },
): Uint8Array<ArrayBuffer> {
  const encoded = cutUtf8(new TextEncoder().encode(text), ERROR_TEXT_BYTES_MAX);
  const bodyBytes = 4 + 2 + encoded.length + (id === undefined ? 0 : 2 + id.length);
  const bytes = new Uint8Array(HEADER_BYTES + bodyBytes);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x80 | version;
  view.setInt16(2, stream);
  bytes[4] = Opcode.ERROR;
  view.setUint32(5, bodyBytes);
  view.setUint32(9, code);
  view.setUint16(13, encoded.length);
  bytes.set(encoded, 15);
  if (id !== undefined) {
    view.setUint16(15 + encoded.length, id.length);
    bytes.set(id, 17 + encoded.length);
  }
  return bytes;
}

/** At most `max` bytes, and no character in two. */
function cutUtf8(bytes: Uint8Array, max: number): Uint8Array {
  if (bytes.length <= max) return bytes;
  let end = max;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}
