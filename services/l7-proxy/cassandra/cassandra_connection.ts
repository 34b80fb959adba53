/**
 * One connection of the native protocol, between a client and a server: judges requests, forwards bytes as they are, answers
 * what is denied. It does no I/O: who calls hands it the bytes of both directions and writes what comes of them.
 * @module
 */

import { BodyError } from "./body_reader.ts";
import type { Compression } from "./body_compression.ts";
import { encodeError, EnvelopeFlag, type EnvelopeHeader, ErrorCode, Opcode, opcodeName } from "./envelope.ts";
import { EnvelopeRequests } from "./envelope_requests.ts";
import { EnvelopeResponses } from "./envelope_responses.ts";
import { HeldBytes, HeldBytesError } from "../held_bytes.ts";
import {
  ANSWERS_WAITING_BYTES_MAX,
  CONTROL_BYTES_MAX,
  EARLY_BYTES_MAX,
  HELD_MESSAGE_BYTES_MAX,
} from "./limits.ts";
import { type CassandraConnectionOptions, type Decision, RequestJudge } from "./request_judge.ts";
import { encodeSegment } from "./segment.ts";
import { SegmentRequests } from "./segment_requests.ts";
import { SegmentResponses } from "./segment_responses.ts";
import { readStartup } from "./startup.ts";
import { pushBytes, type Step } from "../step.ts";

/** Versions that are read. Version 6 is a beta, 1 and 2 have other headers. */
const VERSION_MIN = 3;
const VERSION_MAX = 5;
/** First byte of a TLS connection. */
const TLS_HANDSHAKE = 0x16;
/** Version of an ERROR about a version that is not read: each driver since 2015 reads it. */
const VERSION_OF_REFUSAL = 4;

/** What the client's direction tells its connection. */
interface RequestReader {
  readonly isWithin: boolean;
  take(bytes: Uint8Array): number;
}

/** What the server's direction tells it. */
interface ResponseReader {
  /** Whether our own answers may be put between what it has written. */
  readonly between: boolean;
  /** Takes bytes from `start` on; returns where it stopped: at the end, or where the framing changes. */
  take(bytes: Uint8Array, start: number): number;
}

/** A connection. */
export class CassandraConnection {
  readonly #judge: RequestJudge;
  readonly #early: HeldBytes;
  readonly #held: HeldBytes[] = [];
  #requests: RequestReader;
  #responses: ResponseReader;
  #phase: "start" | "starting" | "ready" = "start";
  #version = 0;
  #compression: Compression = "none";
  #startupStream = 0;
  #toServer: Uint8Array[] = [];
  #toClient: Uint8Array[] = [];
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #closed: string | null = null;

