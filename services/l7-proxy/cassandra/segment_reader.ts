/**
 * Cuts a stream of version 5 into segments.
 * @module
 */

import type { HeldBytes } from "../held_bytes.ts";
import { readSegmentHeader, type SegmentHeader, segmentHeaderBytes } from "./segment.ts";

/** Holds the beginning of a segment until the rest has come. */
export class SegmentReader {
  readonly #held: HeldBytes;
  readonly #lz4: boolean;
  /** Of the newest whole segment. */
  header!: SegmentHeader;
  segment!: Uint8Array;

  constructor(held: HeldBytes, lz4: boolean) {
    this.#held = held;
    this.#lz4 = lz4;
  }

  /**
   * Takes bytes from `start` on, up to the end of a segment.
   *
   * @returns Where it stopped; a whole segment is in `header` and `segment` if `whole()` is told so. A text: confusion.
   */
  take(bytes: Uint8Array, start: number, whole: () => void): number | string {
    const headerBytes = segmentHeaderBytes(this.#lz4);
    let at = start;
    if (this.#held.length === 0) {
      if (bytes.length - at >= headerBytes) {
        const header = readSegmentHeader(bytes, at, this.#lz4);
        if (typeof header === "string") return header;
        if (bytes.length - at >= header.bytes) {
          this.header = header;
          this.segment = bytes.subarray(at, at + header.bytes);
          whole();
          return at + header.bytes;
        }
        this.#held.reserve(header.bytes);
      }
      this.#held.append(bytes.subarray(at));
      return bytes.length;
    }
    if (this.#held.length < headerBytes) {
      const end = Math.min(bytes.length, at + headerBytes - this.#held.length);
      this.#held.append(bytes.subarray(at, end));
      at = end;
      if (this.#held.length < headerBytes) return at;
    }
    const header = readSegmentHeader(this.#held.bytes, 0, this.#lz4);
    if (typeof header === "string") return header;
    this.#held.reserve(header.bytes);
    const end = Math.min(bytes.length, at + header.bytes - this.#held.length);
    this.#held.append(bytes.subarray(at, end));
    if (this.#held.length < header.bytes) return end;
    this.header = header;
    this.segment = this.#held.take();
    whole();
    return end;
  }
}
