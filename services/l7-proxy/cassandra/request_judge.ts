/**
 * Decides what becomes of each request of a connection, and learns from the answers what later requests mean.
 * @module
 */

import { BodyError, BodyReader, NeedMore, TooLong } from "./body_reader.ts";
import { type Compression, PLAIN_BYTES, plainBody } from "./body_compression.ts";
import { ConnectionKeyspace, type PendingUse } from "./connection_keyspace.ts";
import { type CqlStatement, UNREAD_ACTION } from "@weir/l7-rules";
import { DecompressError } from "./decompress.ts";
import { encodeError, EnvelopeFlag, type EnvelopeHeader, ErrorCode, Opcode, opcodeName } from "./envelope.ts";
import {
  type CassandraShared,
  CONTROL_BYTES_MAX,
  HELD_BYTES_MAX,
  PENDING_AT_USE_MAX,
  PENDING_MAX,
  PENDING_UNQUALIFIED_MAX,
  REQUEST_BYTES_MAX,
} from "./limits.ts";
import { type JudgedRequest, type PendingRequest, PendingRequests } from "./pending_requests.ts";
import { type CassandraRequest, readRequest } from "./request.ts";
import { readResponse } from "./response.ts";
import { DIFFERENT_MAX, QUESTIONS_MAX, StatementTally } from "./statement_tally.ts";
import type { CassandraEvent, CassandraJudge } from "./verdict.ts";

/** What is to be done with a request. */
export type Decision =
  /** `bytes` of its body, as it is on the wire, are needed to decide. */
  | { readonly kind: "more"; readonly bytes: number }
  | { readonly kind: "forward" }
  /** It is dropped, and this envelope is the answer. */
  | { readonly kind: "answer"; readonly envelope: Uint8Array }
  /** The connection cannot go on. The client is sent `envelope`, if there is one. */
  | { readonly kind: "close"; readonly reason: string; readonly envelope?: Uint8Array };

/** What a connection is given. */
export interface CassandraConnectionOptions {
  /** "address:port" of the server, whose prepared ids are shared. */
  readonly server: string;
  readonly shared: CassandraShared;
  /** Whose share of what is held it takes. */
  readonly client?: string;
  readonly judge: CassandraJudge;
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  readonly record: (event: CassandraEvent) => void;
}

const JUDGED = new Set<number>([Opcode.QUERY, Opcode.PREPARE, Opcode.EXECUTE, Opcode.BATCH]);
const PASSED = new Set<number>([Opcode.OPTIONS, Opcode.REGISTER, Opcode.AUTH_RESPONSE]);
const REQUEST_FLAGS = EnvelopeFlag.COMPRESSED | EnvelopeFlag.TRACING | EnvelopeFlag.CUSTOM_PAYLOAD;
const FORWARD: Decision = { kind: "forward" };
const NOTHING: JudgedRequest = { action: "", table: "", ends: [] };
const NO_STATEMENTS: readonly CqlStatement[] = [];
/** Of requests whose names are all whole: nothing is ever added to it. */
const NO_KEYSPACES = new Set<string>();

/** One connection's requests. */
export class RequestJudge {
  readonly pending = new PendingRequests();
  readonly #keyspace = new ConnectionKeyspace();

  constructor(readonly options: CassandraConnectionOptions) {}

  /**
   * Decides about a request after STARTUP.
   *
   * @param compression Of bodies with the flag for it.
   * @param body The body's beginning, as it is on the wire.
   * @param want Bytes of a compressed body's plain form to begin with.
   */
  decide(header: EnvelopeHeader, compression: Compression, body: Uint8Array, want = PLAIN_BYTES): Decision {
    const refused = this.#refuse(header, compression);
    if (refused !== null) return refused;
    if (this.pending.has(header.stream)) {
      return close(`stream ${header.stream} has a request that is not answered yet`);
    }
    if (this.pending.size >= PENDING_MAX) {
      const text =
        `Weir: ${PENDING_MAX} requests of this connection wait for their answers, no more are taken`;
      return this.#deny(header, NOTHING, text, ErrorCode.OVERLOADED);
    }
    if (!JUDGED.has(header.opcode)) {
      this.pending.add(header.stream, passing(header.opcode, this.options.now()));
      return FORWARD;
    }
    try {
      const plain = plainBody(header, compression, body, want);
      if (plain.needs > 0) return this.#more(header, body, plain.needs);
      const request = readRequest(header, new BodyReader(plain.bytes, plain.bodyBytes));
      return this.#judge(header, request);
    } catch (error) {
      if (error instanceof NeedMore) {
        return this.#needs(header, compression, body, { bytes: error.bytes, want });
      }
      if (error instanceof TooLong) return this.#deny(header, NOTHING, `Weir: ${error.message}`);
      if (!(error instanceof BodyError || error instanceof DecompressError)) throw error;
      return close(`the body of ${opcodeName(header.opcode)} cannot be read: ${error.message}`);
    }
  }

