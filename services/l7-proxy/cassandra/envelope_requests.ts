/**
 * Requests that travel as bare envelopes: all of versions 3 and 4, and what comes before the answer to STARTUP.
 * @module
 */

import { type EnvelopeHeader, HEADER_BYTES, readHeader } from "./envelope.ts";
import type { HeldBytes } from "../held_bytes.ts";
import type { Decision } from "./request_judge.ts";

/** What a reader of requests is given. */
export interface RequestSink {
  readonly held: HeldBytes;
  readonly decide: (header: EnvelopeHeader, body: Uint8Array) => Decision;
  readonly forward: (bytes: Uint8Array) => void;
  /** An answer or a close. */
  readonly perform: (decision: Decision) => void;
}

/** What a reader of bare requests is given. */
export interface EnvelopeSink extends RequestSink {
  /** Whether what follows cannot be read yet: STARTUP has no answer. */
  readonly paused: () => boolean;
}

/** Cuts the stream into requests; of each only what its judgement needs is held. */
export class EnvelopeRequests {
  readonly #sink: EnvelopeSink;
  /** Bytes of the request in progress that are forwarded, or dropped, as they come. */
  #rest = 0;
  #drops = false;
  /** Bytes that must be held before it is tried again. */
  #wanted = HEADER_BYTES;
  #closed = false;

  constructor(sink: EnvelopeSink) {
    this.#sink = sink;
  }

  /** Whether the beginning of a request waits for more of it. */
  get isWithin(): boolean {
    return this.#sink.held.length > 0;
  }

  /** Returns where it stopped. */
  take(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && !this.#closed && !this.#sink.paused()) {
      if (this.#rest > 0) at = this.#pass(bytes, at);
      else if (this.#sink.held.length > 0 || bytes.length - at < this.#wanted) at = this.#hold(bytes, at);
      else at += this.#try(bytes.subarray(at));
    }
    return at;
  }

  #pass(bytes: Uint8Array, at: number): number {
    const end = Math.min(bytes.length, at + this.#rest);
    if (!this.#drops) this.#sink.forward(bytes.subarray(at, end));
    this.#rest -= end - at;
    return end;
  }

  #hold(bytes: Uint8Array, at: number): number {
    const { held } = this.#sink;
    const end = Math.min(bytes.length, at + this.#wanted - held.length);
    held.append(bytes.subarray(at, end));
    if (held.length < this.#wanted) return end;
    const all = held.bytes;
    const before = this.#wanted;
    const used = this.#try(all);
    // Without a decision they stay, and more is wanted.
    if (used > 0) held.take();
    else if (this.#wanted <= before) throw new Error("a request was tried twice with the same bytes");
    return end;
  }

  /** Decides about the request at the start of `bytes`; returns how many of them are done with, 0: more are wanted. */
  #try(bytes: Uint8Array): number {
    const header = readHeader(bytes);
    const total = HEADER_BYTES + header.bodyBytes;
    const available = Math.min(bytes.length, total);
    const decision = this.#sink.decide(header, bytes.subarray(HEADER_BYTES, available));
    if (decision.kind === "more") {
      this.#wanted = HEADER_BYTES + decision.bytes;
      return 0;
    }
    this.#wanted = HEADER_BYTES;
    this.#closed = decision.kind === "close";
    this.#drops = decision.kind !== "forward";
    if (!this.#drops) this.#sink.forward(bytes.subarray(0, available));
    this.#rest = total - available;
    this.#sink.perform(decision);
    return available;
  }
}
