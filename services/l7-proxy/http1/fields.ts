/**
 * The fields of a head, read from bytes. A head is looked at byte by byte once; text is made of it once, as a whole.
 *
 *     Host: a.example CR LF Accept: x CR LF CR LF
 *     ^lineStart            ^lineEnd (of the first, beyond its CR LF)
 *
 * @module
 */
import { Http1Error } from "./http1_error.ts";
import { HTTP1_LIMITS } from "./limits.ts";

/** One field. */
export interface Field {
  /** As sent. */
  readonly name: string;
  /** Without blanks around it; UTF-8 where it has bytes beyond ASCII. */
  readonly value: string;
  /** Name in lower case. */
  readonly key: string;
  /** Where its line begins and where the next does, in the bytes that were read. */
  readonly lineStart: number;
  readonly lineEnd: number;
}

const CR = 13, LF = 10, TAB = 9, SPACE = 32, COLON = 58;

const TOKEN = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  TOKEN[char.charCodeAt(0)] = 1;
}

/** True when the byte may stand in a token (RFC 9110, 5.6.2). */
export function isTokenByte(byte: number): boolean {
  return TOKEN[byte] === 1;
}

/** True for a token: the name of a field, a coding, an option of a connection. */
export function isToken(text: string): boolean {
  return TOKEN_TEXT.test(text);
}
const TOKEN_TEXT = /^[-\w!#$%&'*+.^`|~]+$/;

// A byte order mark stays: the server sees it too.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Text of bytes; what is not UTF-8 becomes U+FFFD, which no rule names. */
export function textOf(bytes: Uint8Array, start: number, end: number): string {
  return decoder.decode(bytes.subarray(start, end));
}

/** The text of a head, made once; parts of it are slices. Positions are those in the bytes, and right up to the first byte beyond ASCII. */
export class HeadText {
  #text: string | undefined;

  constructor(readonly bytes: Uint8Array, readonly start: number, readonly end: number) {}

  /** From `start` to `end`, before which all is ASCII. */
  slice(start: number, end: number): string {
    this.#text ??= textOf(this.bytes, this.start, this.end);
    return this.#text.slice(start - this.start, end - this.start);
  }
}

/**
 * Finds the end of a head across several calls with ever more bytes. Positions are kept from the head's first byte on, so the bytes may
 * be moved meanwhile. A bare LF, or a CR that no LF follows, is found as soon as it is there.
 */
export class HeadFinder {
  /** Where the line begins that is looked at, and how far it was. */
  #line = 0;
  #at = 0;

  /** Begins with another head. */
  reset(): void {
    this.#line = 0;
    this.#at = 0;
  }

  /** The first line was found. */
  get hasLine(): boolean {
    return this.#line > 0;
  }

  /**
   * @param start where the head begins, @param end beyond the last byte that is there
   * @returns beyond the empty line, or -1 while there is none
   * @throws {Http1Error} bad-line-end
   */
  find(bytes: Uint8Array, start: number, end: number): number {
    let at = start + this.#at, line = start + this.#line;
    // The last call may have ended between the two.
    if (at > line && at < end && bytes[at - 1] === CR && bytes[at] !== LF) {
      throw new Http1Error("bad-line-end");
    }
    for (; at < end; at++) {
      const byte = bytes[at];
      if (byte > CR) continue;
      if (byte === LF) {
        if (at === line || bytes[at - 1] !== CR) throw new Http1Error("bad-line-end");
        if (at - 1 === line) return at + 1;
        line = at + 1;
      } else if (byte === CR && at + 1 < end && bytes[at + 1] !== LF) throw new Http1Error("bad-line-end");
    }
    this.#at = at - start;
    this.#line = line - start;
    return -1;
  }
}

/**
 * The fields between `start` and the empty line that ends before `end`. Lines end in CR LF: {@link HeadFinder} has seen to it.
 * @param text of the head that they are of; all before `start` is ASCII
 * @throws {Http1Error} folded-field, bad-field-name, bad-field-value, field-too-many
 */
export function readFields(
  bytes: Uint8Array,
  start: number,
  end: number,
  text = new HeadText(bytes, start, end),
): Field[] {
  const fields: Field[] = [];
  let isAscii = true;
  for (let at = start; at < end - 2;) {
    const lineStart = at;
    if (fields.length >= HTTP1_LIMITS.fieldCount) {
      throw new Http1Error("field-too-many", `more than ${HTTP1_LIMITS.fieldCount}`);
    }
    if (bytes[at] === SPACE || bytes[at] === TAB) throw new Http1Error("folded-field");
    while (at < end && TOKEN[bytes[at]] === 1) at++;
    if (bytes[at] !== COLON || at === lineStart) {
      throw new Http1Error("bad-field-name", textOf(bytes, lineStart, Math.min(at + 8, end)));
    }
    const nameEnd = at++;
    while (bytes[at] === SPACE || bytes[at] === TAB) at++;
    const valueStart = at;
    let valueEnd = at, mixed = 0;
    for (; bytes[at] !== CR; at++) {
      const byte = bytes[at];
      mixed |= byte;
      if (byte === SPACE || byte === TAB) continue;
      if (byte < SPACE || byte === 127) {
        throw new Http1Error("bad-field-value", textOf(bytes, lineStart, nameEnd));
      }
      valueEnd = at + 1;
    }
    at += 2;
    if (mixed > 127) isAscii = false;
    const name = isAscii ? text.slice(lineStart, nameEnd) : textOf(bytes, lineStart, nameEnd);
    const value = isAscii ? text.slice(valueStart, valueEnd) : textOf(bytes, valueStart, valueEnd);
    fields.push({ name, value, key: name.toLowerCase(), lineStart, lineEnd: at });
  }
  return fields;
}

/** The members of a list that is separated by commas, in lower case; an empty member stays, as "". */
export function listOf(value: string): string[] {
  return value.split(",").map((member) => lowerCase(member.replace(BLANKS, "")));
}

/** What stands around a member; `trim()` takes blanks away that no server knows: U+00A0, U+FEFF. */
const BLANKS = /^[ \t]+|[ \t]+$/g;
const ASCII = /^[\0-\x7f]*$/;

/** Text in lower case, if all of it is ASCII: of letters beyond it some become ASCII's, as the sign of Kelvin becomes k. */
export function lowerCase(text: string): string {
  return ASCII.test(text) ? text.toLowerCase() : text;
}
