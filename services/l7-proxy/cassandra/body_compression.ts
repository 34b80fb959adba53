/**
 * Bodies of versions 3 and 4, which may be compressed each for itself (flag 0x01): by LZ4 behind four bytes with the plain
 * length, big endian, or by raw Snappy.
 * @module
 */

import { BodyError } from "./body_reader.ts";
import { decompressLz4, decompressSnappy, snappyLength } from "./decompress.ts";
import { EnvelopeFlag, type EnvelopeHeader } from "./envelope.ts";

/** What STARTUP agreed on for bodies. */
export type Compression = "none" | "lz4" | "snappy";

/** A body's plain beginning. */
export interface PlainBody {
  readonly bytes: Uint8Array;
  /** Of the whole body. */
  readonly bodyBytes: number;
  /** So many bytes of the wire's body are needed to begin with; 0: those that are there suffice. */
  readonly needs: number;
}

/** Plain bytes that are made where it is not said how many are needed. */
export const PLAIN_BYTES = 16 * 1024;
/** Plain bytes of one body. */
export const PLAIN_BYTES_MAX = 256 * 1024 * 1024;

/**
 * The plain beginning of a body.
 *
 * @param body The body's beginning, as it is on the wire.
 * @param want Plain bytes that are enough.
 * @throws BodyError, DecompressError
 */
export function plainBody(
  header: EnvelopeHeader,
  compression: Compression,
  body: Uint8Array,
  want: number = PLAIN_BYTES,
): PlainBody {
  if ((header.flags & EnvelopeFlag.COMPRESSED) === 0 || compression === "none") {
    return { bytes: body, bodyBytes: header.bodyBytes, needs: 0 };
  }
  const start = compression === "lz4" ? lz4Start(body) : snappyLength(body);
  if (start === null) {
    if (body.length >= header.bodyBytes) throw new BodyError("a compressed body without its plain length");
    return { bytes: body.subarray(0, 0), bodyBytes: 0, needs: body.length + 1 };
  }
  const { plain, at } = start;
  if (plain > PLAIN_BYTES_MAX) {
    throw new BodyError(`a compressed body of ${plain} plain bytes, at most ${PLAIN_BYTES_MAX}`);
  }
  const enough = Math.min(plain, want);
  const bytes = compression === "lz4"
    ? decompressLz4(body.subarray(at), enough)
    : decompressSnappy(body, at, enough);
  if (bytes.length < enough && body.length >= header.bodyBytes) {
    throw new BodyError(`a compressed body ends after ${bytes.length} plain bytes, ${plain} were to come`);
  }
  return { bytes, bodyBytes: plain, needs: 0 };
}

function lz4Start(body: Uint8Array): { plain: number; at: number } | null {
  if (body.length < 4) return null;
  return { plain: ((body[0] << 24) | (body[1] << 16) | (body[2] << 8) | body[3]) >>> 0, at: 4 };
}
