/**
 * Messages of DNS (RFC 1035, 4.1): what a question is about, and what an answer brings. Strict: what two readers could take for different
 * things is not read at all.
 *
 *      0               2               4           6           8           10           12
 *     | id            | qr op .. rcode| questions | answers   | authority | additional | question, records
 *
 * @module
 */
import { IpAddress } from "@weir/common";
import { DnsFormError, readName, skipName } from "./name.ts";
import {
  CLASS_IN,
  NOERROR,
  TYPE_A,
  TYPE_AAAA,
  TYPE_AXFR,
  TYPE_CNAME,
  TYPE_HTTPS,
  TYPE_IXFR,
  TYPE_OPT,
  TYPE_SVCB,
  typeText,
} from "./types.ts";

/** Bytes in front of the question. */
export const HEADER_BYTES = 12;
/** Parameters of SVCB records with addresses (RFC 9460, 14.3.2). */
const IPV4_HINT = 4, IPV6_HINT = 6;

/** What is asked. */
export interface DnsQuestion {
  /** Lower case, with its final dot; see `readName`. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Where it ends in the message; it begins behind the header. */
  readonly end: number;
}

/** A question as a client sends it. */
export interface DnsQuery {
  readonly id: number;
  readonly question: DnsQuestion;
  /** Whether the client knows EDNS (RFC 6891), so that an answer may say more. */
  readonly hasEdns: boolean;
}

/** What an answer brings. */
export interface DnsAnswer {
  /** With the bits that EDNS adds. */
  readonly rcode: number;
  readonly isTruncated: boolean;
  /** Of the answer section, in its order. */
  readonly types: readonly string[];
  /** Of A, AAAA, and of the hints of SVCB and HTTPS; each once. */
  readonly addresses: readonly string[];
  /** What aliases lead to. */
  readonly aliases: readonly string[];
  /** Seconds: the least of the records with addresses and aliases; 0 where there is none. */
  readonly ttlS: number;
}

/** The id of a message that has a header. */
export const idOf = (bytes: Uint8Array) => bytes[0] << 8 | bytes[1];
/** Whether a message that has a header is an answer. */
export const isAnswer = (bytes: Uint8Array) => (bytes[2] & 0x80) !== 0;
/** The kind of question of a message that has a header: 0 for a name. */
export const opcodeOf = (bytes: Uint8Array) => bytes[2] >> 3 & 0xf;

const word = (bytes: Uint8Array, at: number) => bytes[at] << 8 | bytes[at + 1];

/**
 * Reads a question of opcode 0. @param bytes a whole message with a header
 * @throws {DnsFormError} a message that is no such question, or has more than one
 */
export function readQuery(bytes: Uint8Array): DnsQuery {
  const questions = word(bytes, 4);
  if (questions !== 1) throw new DnsFormError(`${questions} questions, want one`);
  if (word(bytes, 6) !== 0) throw new DnsFormError("a question that has answers");
  const question = readQuestion(bytes);
  let hasEdns = false;
  const end = eachRecord(bytes, question.end, (section, type) => {
    if (type !== TYPE_OPT || section !== ADDITIONAL) return;
    if (hasEdns) throw new DnsFormError("two records of EDNS");
    hasEdns = true;
  });
  if (end !== bytes.length) throw new DnsFormError(`${bytes.length - end} bytes behind its end`);
  return { id: idOf(bytes), question, hasEdns };
}

/** @throws {DnsFormError} */
export function readQuestion(bytes: Uint8Array): DnsQuestion {
  const { text, end } = readName(bytes, HEADER_BYTES, false);
  if (end + 4 > bytes.length) throw new DnsFormError("it ends within its question");
  return { name: text, type: word(bytes, end), class: word(bytes, end + 2), end: end + 4 };
}

/**
 * Whether an answer is for this question: the same bytes, but for the case of letters. One without any question is, where it only says what is
 * wrong with the question.
 * @param asked the message that asked, and where its question ends
 */
export function isAnswerTo(bytes: Uint8Array, asked: Uint8Array, end: number): boolean {
  const questions = word(bytes, 4);
  if (questions === 0) return (bytes[3] & 0xf) !== NOERROR && word(bytes, 6) === 0;
  if (questions !== 1 || opcodeOf(bytes) !== 0 || bytes.length < end) return false;
  for (let at = HEADER_BYTES; at < end; at++) {
    const a = asked[at], b = bytes[at];
    if (a === b) continue;
    // Lengths of labels are below 64: only letters differ by this bit alone. Type and class are compared as they are.
    const isLetter = (a | 0x20) >= 0x61 && (a | 0x20) <= 0x7a;
    if (at >= end - 4 || !isLetter || (a ^ b) !== 0x20) return false;
  }
  return true;
}

