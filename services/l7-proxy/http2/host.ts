/** What a connection of HTTP/2 needs from outside. @module */
import type { Waiting } from "../http1/connection.ts";
import type { FieldChange } from "../http1/head_change.ts";
import type { Socket } from "../socket.ts";
import type { HeaderField } from "./header_field.ts";
import type { Http2Error } from "./http2_error.ts";
import type { RequestFields } from "./message_fields.ts";

/** One request of which it was decided. */
export interface Http2Exchange {
  readonly verdict: "allowed" | "denied" | "closed";
  readonly changes: readonly FieldChange[];
  /** Of denied: one sentence for who asked. Of closed: why. */
  readonly why: string;
  /** It was answered, by the server or by us. @param grpcStatus what the call came to, where that was said */
  answered(status: number, fields: readonly HeaderField[], grpcStatus?: number): void;
}

/** What a connection needs. */
export interface Http2Host {
  /** Decides by the newest rules. Called once for each request. */
  judge(request: RequestFields): Http2Exchange;
  /** Opens the connection to the server. Called once, when the first request is allowed. */
  connect(): Promise<Socket>;
  /** What could not be read ends the connection, or one stream. */
  fault(error: Http2Error, side: "client" | "server"): void;
  /** What it waits for from now on. */
  waits(what: Waiting): void;
  /** Something moved. */
  moved(): void;
  /** A clock that only goes forwards, milliseconds. */
  nowMs(): number;
}
