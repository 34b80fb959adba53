/**
 * Answers that travel as bare envelopes. They are forwarded as they come; a copy of the beginning is read where it tells
 * something.
 * @module
 */

import { type EnvelopeHeader, HEADER_BYTES, readHeader } from "./envelope.ts";
import type { HeldBytes } from "../held_bytes.ts";
import { PEEK_BYTES_MAX, RESPONSE_BYTES_MAX } from "./limits.ts";

/** What a reader of answers is given. */
export interface ResponseSink {
  readonly held: HeldBytes;
  /** Whether the beginning of the body is wanted. */
  readonly peeks: (header: EnvelopeHeader) => boolean;
  readonly forward: (bytes: Uint8Array) => void;
  /** An answer is complete; `body` is its beginning where that was wanted, else empty. */
  readonly answered: (header: EnvelopeHeader, body: Uint8Array) => void;
  readonly close: (reason: string) => void;
}

const NOTHING = new Uint8Array(0);

/** Cuts the stream into answers. */
export class EnvelopeResponses {
  readonly #sink: ResponseSink;
  #header: EnvelopeHeader | null = null;
  #rest = 0;
  #peeked = 0;

  constructor(sink: ResponseSink) {
    this.#sink = sink;
  }

  /** Whether nothing of an answer is forwarded whose rest has still to come. */
  get between(): boolean {
    return this.#header === null;
  }

  /** Takes one answer, or what there is of it; returns where it stopped. */
  take(bytes: Uint8Array, start: number): number {
    const body = this.#header === null ? this.#takeHeader(bytes, start) : start;
    if (this.#header === null) return body;
    const end = Math.min(bytes.length, body + this.#rest);
    if (this.#peeked > 0 && end > body) {
      const taken = Math.min(this.#peeked, end - body);
      this.#sink.held.append(bytes.subarray(body, body + taken));
      this.#peeked -= taken;
    }
    this.#rest -= end - body;
    if (end > start) this.#sink.forward(bytes.subarray(start, end));
    if (this.#rest > 0) return end;
    const header = this.#header;
    this.#header = null;
    this.#sink.answered(header, this.#sink.held.length > 0 ? this.#sink.held.take() : NOTHING);
    return end;
  }

  /** Reads the header; returns where the body begins, or where the bytes end. What was held of it is forwarded here. */
  #takeHeader(bytes: Uint8Array, start: number): number {
    const { held } = this.#sink;
    if (held.length === 0 && bytes.length - start >= HEADER_BYTES) {
      this.#begin(readHeader(bytes, start));
      return start + HEADER_BYTES;
    }
    const end = Math.min(bytes.length, start + HEADER_BYTES - held.length);
    held.append(bytes.subarray(start, end));
    if (held.length < HEADER_BYTES) return end;
    const first = held.take();
    this.#begin(readHeader(first));
    // The rest of the header is forwarded with what follows it.
    if (this.#header !== null) this.#sink.forward(first.subarray(0, HEADER_BYTES - (end - start)));
    return end;
  }

  #begin(header: EnvelopeHeader): void {
    if (header.bodyBytes > RESPONSE_BYTES_MAX) {
      return this.#sink.close(
        `an answer of ${header.bodyBytes} bytes, at most ${RESPONSE_BYTES_MAX} are taken`,
      );
    }
    this.#header = header;
    this.#rest = header.bodyBytes;
    this.#peeked = this.#sink.peeks(header) ? Math.min(header.bodyBytes, PEEK_BYTES_MAX) : 0;
  }
}
