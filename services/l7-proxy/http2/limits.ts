/** The limits of one connection of HTTP/2. @module */

/** In bytes, but where the name says otherwise. */
export const HTTP2_LIMITS = {
  /** Of a frame's payload: what RFC 9113 has for who says nothing else. */
  frame: 16_384,
  /** Of either side's table, as RFC 7541 has it for who says nothing else. */
  headerTable: 4096,
  /** A block of fields as it comes, compressed. */
  headerBlock: 64 * 1024,
  /** CONTINUATION frames of one block. */
  continuationCount: 8,
  /** The fields of a block: names, values and 32 for each (RFC 9113, 6.5.2). */
  headerList: 64 * 1024,
  fieldCount: 100,
  path: 8 * 1024,
  /** Streams of one connection at once. */
  streamCount: 100,
  /** Answers of the form 1xx before the one that counts. */
  interimCount: 16,
  /** What waits to be written to one side before the other is read on. */
  outflow: 64 * 1024,
  /** Of one direction, sent before a receiver took back its leave: beyond it the sender is not read on. */
  held: 256 * 1024,
  /** Read and thrown away: of the body of a request that we answered, and at the end, so that a last word arrives. */
  discarded: 256 * 1024,
  /** Frames that ask for work and carry nothing, in {@link HTTP2_LIMITS.windowMs}; each frame with something takes one off. */
  controlCount: 200,
  /** Streams given up before an answer began and within {@link HTTP2_LIMITS.prematureMs}, in `windowMs`, where they are the most. */
  prematureCount: 100,
  prematureMs: 1000,
  windowMs: 30_000,
} as const;
