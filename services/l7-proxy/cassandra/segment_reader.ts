/**
 * Cuts a stream of version 5 into segments.
 * @module
 */

import type { HeldBytes } from "../held_bytes.ts";
import { readSegmentHeader, type SegmentHeader, segmentHeaderBytes } from "./segment.ts";

/** What a reader of segments tells. */
export interface SegmentSink {
  /** Whether a segment with this header passes as it comes, so that nothing of it is held. */
  readonly passes: (header: SegmentHeader) => boolean;
  /** Bytes of such a segment, in their order. */
  readonly pass: (bytes: Uint8Array) => void;
  /** Such a segment has come to its end. */
  readonly passed: (header: SegmentHeader) => void;
  /** Another one is all there. */
  readonly whole: (header: SegmentHeader, segment: Uint8Array) => void;
}

/** Holds the beginning of a segment until the rest has come, unless it passes as it comes. */
export class SegmentReader {
  readonly #held: HeldBytes;
  readonly #lz4: boolean;
  readonly #sink: SegmentSink;
  /** The segment that passes, and bytes of it that have still to come. */
  #passing: SegmentHeader | null = null;
  #rest = 0;

  constructor(held: HeldBytes, lz4: boolean, sink: SegmentSink) {
    this.#held = held;
    this.#lz4 = lz4;
    this.#sink = sink;
  }

  /** Takes bytes from `start` on, up to the end of a segment. @returns where it stopped; a text: confusion */
  take(bytes: Uint8Array, start: number): number | string {
    if (this.#passing !== null) return this.#pass(bytes, start);
    const held = this.#held, headerBytes = segmentHeaderBytes(this.#lz4);
    let at = start;
    if (held.length === 0) {
      if (bytes.length - at >= headerBytes) {
        const header = readSegmentHeader(bytes, at, this.#lz4);
        if (typeof header === "string") return header;
        if (this.#sink.passes(header)) {
          this.#begin(header, header.bytes);
          return this.#pass(bytes, at);
        }
        if (bytes.length - at >= header.bytes) {
          this.#sink.whole(header, bytes.subarray(at, at + header.bytes));
          return at + header.bytes;
        }
        held.reserve(header.bytes);
      }
      held.append(bytes.subarray(at));
      return bytes.length;
    }
    if (held.length < headerBytes) {
      const end = Math.min(bytes.length, at + headerBytes - held.length);
      held.append(bytes.subarray(at, end));
      at = end;
      if (held.length < headerBytes) return at;
    }
    const header = readSegmentHeader(held.bytes, 0, this.#lz4);
    if (typeof header === "string") return header;
    if (this.#sink.passes(header)) {
      const first = held.take();
      this.#begin(header, header.bytes - first.length);
      this.#sink.pass(first);
      return this.#pass(bytes, at);
    }
    held.reserve(header.bytes);
    const end = Math.min(bytes.length, at + header.bytes - held.length);
    held.append(bytes.subarray(at, end));
    if (held.length < header.bytes) return end;
    this.#sink.whole(header, held.take());
    return end;
  }

  #begin(header: SegmentHeader, rest: number): void {
    this.#passing = header;
    this.#rest = rest;
  }

  #pass(bytes: Uint8Array, at: number): number {
    const end = Math.min(bytes.length, at + this.#rest), header = this.#passing!;
    if (end > at) this.#sink.pass(bytes.subarray(at, end));
    this.#rest -= end - at;
    if (this.#rest === 0) {
      this.#passing = null;
      this.#sink.passed(header);
    }
    return end;
  }
}