/**
 * Reads an answer. A truncated one is read as far as it goes. @param bytes a whole message with a header
 * @throws {DnsFormError}
 */
export function readAnswer(bytes: Uint8Array): DnsAnswer {
  const found = new FoundRecords();
  let rcode = bytes[3] & 0xf;
  const isTruncated = (bytes[2] & 0x02) !== 0;
  const start = word(bytes, 4) === 0 ? HEADER_BYTES : readQuestion(bytes).end;
  try {
    eachRecord(bytes, start, (section, type, klass, ttl, at, end) => {
      if (section === ANSWER) found.take(bytes, type, klass, ttl, at, end);
      else if (section === ADDITIONAL && type === TYPE_OPT) rcode |= (ttl >>> 24) << 4;
    });
  } catch (error) {
    if (!isTruncated || !(error instanceof DnsFormError)) throw error;
  }
  const { types, aliases, ttlS } = found;
  return {
    rcode,
    isTruncated,
    types,
    addresses: [...found.addresses],
    aliases,
    ttlS: ttlS === Infinity ? 0 : ttlS,
  };
}

/** Whether answers to such a question come in many messages, and are no names of whom one may speak to. */
export const isTransfer = (type: number) => type === TYPE_AXFR || type === TYPE_IXFR;

const ANSWER = 0, ADDITIONAL = 2;

type Visit = (section: number, type: number, klass: number, ttl: number, at: number, end: number) => void;

/** Goes over all records. @returns where the last one ends @throws {DnsFormError} */
function eachRecord(bytes: Uint8Array, at: number, visit: Visit): number {
  for (let section = ANSWER; section <= ADDITIONAL; section++) {
    for (let left = word(bytes, 6 + 2 * section); left > 0; left--) {
      at = skipName(bytes, at);
      if (at + 10 > bytes.length) throw new DnsFormError("it ends within a record");
      const type = word(bytes, at), klass = word(bytes, at + 2);
      const ttl = (word(bytes, at + 4) * 0x10000) + word(bytes, at + 6);
      const data = at + 10, end = data + word(bytes, at + 8);
      if (end > bytes.length) throw new DnsFormError("it ends within a record");
      visit(section, type, klass, ttl, data, end);
      at = end;
    }
  }
  return at;
}

/** What the answer section brings. */
class FoundRecords {
  readonly types: string[] = [];
  readonly addresses = new Set<string>();
  readonly aliases: string[] = [];
  ttlS = Infinity;

  take(bytes: Uint8Array, type: number, klass: number, ttl: number, at: number, end: number): void {
    this.types.push(typeText(type));
    if (klass !== CLASS_IN) return;
    if (type === TYPE_A) this.#address(bytes, at, end, 4);
    else if (type === TYPE_AAAA) this.#address(bytes, at, end, 16);
    else if (type === TYPE_CNAME) {
      const { text, end: nameEnd } = readName(bytes, at);
      if (nameEnd !== end) throw new DnsFormError("an alias that is no name");
      this.aliases.push(text);
    } else if (type === TYPE_SVCB || type === TYPE_HTTPS) this.#hints(bytes, at, end);
    else return;
    // A set first bit means 0 (RFC 2181, 8).
    this.ttlS = Math.min(this.ttlS, ttl > 0x7fffffff ? 0 : ttl);
  }

  #address(bytes: Uint8Array, at: number, end: number, size: number): void {
    if (end - at !== size) throw new DnsFormError(`an address of ${end - at} bytes, want ${size}`);
    this.addresses.add(addressText(bytes, at, size));
  }

  /** priority 2 | target name | {key 2 | length 2 | value}... */
  #hints(bytes: Uint8Array, at: number, end: number): void {
    at = skipName(bytes, at + 2);
    while (at < end) {
      const key = word(bytes, at), next = at + 4 + word(bytes, at + 2);
      if (at + 4 > end || next > end) throw new DnsFormError("a parameter that goes over its record");
      const size = key === IPV4_HINT ? 4 : key === IPV6_HINT ? 16 : 0;
      if (size > 0) {
        if ((next - at - 4) % size !== 0) throw new DnsFormError("a hint that is no list of addresses");
        for (at += 4; at < next; at += size) this.addresses.add(addressText(bytes, at, size));
      }
      at = next;
    }
    if (at !== end) throw new DnsFormError("a parameter that goes over its record");
  }
}

function addressText(bytes: Uint8Array, at: number, size: number): string {
  if (size === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  return IpAddress.fromBytes(bytes.subarray(at, at + size)).text;
}
