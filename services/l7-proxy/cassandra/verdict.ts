/**
 * What is asked of the rules for each statement, and what is reported of each request and answer.
 * @module
 */
import type { EndVerdict } from "../end_verdict.ts";

/** One statement, as rules see it. */
export interface CassandraQuestion {
  /** As `query_action` has it; "unknown" for a text that could not be read. */
  readonly action: string;
  /** "keyspace.table"; the table alone where no keyspace is set; the keyspace for what is done to one; "" where there is none. */
  readonly table: string;
}

/** The rules' answer. */
export interface CassandraVerdict {
  readonly allowed: boolean;
  /** Of the ends that were asked. */
  readonly ends: readonly EndVerdict[];
  /** For the client: which policy and rule. Read only where it is not allowed. */
  readonly text: string;
  /** The connection may not go on, and why; "": it may. Read only where it is not allowed. */
  readonly closes: string;
}

/** The rules of the moment; asked anew for each statement. */
export type CassandraJudge = (question: CassandraQuestion) => CassandraVerdict;

/** One request that was judged, or the answer to it. */
export interface CassandraEvent {
  readonly type: "request" | "response";
  /** `error`: it could not be judged. */
  readonly verdict: "forwarded" | "denied" | "error";
  /** What the ends' rules said of the statement that decided, of an allowed batch of its first; none: they were not asked. */
  readonly ends: readonly EndVerdict[];
  /** "QUERY", "EXECUTE". */
  readonly opcode: string;
  /** Of the statement that decided; several of an allowed batch with "," between them. */
  readonly action: string;
  readonly table: string;
  /** Of a response that is an ERROR, also of our own; else 0. */
  readonly errorCode: number;
  /** Of a response: since its request. */
  readonly latencyMs: number;
  /** Why it was denied, or could not be judged; "". */
  readonly reason: string;
}
