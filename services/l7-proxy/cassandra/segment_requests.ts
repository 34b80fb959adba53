/**
 * Requests that travel in segments. A segment of which everything may pass is forwarded as it is; where a request of it is
 * denied, the others are put into a segment of our own.
 * @module
 */

import { DecompressError } from "./decompress.ts";
import { type EnvelopeHeader, HEADER_BYTES, readHeader } from "./envelope.ts";
import type { RequestSink } from "./envelope_requests.ts";
import type { HeldBytes } from "../held_bytes.ts";
import type { Decision } from "./request_judge.ts";
import { encodeSegment, plainPayload, type SegmentHeader, segmentIsIntact } from "./segment.ts";
import { SegmentReader } from "./segment_reader.ts";

/** What a reader of requests in segments is given. */
export interface SegmentRequestSink extends RequestSink {
  /** For the plain beginning of a request that has several segments. */
  readonly tail: HeldBytes;
  /** For its segments until it is decided. */
  readonly waiting: HeldBytes;
  readonly lz4: boolean;
}

/** A request in several segments. */
interface LargeRequest {
  readonly header: EnvelopeHeader;
  /** Plain bytes of it that have still to come. */
  rest: number;
  /** What becomes of it; null: it is not decided yet. */
  forwards: boolean | null;
  /** Bytes of the body that must be there before it is tried again. */
  wanted: number;
}

/** Cuts the stream into segments, and those into requests. */
export class SegmentRequests {
  readonly #sink: SegmentRequestSink;
  readonly #reader: SegmentReader;
  #large: LargeRequest | null = null;
  #closed = false;

  constructor(sink: SegmentRequestSink) {
    this.#sink = sink;
    this.#reader = new SegmentReader(sink.held, sink.lz4, {
      // What follows a decision is not read any more: the server checks it, and has the same lengths from the same headers.
      passes: (header) =>
        !header.selfContained && this.#large !== null && this.#large.forwards !== null &&
        header.plainBytes <= this.#large.rest,
      pass: (bytes) => {
        if (this.#large!.forwards) sink.forward(bytes);
      },
      passed: ({ plainBytes }) => {
        this.#large!.rest -= plainBytes;
        if (this.#large!.rest === 0) this.#large = null;
      },
      whole: (header, segment) => this.#segment(header, segment),
    });
  }

  /** Whether the beginning of a segment, or of a request that is not decided, waits for more of it. */
  get isWithin(): boolean {
    return this.#sink.held.length > 0 || this.#large?.forwards === null;
  }

  take(bytes: Uint8Array): number {
    for (let at = 0; at < bytes.length && !this.#closed;) {
      const end = this.#reader.take(bytes, at);
      if (typeof end === "string") this.#close(`the client sends ${end}`);
      else at = end;
    }
    return bytes.length;
  }

  #segment(header: SegmentHeader, segment: Uint8Array): void {
    if (!segmentIsIntact(segment, header)) {
      return this.#close("the client sends a segment that does not fit its checksum");
    }
    let plain: Uint8Array;
    try {
      plain = plainPayload(segment, header);
    } catch (error) {
      if (!(error instanceof DecompressError)) throw error;
      return this.#close(`the client sends a segment that cannot be read: ${error.message}`);
    }
    if (plain.length !== header.plainBytes) {
      return this.#close(
        `the client sends a segment of ${plain.length} plain bytes that says ${header.plainBytes}`,
      );
    }
    if (header.selfContained) this.#whole(segment, plain);
    else this.#piece(segment, plain);
  }

  /** Whole requests: each is decided at once. */
  #whole(segment: Uint8Array, plain: Uint8Array): void {
    if (this.#large !== null) return this.#close("the client begins another request within a large one");
    const kept: Uint8Array[] = [];
    let all = true;
    for (let at = 0; at < plain.length;) {
      if (plain.length - at < HEADER_BYTES) {
        return this.#close("the client sends a segment that ends within a header");
      }
      const header = readHeader(plain, at);
      const end = at + HEADER_BYTES + header.bodyBytes;
      if (end > plain.length) return this.#close("the client sends a segment that ends within a request");
      const decision = this.#sink.decide(header, plain.subarray(at + HEADER_BYTES, end));
      if (decision.kind === "forward") {
        kept.push(plain.subarray(at, end));
      } else {
        all = false;
        this.#perform(decision);
        // What was decided to pass before goes on its way.
        if (this.#closed) break;
      }
      at = end;
    }
    if (all) this.#sink.forward(segment);
    else if (kept.length > 0) this.#sink.forward(encodeSegment(join(kept), this.#sink.lz4));
  }

  /** A piece of one request. */
  #piece(segment: Uint8Array, plain: Uint8Array): void {
    let body = plain;
    if (this.#large === null) {
      if (plain.length < HEADER_BYTES) {
        return this.#close("the client sends a segment that ends within a header");
      }
      const header = readHeader(plain);
      const rest = HEADER_BYTES + header.bodyBytes;
      this.#large = { header, rest, forwards: null, wanted: 0 };
      body = plain.subarray(HEADER_BYTES);
    }
    const large = this.#large;
    large.rest -= plain.length;
    if (large.rest < 0) return this.#close("the client sends more of a request than its header says");
    this.#wait(large, segment, body);
    if (large.rest === 0) this.#large = null;
  }

  #wait(large: LargeRequest, segment: Uint8Array, body: Uint8Array): void {
    const { tail, waiting } = this.#sink;
    tail.append(body);
    const decision: Decision = tail.length < large.wanted && large.rest > 0
      ? { kind: "more", bytes: large.wanted }
      : this.#sink.decide(large.header, tail.bytes);
    if (decision.kind === "more") {
      large.wanted = decision.bytes;
      waiting.append(segment);
      return;
    }
    tail.take();
    large.forwards = decision.kind === "forward";
    const before = waiting.take();
    if (large.forwards) {
      this.#sink.forward(before);
      this.#sink.forward(segment);
    }
    this.#perform(decision);
  }

  #perform(decision: Decision): void {
    if (decision.kind === "close") this.#closed = true;
    if (decision.kind === "more") {
      return this.#close("the client sends a request whose body ends too early");
    }
    this.#sink.perform(decision);
  }

  #close(reason: string): void {
    this.#closed = true;
    this.#sink.perform({ kind: "close", reason });
  }
}

function join(parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
