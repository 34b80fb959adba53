/**
 * What is asked of the rules for each request, and what is reported.
 * @module
 */
import type { EndVerdict } from "../end_verdict.ts";

/** One request, as rules see it. */
export interface KafkaQuestion {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly clientId: string;
  /** Undefined: it is about none; empty: about all, or whatever there is. */
  readonly topics: readonly string[] | undefined;
}

/** The rules' answer. */
export interface KafkaVerdict {
  readonly allowed: boolean;
  readonly ends: readonly EndVerdict[];
  readonly text: string;
  /** The connection may not go on, and why; "": it may. Read only where it is not allowed. */
  readonly closes: string;
}

/** The rules of the moment. */
export type KafkaJudge = (question: KafkaQuestion) => KafkaVerdict;

/** One request that was judged, or the answer to it. */
export interface KafkaEvent extends KafkaQuestion {
  readonly type: "request" | "response";
  readonly verdict: "forwarded" | "denied" | "error";
  readonly ends: readonly EndVerdict[];
  readonly correlationId: number;
  /** That we answered; else 0. */
  readonly errorCode: number;
  readonly latencyMs: number;
  readonly reason: string;
}
