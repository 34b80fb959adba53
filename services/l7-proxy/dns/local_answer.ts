/**
 * Answers that the proxy gives itself, with the question as it was asked. A client that knows EDNS is told why in words (RFC 8914).
 * @module
 */
import { HEADER_BYTES } from "./message.ts";
import { NXDOMAIN, TYPE_OPT, TYPE_SOA } from "./types.ts";

/** What an answer says. */
export interface LocalAnswer {
  readonly rcode: number;
  /** Where the question ends in the message that asked; 0: it could not be read, and is not repeated. */
  readonly questionEnd: number;
  /** Has it asked again by TCP. */
  readonly isTruncated?: boolean;
  /** Why, for a client that knows EDNS; undefined: nothing, or the client does not. */
  readonly extended?: { readonly code: number; readonly text: string };
}

/** Bytes of an answer: every client takes as many. */
const ANSWER_BYTES_MAX = 512;
/** Bytes of a datagram that a client may send, as is usual. */
const UDP_BYTES = 1232;
/** How long a name that is said not to exist may be taken for that, seconds: policies change. */
const NEGATIVE_TTL_S = 5;
const EXTENDED_ERROR = 15;

const QR = 0x80, TC = 0x02, KEEP_FIRST = 0x79, RA = 0x80, KEEP_SECOND = 0x10;

/** @param query the message that asked; it has a header @returns a message of at most 512 bytes */
export function localAnswer(query: Uint8Array, answer: LocalAnswer): Uint8Array {
  const { rcode, questionEnd, extended } = answer;
  const parts = [query.subarray(0, 2), header(query, answer)];
  if (questionEnd > 0) parts.push(query.subarray(HEADER_BYTES, questionEnd));
  if (rcode === NXDOMAIN) parts.push(authority(query));
  const used = parts.reduce((sum, part) => sum + part.length, 0);
  if (extended !== undefined) parts.push(edns(extended, ANSWER_BYTES_MAX - used));
  return concat(parts);
}

function header(
  query: Uint8Array,
  { rcode, questionEnd, extended, isTruncated = false }: LocalAnswer,
): Uint8Array {
  // Opcode and "recursion desired" as they were asked; "checking disabled" too.
  return Uint8Array.of(
    QR | query[2] & KEEP_FIRST | (isTruncated ? TC : 0),
    RA | query[3] & KEEP_SECOND | rcode,
    0,
    questionEnd > 0 ? 1 : 0,
    0,
    0,
    0,
    rcode === NXDOMAIN ? 1 : 0,
    0,
    extended === undefined ? 0 : 1,
  );
}

/** The start of the zone that has no such name, said to be the one above it: without it some resolvers keep "no such name" for very long. */
function authority(query: Uint8Array): Uint8Array {
  const label = query[HEADER_BYTES], above = HEADER_BYTES + 1 + label;
  const owner = label === 0 || query[above] === 0 ? [0] : [0xc0 | above >> 8, above & 0xff];
  const data = [0, 0, ...long(1), ...long(60), ...long(60), ...long(60), ...long(NEGATIVE_TTL_S)];
  return Uint8Array.of(...owner, 0, TYPE_SOA, 0, 1, ...long(NEGATIVE_TTL_S), 0, data.length, ...data);
}

/** 0 | type | UDP size | rcode, version, flags | length | option, length, code, text */
function edns({ code, text }: { code: number; text: string }, room: number): Uint8Array {
  const words = cut(new TextEncoder().encode(text), room - 17);
  return concat([
    Uint8Array.of(0, 0, TYPE_OPT, ...short(UDP_BYTES), 0, 0, 0, 0, ...short(words.length + 6)),
    Uint8Array.of(0, EXTENDED_ERROR, ...short(words.length + 2), ...short(code)),
    words,
  ]);
}

/** At most so many bytes, and no part of a character. */
function cut(bytes: Uint8Array, max: number): Uint8Array {
  if (bytes.length <= max) return bytes;
  let end = Math.max(0, max);
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

const short = (value: number) => [value >> 8 & 0xff, value & 0xff];
const long = (value: number) => [...short(value >> 16), ...short(value)];

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