  constructor(options: CassandraConnectionOptions) {
    this.#judge = new RequestJudge(options);
    this.#early = this.#hold();
    this.#requests = new EnvelopeRequests({
      held: this.#hold(),
      decide: (header, body) => this.#decide(header, body),
      forward: (bytes) => pushBytes(this.#toServer, bytes),
      perform: (decision) => this.#perform(decision),
      paused: () => this.#phase === "starting",
    });
    this.#responses = new EnvelopeResponses({
      held: this.#hold(),
      peeks: (header) => this.#judge.peeks(header),
      forward: (bytes) => pushBytes(this.#toClient, bytes),
      answered: (header, body) => this.#answered(header, body),
      close: (reason) => this.#close(reason),
    });
  }

  /** Why the connection was closed; null: it was not. */
  get closed(): string | null {
    return this.#closed;
  }

  /** Requests without an answer. */
  get pending(): number {
    return this.#judge.pending.size;
  }

  /** What it waits for: a greeting or the rest of a request (`head`), answers (`stream`), the next request (`idle`). */
  get waitsFor(): "head" | "stream" | "idle" {
    if (this.#phase !== "ready" || this.#requests.isWithin) return "head";
    return this.pending > 0 ? "stream" : "idle";
  }

  /** Bytes that the client sent. */
  fromClient(bytes: Uint8Array): Step {
    return this.#run(() => this.#take(bytes));
  }

  /** Bytes that the server sent. */
  fromServer(bytes: Uint8Array): Step {
    return this.#run(() => {
      for (let at = 0; at < bytes.length && this.#closed === null;) {
        at = this.#responses.take(bytes, at);
        this.#release();
      }
      if (this.#phase !== "starting" && this.#early.length > 0 && this.#closed === null) {
        this.#take(this.#early.take());
      }
    });
  }

  /** The connection has ended: what it held is given back. */
  end(): void {
    this.#closed ??= "it has ended";
    for (const held of this.#held) held.take();
    this.#waiting = [];
  }

  #run(work: () => void): Step {
    if (this.#closed !== null) return { toServer: [], toClient: [], close: this.#closed };
    try {
      work();
    } catch (error) {
      if (!(error instanceof HeldBytesError)) throw error;
      this.#close(error.message);
    }
    const step = { toServer: this.#toServer, toClient: this.#toClient, close: this.#closed };
    this.#toServer = [];
    this.#toClient = [];
    return step;
  }

  #decide(header: EnvelopeHeader, body: Uint8Array): Decision {
    if (header.response) return { kind: "close", reason: "the client sends a response" };
    if (header.version < VERSION_MIN || header.version > VERSION_MAX) return refuseVersion(header);
    if (this.#phase === "ready") {
      if (header.version !== this.#version) {
        return {
          kind: "close",
          reason: `a request of version ${header.version} on a connection of ${this.#version}`,
        };
      }
      return this.#judge.decide(header, this.#version < 5 ? this.#compression : "none", body);
    }
    if (header.opcode === Opcode.OPTIONS) return this.#judge.decide(header, "none", body);
    if (header.opcode !== Opcode.STARTUP) {
      return { kind: "close", reason: `${opcodeName(header.opcode)} before STARTUP` };
    }
    return this.#startup(header, body);
  }

  #startup(header: EnvelopeHeader, body: Uint8Array): Decision {
    if (
      header.bodyBytes > CONTROL_BYTES_MAX || header.stream < 0 ||
      (header.flags & ~EnvelopeFlag.TRACING) !== 0
    ) {
      const { bodyBytes, stream, flags } = header;
      return {
        kind: "close",
        reason: `STARTUP with ${bodyBytes} bytes, stream ${stream} and flags ${flags}`,
      };
    }
    if (this.#judge.pending.size > 0) return { kind: "close", reason: "STARTUP before OPTIONS is answered" };
    if (body.length < header.bodyBytes) return { kind: "more", bytes: header.bodyBytes };
    try {
      this.#compression = readStartup(body, header.version);
    } catch (error) {
      if (!(error instanceof BodyError)) throw error;
      const text = `Weir: STARTUP cannot be read: ${error.message}`;
      const { version, stream } = header;
      return {
        kind: "close",
        reason: text,
        envelope: encodeError({ version, stream, code: ErrorCode.PROTOCOL, text }),
      };
    }
    this.#version = header.version;
    this.#startupStream = header.stream;
    this.#phase = "starting";
    return { kind: "forward" };
  }

  #perform(decision: Decision): void {
    if (decision.kind === "answer") this.#answer(decision.envelope);
    if (decision.kind === "close") {
      if (decision.envelope !== undefined) this.#answer(decision.envelope);
      this.#close(decision.reason);
    }
  }

  #answered(header: EnvelopeHeader, body: Uint8Array): void {
    if (!header.response) return this.#close("the server sends a request");
    // A server that does not read the version answers on stream 0.
    const ofStartup = header.stream === this.#startupStream || header.opcode === Opcode.ERROR;
    if (this.#phase === "starting" && ofStartup) return this.#started(header);
    const error = this.#judge.answered(header, this.#version < 5 ? this.#compression : "none", body);
    if (error !== null) this.#close(error);
  }

  /** STARTUP is answered: from here on both sides speak as they agreed. */
  #started({ opcode, version }: EnvelopeHeader): void {
    if (opcode === Opcode.ERROR) {
      this.#phase = "start";
      this.#compression = "none";
      return;
    }
    if (opcode !== Opcode.READY && opcode !== Opcode.AUTHENTICATE) {
      return this.#close(`the server answers STARTUP with ${opcodeName(opcode)}`);
    }
    if (version !== this.#version) {
      return this.#close(`the server answers STARTUP of version ${this.#version} in version ${version}`);
    }
    this.#phase = "ready";
    if (version < 5) return;
    const lz4 = this.#compression === "lz4";
    this.#requests = new SegmentRequests({
      held: this.#hold(),
      tail: this.#hold(),
      waiting: this.#hold(),
      lz4,
      decide: (header, body) => this.#decide(header, body),
      forward: (bytes) => pushBytes(this.#toServer, bytes),
      perform: (decision) => this.#perform(decision),
    });
    this.#responses = new SegmentResponses({
      held: this.#hold(),
      lz4,
      peeks: (header) => this.#judge.peeks(header),
      forward: (bytes) => pushBytes(this.#toClient, bytes),
      answered: (header, body) => this.#answered(header, body),
      close: (reason) => this.#close(reason),
    });
  }

  #take(bytes: Uint8Array): void {
    const at = this.#phase === "starting" ? 0 : this.#requests.take(bytes);
    if (this.#phase === "starting" && at < bytes.length) this.#keepEarly(bytes.subarray(at));
  }

  #keepEarly(bytes: Uint8Array): void {
    if (this.#early.length + bytes.length > EARLY_BYTES_MAX) {
      return this.#close(`over ${EARLY_BYTES_MAX} bytes before STARTUP is answered`);
    }
    this.#early.append(bytes);
  }

  /** Puts an envelope of ours to the client, as soon as the server's message in progress has ended. */
  #answer(envelope: Uint8Array): void {
    const segments = this.#phase === "ready" && this.#version >= 5;
    const bytes = segments ? encodeSegment(envelope, this.#compression === "lz4") : envelope;
    if (this.#responses.between) {
      this.#toClient.push(bytes);
      return;
    }
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes > ANSWERS_WAITING_BYTES_MAX) {
      return this.#close("too many answers of ours wait behind a message of the server's");
    }
    this.#waiting.push(bytes);
  }

  #release(): void {
    if (this.#waiting.length === 0 || !this.#responses.between) return;
    this.#toClient.push(...this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #close(reason: string): void {
    this.#closed ??= reason;
  }

  #hold(): HeldBytes {
    const { shared, client = "" } = this.#judge.options;
    const held = new HeldBytes(shared.held.of(client), HELD_MESSAGE_BYTES_MAX);
    this.#held.push(held);
    return held;
  }
}

function refuseVersion({ version, stream }: EnvelopeHeader): Decision {
  if (version === TLS_HANDSHAKE) return { kind: "close", reason: "TLS on a port with a Cassandra rule" };
  const text = `Invalid or unsupported protocol version (${version}); ` +
    `Weir reads versions ${VERSION_MIN} to ${VERSION_MAX}`;
  const envelope = encodeError({ version: VERSION_OF_REFUSAL, stream, code: ErrorCode.PROTOCOL, text });
  return { kind: "close", reason: text, envelope };
}
