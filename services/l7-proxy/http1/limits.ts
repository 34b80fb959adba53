/** The limits of one connection of HTTP/1.1. @module */

/** In bytes, but where the name says otherwise. */
export const HTTP1_LIMITS = {
  method: 32,
  requestLine: 8 * 1024,
  /** Request or status line with all fields and the empty line: what one buffer holds. */
  head: 64 * 1024,
  fieldCount: 100,
  chunkExtension: 256,
  chunkSizeDigits: 16,
  trailer: 8 * 1024,
  /** Answers of the form 1xx before the one that counts. */
  interimCount: 16,
  /** Of a denied request's body, which is read and thrown away so that the connection can go on. */
  discardedBody: 256 * 1024,
} as const;
