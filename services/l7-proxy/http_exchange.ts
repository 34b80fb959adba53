/** One HTTP request, of any version: what the rules of both ends say, and its records. @module */
import type { HttpRequest } from "@weir/l7-rules";
import type { Init } from "@weir/proto";
import type { HttpRecord, L7Record } from "@weir/proto/l7";
import type { ConnectionVerdict } from "./connection_judge.ts";
import { denialText } from "./denial_text.ts";
import type { FieldChange } from "./http1/head_change.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";

/** Headers of a record, and characters of a value. */
export const RECORD_HEADERS_MAX = 32;
/** See {@link RECORD_HEADERS_MAX}. */
export const RECORD_VALUE_MAX = 256;
/** Characters of a path in a sentence. */
const PATH_SHOWN_MAX = 200;

/** A field as records have it. */
export interface RecordField {
  readonly name: string;
  readonly value: string;
}

/** A request that was judged. */
export class HttpExchange {
  readonly #judged: ConnectionVerdict;
  readonly #startedMs: number;
  readonly #http: Init<HttpRecord>;
  readonly #connection: RedirectedConnection;
  readonly #request: HttpRequest;

  /** Judges by the newest rules, and records it. @param protocol "HTTP/1.1", "HTTP/2" */
  constructor(
    connection: RedirectedConnection,
    request: HttpRequest,
    protocol: string,
    fields: readonly RecordField[],
  ) {
    this.#connection = connection;
    this.#request = request;
    this.#judged = connection.judge.judge(request);
    this.#startedMs = connection.clock.monotonicMs();
    connection.counted(this.verdict);
    this.#http = {
      method: request.method,
      url: `http://${request.host}${request.path}`,
      protocol,
      headers: headersOf(fields),
    };
    this.#record("REQUEST", this.#http, 0);
  }

  get verdict(): ConnectionVerdict["verdict"] {
    return this.#judged.verdict;
  }

  get changes(): readonly FieldChange[] {
    return this.#judged.changes;
  }

  /** Of `closed`: why, in a word. Of `denied`: a sentence for who asked. */
  get why(): string {
    if (this.verdict !== "denied") return this.#judged.why;
    const { method, path } = this.#request;
    const shown = path.length > PATH_SHOWN_MAX ? `${path.slice(0, PATH_SHOWN_MAX)}...` : path;
    return denialText(this.#judged.sides, `${method} ${shown}`);
  }

  /** It was answered. @param grpcStatus what a call of gRPC came to */
  answered(status: number, fields: readonly RecordField[], grpcStatus?: number): void {
    const latencyMs = this.#connection.clock.monotonicMs() - this.#startedMs;
    this.#record(
      "RESPONSE",
      { ...this.#http, code: status, headers: headersOf(fields), grpcStatus },
      latencyMs,
    );
  }

  /** One record for each end whose rules were asked. */
  #record(type: "REQUEST" | "RESPONSE", http: Init<HttpRecord>, latencyMs: number): void {
    for (const { side, allowed, cookie, missingHeaders } of this.#judged.sides) {
      const record: Init<L7Record> = {
        direction: side,
        type,
        verdict: allowed ? "FORWARDED" : "DENIED",
        cookie,
        latencyNs: Math.round(latencyMs * 1e6),
        reason: allowed ? "" : this.#judged.why || "no rule allows this request",
        http: missingHeaders.length > 0 ? { ...http, missingHeaders: [...missingHeaders] } : http,
      };
      this.#connection.record(record);
    }
  }
}

function headersOf(fields: readonly RecordField[]): { key: string; value: string }[] {
  return fields.slice(0, RECORD_HEADERS_MAX).map(({ name, value }) => ({
    key: name,
    value: value.slice(0, RECORD_VALUE_MAX),
  }));
}
