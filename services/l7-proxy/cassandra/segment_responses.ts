/**
 * Answers that travel in segments. Each segment is forwarded whole, as it came; of a compressed one no more is unpacked
 * than says where its answers begin.
 * @module
 */

import { DecompressError } from "./decompress.ts";
import { type EnvelopeHeader, HEADER_BYTES, readHeader } from "./envelope.ts";
import type { ResponseSink } from "./envelope_responses.ts";
import { PEEK_BYTES_MAX, RESPONSE_BYTES_MAX } from "./limits.ts";
import { plainPayload, type SegmentHeader, segmentIsIntact } from "./segment.ts";
import { SegmentReader } from "./segment_reader.ts";

const NOTHING = new Uint8Array(0);

/** An answer in several segments. */
interface LargeAnswer {
  readonly header: EnvelopeHeader;
  readonly body: Uint8Array;
  /** Plain bytes of it that have still to come. */
  rest: number;
}

/** Cuts the stream into segments, and those into answers. */
export class SegmentResponses {
  readonly #sink: ResponseSink;
  readonly #reader: SegmentReader;
  #large: LargeAnswer | null = null;
  /** The newest that was not passed as it came. */
  #header!: SegmentHeader;
  #segment!: Uint8Array;

  constructor(sink: ResponseSink & { readonly lz4: boolean }) {
    this.#sink = sink;
    this.#reader = new SegmentReader(sink.held, sink.lz4, {
      passes: (header) =>
        !header.selfContained && this.#large !== null &&
        header.plainBytes <= this.#large.rest,
      pass: (bytes) => sink.forward(bytes),
      passed: ({ plainBytes }) => this.#pieceEnds(this.#large!, plainBytes),
      whole: (header, segment) => this.#take(header, segment),
    });
  }

  /** Whether no answer is forwarded in part: a segment of which something is missing is not forwarded at all yet. */
  get between(): boolean {
    return this.#large === null;
  }

  /** Takes one segment, or what there is of it; returns where it stopped. */
  take(bytes: Uint8Array, start: number): number {
    const end = this.#reader.take(bytes, start);
    if (typeof end === "number") return end;
    this.#sink.close(`the server sends ${end}`);
    return bytes.length;
  }

  #take(header: SegmentHeader, segment: Uint8Array): void {
    this.#header = header;
    this.#segment = segment;
    this.#sink.forward(segment);
    try {
      if (!header.selfContained) this.#piece();
      else if (this.#large === null) this.#whole();
      else this.#sink.close("the server begins another answer within a large one");
    } catch (error) {
      if (!(error instanceof DecompressError)) throw error;
      this.#sink.close(`the server sends a segment that cannot be read: ${error.message}`);
    }
  }

  #whole(): void {
    const { plainBytes } = this.#header;
    const single = this.#begin();
    if (single === null) return;
    if (HEADER_BYTES + single.bodyBytes === plainBytes) {
      return this.#sink.answered(single, this.#body(single, plainBytes - HEADER_BYTES));
    }
    const plain = this.#plain(plainBytes);
    for (let at = 0; at < plainBytes;) {
      if (plainBytes - at < HEADER_BYTES) {
        return this.#sink.close("the server sends a segment that ends within a header");
      }
      const header = readHeader(plain, at);
      const end = at + HEADER_BYTES + header.bodyBytes;
      if (end > plainBytes) return this.#sink.close("the server sends a segment that ends within an answer");
      const peeks = this.#sink.peeks(header);
      if (peeks && !this.#isIntact()) return;
      this.#sink.answered(header, peeks ? plain.subarray(at + HEADER_BYTES, end) : NOTHING);
      at = end;
    }
  }

  #piece(): void {
    const { plainBytes } = this.#header;
    if (this.#large === null) {
      const header = this.#begin();
      if (header === null) return;
      if (header.bodyBytes > RESPONSE_BYTES_MAX) {
        return this.#sink.close(
          `an answer of ${header.bodyBytes} bytes, at most ${RESPONSE_BYTES_MAX} are taken`,
        );
      }
      const body = this.#body(header, plainBytes - HEADER_BYTES).slice();
      this.#large = { header, body, rest: HEADER_BYTES + header.bodyBytes };
    }
    if (plainBytes > this.#large.rest) {
      return this.#sink.close("the server sends more of an answer than its header says");
    }
    this.#pieceEnds(this.#large, plainBytes);
  }

  #pieceEnds(large: LargeAnswer, plainBytes: number): void {
    large.rest -= plainBytes;
    if (large.rest > 0) return;
    this.#large = null;
    this.#sink.answered(large.header, large.body);
  }

  /** The first answer's header; null: there is none, and the connection is closed. */
  #begin(): EnvelopeHeader | null {
    if (this.#header.plainBytes >= HEADER_BYTES) return readHeader(this.#plain(HEADER_BYTES));
    this.#sink.close("the server sends a segment that ends within a header");
    return null;
  }

  /** The beginning of the first answer's body, where it is wanted. */
  #body(header: EnvelopeHeader, bodyBytes: number): Uint8Array {
    if (!this.#sink.peeks(header) || !this.#isIntact()) return NOTHING;
    return this.#plain(HEADER_BYTES + Math.min(bodyBytes, PEEK_BYTES_MAX)).subarray(HEADER_BYTES);
  }

  #plain(bytes: number): Uint8Array {
    const plain = plainPayload(this.#segment, this.#header, bytes);
    if (plain.length < bytes) throw new DecompressError(`${plain.length} plain bytes, ${bytes} were to come`);
    return plain;
  }

  /** What is learnt from must fit its checksum. What is only passed on is the client's to check. */
  #isIntact(): boolean {
    if (segmentIsIntact(this.#segment, this.#header)) return true;
    this.#sink.close("the server sends a segment that does not fit its checksum");
    return false;
  }
}
