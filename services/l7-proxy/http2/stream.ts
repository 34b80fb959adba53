/** One request and its answer on a connection of HTTP/2. The stream has one number on both sides. @module */
import type { HeaderField } from "./header_field.ts";
import type { Http2Exchange } from "./host.ts";
import type { RequestFields } from "./message_fields.ts";
import type { Way } from "./side.ts";

/** A stream that is open. */
export class Stream {
  /** The server knows it. */
  isForwarded = false;
  /** Its answer began. */
  isAnswered = false;
  /** Of an answer that began. */
  status = 0;
  /** What the flow has of the answer; the trailer of a call of gRPC too. */
  answerFields: readonly HeaderField[] = [];
  interims = 0;
  /** Bytes of a request that came behind our own answer. */
  discarded = 0;
  /** The flow has its answer. */
  isRecorded = false;

  constructor(
    readonly id: number,
    readonly openedMs: number,
    readonly request: Pick<RequestFields, "method" | "isGrpc">,
    readonly exchange: Http2Exchange | undefined,
    /** Client to server. */
    readonly up: Way,
    /** Server to client. */
    readonly down: Way,
  ) {}

  /** Takes note of the answer's end. A call of gRPC says only there what it came to. */
  record(grpcStatus?: number): void {
    if (this.isRecorded || !this.isAnswered) return;
    this.isRecorded = true;
    const fields = this.answerFields.filter(({ name }) => !name.startsWith(":"));
    this.exchange?.answered(this.status, fields, grpcStatus);
  }
}

/** The status of a call that these fields name. */
export function grpcStatusOf(fields: readonly HeaderField[]): number | undefined {
  const value = fields.find(({ name }) => name === "grpc-status")?.value;
  return value !== undefined && /^\d{1,3}$/.test(value) ? Number(value) : undefined;
}