  /** Whether the beginning of an answer's body tells something; the whole of it is never needed. */
  peeks(header: EnvelopeHeader): boolean {
    const request = this.pending.get(header.stream);
    return request !== undefined && tells(header, request);
  }

  /** An answer has come; a text: it is the answer to nothing. */
  answered(header: EnvelopeHeader, compression: Compression, body: Uint8Array): string | null {
    const request = this.pending.get(header.stream);
    if (request === undefined) {
      if (header.stream < 0 && header.opcode === Opcode.EVENT) return null;
      // What a server could not read of a request it answers on stream 0.
      if (header.opcode === Opcode.ERROR) return null;
      return `the server answers on stream ${header.stream}, which has no request`;
    }
    this.pending.delete(header.stream);
    const response = tells(header, request)
      ? readResponse(header, compression, body)
      : { kind: "other" as const };
    if (request.prepares !== null && response.kind === "prepared") {
      const { server, shared } = this.options;
      shared.prepared.learn(server, response.id, { ...request.prepares, keyspaces: [...request.keyspaces] });
    }
    if (request.use !== null) {
      const answered = response.kind === "keyspace"
        ? response.keyspace
        : header.opcode === Opcode.ERROR
        ? null
        : undefined;
      this.#keyspace.end(request.use, answered);
    } else if (response.kind === "keyspace") this.#keyspace.set(response.keyspace);
    if (request.judged !== null) {
      this.#record("response", "forwarded", request.opcode, request.judged, {
        errorCode: response.kind === "error" ? response.code : 0,
        latencyMs: this.options.now() - request.sentMs,
      });
    }
    return null;
  }

  #refuse(header: EnvelopeHeader, compression: Compression): Decision | null {
    const { opcode, flags, stream, bodyBytes } = header;
    if (header.response) return close("the client sends a response");
    const judged = JUDGED.has(opcode);
    if (!judged && !PASSED.has(opcode)) {
      return close(`${opcodeName(opcode)} is no request that may come here`);
    }
    if (stream < 0) return close(`a request on stream ${stream}`);
    if ((flags & EnvelopeFlag.BETA) !== 0) {
      return close(
        "the client asks for a beta version",
        encodeError({
          version: header.version,
          stream,
          code: ErrorCode.PROTOCOL,
          text: "Weir: beta versions of the protocol are not taken",
        }),
      );
    }
    if ((flags & ~REQUEST_FLAGS) !== 0) return close(`a request with unknown flags 0x${flags.toString(16)}`);
    // In version 5 segments are compressed, bodies never: the Java driver sets the flag all the same, and servers ignore it.
    if ((flags & EnvelopeFlag.COMPRESSED) !== 0 && compression === "none" && header.version < 5) {
      return close("a compressed request, and no compression of bodies was agreed on");
    }
    const max = judged ? REQUEST_BYTES_MAX : CONTROL_BYTES_MAX;
    if (bodyBytes > max) {
      const text = `Weir: ${opcodeName(opcode)} has ${bodyBytes} bytes, at most ${max} are taken`;
      return close(text, encodeError({ version: header.version, stream, code: ErrorCode.PROTOCOL, text }));
    }
    return null;
  }

  /** Of the plain body `bytes` are needed, beyond what `want` made of a compressed one or beyond what has come. */
  #needs(
    header: EnvelopeHeader,
    compression: Compression,
    body: Uint8Array,
    { bytes, want }: { bytes: number; want: number },
  ): Decision {
    if ((header.flags & EnvelopeFlag.COMPRESSED) === 0 || bytes > HELD_BYTES_MAX) {
      return this.#more(header, body, bytes);
    }
    const wider = Math.min(HELD_BYTES_MAX, Math.max(bytes, 2 * want));
    const plain = plainBody(header, compression, body, wider);
    if (plain.bytes.length >= bytes) return this.decide(header, compression, body, wider);
    return this.#more(header, body, body.length + 1);
  }

  #more(header: EnvelopeHeader, body: Uint8Array, bytes: number): Decision {
    if (body.length >= header.bodyBytes) {
      return close(`the body of ${opcodeName(header.opcode)} ends too early`);
    }
    if (bytes > HELD_BYTES_MAX) {
      const text =
        `Weir: to judge this ${opcodeName(header.opcode)}, ${bytes} bytes of it would have to be held, ` +
        `at most ${HELD_BYTES_MAX} are`;
      return this.#deny(header, NOTHING, text);
    }
    if (body.length >= header.bodyBytes) {
      return close(`the body of ${opcodeName(header.opcode)} ends too early`);
    }
    // Each try reads from the start: with twice as much each time, all of them together cost what the last one does.
    return {
      kind: "more",
      bytes: Math.min(header.bodyBytes, Math.max(bytes, Math.min(2 * body.length, HELD_BYTES_MAX))),
    };
  }

  #judge(header: EnvelopeHeader, request: CassandraRequest): Decision {
    const { server, shared, now } = this.options;
    const keyspaces = request.keyspace === null ? this.#keyspace.possible : [request.keyspace];
    // Those of a batch that do one thing are one.
    const unqualified: CqlStatement[] = [], different = request.parts.length > 1 ? new Set<string>() : null;
    const statements: CqlStatement[] = [];
    const decision = new StatementTally(this.options.judge);
    let use: string | null = null;
    let unread = "", unknown = false;
    for (const part of request.parts) {
      if (part.kind === "text") {
        if (part.unread !== "") unread = part.unread;
        unknown ||= part.unread !== "";
        for (const statement of part.text.statements) {
          statements.push(statement);
          if (
            request.keyspace === null && statement.scope === "table" && statement.keyspace === "" &&
            isNew(different, statement)
          ) unqualified.push(statement);
          decision.ask(statement, keyspaces);
        }
        use = part.text.use;
      } else {
        const prepared = shared.prepared.get(server, part.id);
        if (prepared === undefined) return this.#unprepared(header, part.id);
        for (const statement of prepared.statements) {
          decision.ask(statement, prepared.keyspaces);
          unknown ||= statement.action === UNREAD_ACTION;
        }
        use = prepared.use;
      }
    }
    if (header.opcode === Opcode.BATCH || request.parts.length > 1) use = null;
    if (decision.isTooMuch) {
      const text = `Weir: ${opcodeName(header.opcode)} has too many statements: over ${QUESTIONS_MAX}, or ` +
        `${DIFFERENT_MAX} that differ, each in every keyspace that it may meet`;
      return this.#deny(header, decision.judged, text);
    }
    if (this.pending.unqualified + unqualified.length > PENDING_UNQUALIFIED_MAX) {
      const text =
        `Weir: over ${PENDING_UNQUALIFIED_MAX} statements that name no keyspace have no answer yet`;
      return this.#deny(header, decision.judged, text, ErrorCode.OVERLOADED);
    }
    if (!decision.allowed) {
      return this.#denyBy(
        header,
        decision,
        (text) => unread === "" || decision.judged.action !== UNREAD_ACTION ? text : `${text}: ${unread}`,
      );
    }
    let pendingUse: PendingUse | null = null;
    if (use !== null && header.opcode !== Opcode.PREPARE) {
      const begun = this.#beginUse(header, use);
      if ("kind" in begun) return begun;
      pendingUse = begun;
    }
    const { judged } = decision;
    this.pending.add(header.stream, {
      opcode: header.opcode,
      sentMs: now(),
      keyspaces: request.keyspace === null && unqualified.length === 0 ? NO_KEYSPACES : new Set(keyspaces),
      unqualified: unqualified.length === 0 ? NO_STATEMENTS : unqualified,
      use: pendingUse,
      prepares: header.opcode === Opcode.PREPARE ? { statements, use } : null,
      unread: unknown,
      judged,
    });
    this.#record("request", "forwarded", header.opcode, judged);
    return FORWARD;
  }

  /** Requests on their way may be run after the `USE`: they must be allowed there too, or it has to wait. */
  #beginUse(header: EnvelopeHeader, keyspace: string): PendingUse | Decision {
    const judged = { action: "use", table: keyspace, ends: [] };
    if (this.pending.unqualified > PENDING_AT_USE_MAX) {
      const text =
        `Weir: USE while ${this.pending.unqualified} statements that name no keyspace have no answer yet, ` +
        `at most ${PENDING_AT_USE_MAX} may`;
      return this.#deny(header, judged, text, ErrorCode.OVERLOADED);
    }
    const decision = new StatementTally(this.options.judge);
    for (const statement of this.pending.unqualifiedStatements()) decision.ask(statement, [keyspace]);
    if (!decision.allowed) {
      const why =
        `USE comes while requests that name no keyspace have no answer yet, and in ${keyspace} one of them would ` +
        "not be allowed";
      return this.#denyBy(header, decision, (text) => `${why}: ${text}`);
    }
    const use = this.#keyspace.begin(keyspace);
    if (use === null) {
      return this.#deny(header, judged, "Weir: too many USE without an answer yet", ErrorCode.OVERLOADED);
    }
    this.pending.mayMeet(keyspace);
    return use;
  }

  #denyBy(
    header: EnvelopeHeader,
    { judged, verdict }: StatementTally,
    say: (text: string) => string,
  ): Decision {
    const denied = this.#deny(header, judged, say(verdict!.text));
    return verdict!.closes === "" ? denied : { ...denied, kind: "close", reason: verdict!.closes };
  }

  #deny(
    header: EnvelopeHeader,
    judged: JudgedRequest,
    text: string,
    code: number = ErrorCode.UNAUTHORIZED,
  ): Decision & { kind: "answer" } {
    this.#record("request", "denied", header.opcode, judged, { errorCode: code, reason: text });
    const { version, stream } = header;
    return { kind: "answer", envelope: encodeError({ version, stream, code, text }) };
  }

  /** The driver prepares again, which is judged. */
  #unprepared(header: EnvelopeHeader, id: Uint8Array): Decision {
    const text = "Weir: this prepared statement is not known here, it has to be prepared again";
    this.#record("request", "error", header.opcode, NOTHING, {
      errorCode: ErrorCode.UNPREPARED,
      reason: text,
    });
    const { version, stream } = header;
    return {
      kind: "answer",
      envelope: encodeError({ version, stream, code: ErrorCode.UNPREPARED, text, id }),
    };
  }

  #record(
    type: CassandraEvent["type"],
    verdict: CassandraEvent["verdict"],
    opcode: number,
    { action, table, ends }: JudgedRequest,
    { errorCode = 0, latencyMs = 0, reason = "" }: {
      errorCode?: number;
      latencyMs?: number;
      reason?: string;
    } = {},
  ): void {
    this.options.record({
      type,
      verdict,
      ends,
      opcode: opcodeName(opcode),
      action,
      table,
      errorCode,
      latencyMs,
      reason,
    });
  }
}

function close(reason: string, envelope?: Uint8Array): Decision {
  return { kind: "close", reason, envelope };
}

function isNew(seen: Set<string> | null, { action, table }: CqlStatement): boolean {
  if (seen === null) return true;
  const { size } = seen;
  return seen.add(`${action} ${table}`).size > size;
}

/** A request that nobody judges. */
function passing(opcode: number, sentMs: number): PendingRequest {
  return {
    opcode,
    sentMs,
    keyspaces: NO_KEYSPACES,
    unqualified: NO_STATEMENTS,
    use: null,
    prepares: null,
    unread: false,
    judged: null,
  };
}

/** Whether an answer's body says something that is needed. */
function tells(header: EnvelopeHeader, request: PendingRequest): boolean {
  if (header.opcode === Opcode.ERROR) return request.judged !== null;
  return header.opcode === Opcode.RESULT &&
    (request.prepares !== null || request.use !== null || request.unread);
}
