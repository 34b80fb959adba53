/**
 * Finds the end of a body in bytes that come in pieces, and holds none of them: what it is shown is passed on as it is, but for the
 * fields after the last chunk, of which those are dropped that a receiver could take for the head's.
 * @module
 */
import { HeadFinder, readFields } from "./fields.ts";
import { Http1Error } from "./http1_error.ts";
import { HTTP1_LIMITS } from "./limits.ts";
import type { BodyKind } from "./request_head.ts";

const CR = 13, LF = 10, SEMICOLON = 59;

/** Where in a chunk the next byte is. */
type Place = "size" | "extension" | "size-lf" | "data" | "data-cr" | "data-lf" | "trailer";

/** Fields that have no business behind a body: who joins them to the head would take them for what was judged. */
export const NOT_IN_TRAILERS = new Set([
  "content-length",
  "transfer-encoding",
  "host",
  "connection",
  "trailer",
  "te",
  "upgrade",
  "expect",
  "keep-alive",
  "content-encoding",
  "content-type",
  "content-range",
  "authorization",
  "proxy-authorization",
  "proxy-authenticate",
  "www-authenticate",
  "cookie",
  "set-cookie",
  "cache-control",
  "range",
  "max-forwards",
]);

const NOTHING = new Uint8Array(0);

/** The reader of one body. */
export class BodyReader {
  /** True when the body is over; of `until-close` never. */
  done: boolean;
  /** What follows the bytes that are passed on as they are: the fields after the last chunk. */
  tail: Uint8Array = NOTHING;
  #left: number;
  #place: Place = "size";
  #digits = 0;
  #extension = 0;
  #trailer: number[] = [];
  readonly #kind: BodyKind;

  constructor(kind: BodyKind, length = 0) {
    this.#kind = kind;
    this.#left = kind === "length" ? length : 0;
    this.done = kind === "none" || (kind === "length" && length === 0);
  }

  /** Bytes that are still to come, as far as it is known. */
  get left(): number {
    return this.#left;
  }

  /**
   * Looks at `bytes` from `start` to `end`.
   * @returns `read`: beyond the last byte that is of this body; `passed`: beyond the last that is passed on as it is, at most `read`
   * @throws {Http1Error} bad-chunk, chunk-extension-too-long, bad-trailer, trailer-too-long
   */
  look(bytes: Uint8Array, start: number, end: number): { read: number; passed: number } {
    if (this.done) return { read: start, passed: start };
    if (this.#kind === "until-close") return { read: end, passed: end };
    if (this.#kind === "length") {
      const read = Math.min(end, start + this.#left);
      this.#left -= read - start;
      this.done = this.#left === 0;
      return { read, passed: read };
    }
    return this.#lookAtChunks(bytes, start, end);
  }

  #lookAtChunks(bytes: Uint8Array, start: number, end: number): { read: number; passed: number } {
    let at = start, passed = end;
    while (at < end) {
      switch (this.#place) {
        case "size": {
          const byte = bytes[at++], digit = hexDigit(byte);
          if (digit >= 0) {
            this.#left = this.#left * 16 + digit;
            if (++this.#digits > HTTP1_LIMITS.chunkSizeDigits || this.#left > Number.MAX_SAFE_INTEGER) {
              throw new Http1Error("bad-chunk", "a size that is too large");
            }
          } else if (this.#digits === 0 || (byte !== CR && byte !== SEMICOLON)) {
            throw new Http1Error("bad-chunk", `byte ${byte} in a size`);
          } else this.#place = byte === CR ? "size-lf" : "extension";
          break;
        }
        case "extension": {
          const byte = bytes[at++];
          if (byte === CR) this.#place = "size-lf";
          else if (byte < 32 && byte !== 9 || byte >= 127) {
            throw new Http1Error("bad-chunk", `byte ${byte} in an extension`);
          } else if (++this.#extension > HTTP1_LIMITS.chunkExtension) {
            throw new Http1Error(
              "chunk-extension-too-long",
              `more than ${HTTP1_LIMITS.chunkExtension} bytes`,
            );
          }
          break;
        }
        case "size-lf":
          if (bytes[at++] !== LF) throw new Http1Error("bad-chunk", "CR without LF");
          this.#digits = 0;
          this.#extension = 0;
          this.#place = this.#left > 0 ? "data" : "trailer";
          if (this.#place === "trailer") passed = at;
          break;
        case "data": {
          const taken = Math.min(this.#left, end - at);
          at += taken;
          this.#left -= taken;
          if (this.#left === 0) this.#place = "data-cr";
          break;
        }
        case "data-cr":
          if (bytes[at++] !== CR) throw new Http1Error("bad-chunk", "data without CR LF behind it");
          this.#place = "data-lf";
          break;
        case "data-lf":
          if (bytes[at++] !== LF) throw new Http1Error("bad-chunk", "data without CR LF behind it");
          this.#place = "size";
          break;
        case "trailer":
          if (passed === end) passed = at;
          at = this.#lookAtTrailer(bytes, at, end);
          if (this.done) return { read: at, passed };
      }
    }
    return { read: at, passed: Math.min(passed, at) };
  }

  #lookAtTrailer(bytes: Uint8Array, start: number, end: number): number {
    const trailer = this.#trailer;
    for (let at = start; at < end; at++) {
      if (bytes[at] === LF && trailer.at(-1) !== CR) throw new Http1Error("bad-trailer", "LF without CR");
      trailer.push(bytes[at]);
      if (bytes[at] === LF && (trailer.length === 2 || isEmptyLine(trailer))) {
        this.tail = keptTrailer(new Uint8Array(trailer));
        this.#trailer = [];
        this.done = true;
        return at + 1;
      }
      if (trailer.length > HTTP1_LIMITS.trailer) {
        throw new Http1Error("trailer-too-long", `more than ${HTTP1_LIMITS.trailer} bytes`);
      }
    }
    return end;
  }
}

function isEmptyLine(trailer: number[]): boolean {
  const { length } = trailer;
  return length >= 4 && trailer[length - 2] === CR && trailer[length - 3] === LF;
}

/** The trailer with its empty line, without the fields that have no business there. */
function keptTrailer(bytes: Uint8Array): Uint8Array {
  const finder = new HeadFinder();
  let kept: { lineStart: number; lineEnd: number }[];
  try {
    if (finder.find(bytes, 0, bytes.length) !== bytes.length) throw new Http1Error("bad-trailer");
    kept = readFields(bytes, 0, bytes.length).filter(({ key }) =>
      !NOT_IN_TRAILERS.has(key.replaceAll("_", "-"))
    );
  } catch (error) {
    throw error instanceof Http1Error ? new Http1Error("bad-trailer", error.code) : error;
  }
  const length = kept.reduce((sum, { lineStart, lineEnd }) => sum + lineEnd - lineStart, 2);
  if (length === bytes.length) return bytes;
  const tail = new Uint8Array(length);
  let at = 0;
  for (const { lineStart, lineEnd } of kept) {
    tail.set(bytes.subarray(lineStart, lineEnd), at);
    at += lineEnd - lineStart;
  }
  tail.set([CR, LF], at);
  return tail;
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  if (byte >= 97 && byte <= 102) return byte - 87;
  if (byte >= 65 && byte <= 70) return byte - 55;
  return -1;
}
