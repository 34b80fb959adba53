/**
 * Chunks of HTTP/1.1 (RFC 9112, section 7.1). What many readers are given is put together within its chunk, so that nobody
 * copies it again:
 *
 *     | length in hex CRLF | bytes | CRLF |
 *                          └─ what `concatInChunk` answers
 *
 * @module
 */

const encoder = new TextEncoder();
export const CRLF: Uint8Array<ArrayBuffer> = encoder.encode("\r\n");

/** Chunks by the bytes in them. */
const chunks = new WeakMap<Uint8Array, Uint8Array<ArrayBuffer>>();

/** The line before the bytes of a chunk. `length` is more than 0: an empty chunk is the last. */
export function chunkHead(length: number): Uint8Array<ArrayBuffer> {
  return encoder.encode(length.toString(16) + "\r\n");
}

/** All parts as one array, in memory within its chunk. */
export function concatInChunk(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const head = chunkHead(length);
  const chunk = new Uint8Array(head.length + length + CRLF.length);
  chunk.set(head);
  let at = head.length;
  for (const part of parts) {
    chunk.set(part, at);
    at += part.length;
  }
  chunk.set(CRLF, at);
  const bytes = chunk.subarray(head.length, at);
  chunks.set(bytes, chunk);
  return bytes;
}

/** The chunk that {@link concatInChunk} made around these bytes; undefined where they come from elsewhere. */
export function chunkAround(bytes: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  return chunks.get(bytes);
}
