/** Flows, as rows. Types alone. @module */
import type { Completeness, Sources } from "./session.ts";

/** One end of a flow. */
export interface FlowEnd {
  /** Id of its card when grouped by workload. */
  readonly card: string;
  readonly namespace: string;
  readonly pod: string;
  readonly workload: string;
  readonly workloadKind: string;
  readonly ip: string;
  /** 0 where there is none. */
  readonly port: number;
  readonly identity: number;
  readonly labels: readonly string[];
  /** DNS names of the address. */
  readonly names: readonly string[];
  /** "NAMESPACE/NAME" of the service that was spoken to; "" of none. */
  readonly service: string;
}

/** A policy behind a verdict. */
export interface FlowPolicy {
  /** Name of the policy object: "cnp:shop/cart". */
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly policyName: string;
  readonly direction: "ingress" | "egress";
  readonly effect: "allowed" | "denied";
  /** "spec.ingress[0].fromEndpoints[1]". */
  readonly path: string;
  readonly file: string;
  readonly line: number;
}

/** One thing that is known: "Method", "GET". */
export interface Fact {
  readonly name: string;
  readonly value: string;
}

/** One row of the table. */
export interface FlowRow {
  readonly uuid: string;
  readonly timeUnixS: number;
  readonly node: string;
  /** "FORWARDED", "DROPPED", "AUDIT", "ERROR", "REDIRECTED", "TRACED", "TRANSLATED". */
  readonly verdict: string;
  /** "POLICY_DENIED"; "" of what was not dropped. */
  readonly dropReason: string;
  /** "ingress", "egress", "". */
  readonly direction: string;
  /** "policy-verdict", "drop", "trace:to-endpoint", "l7", "trouble:no-answer", ... */
  readonly kind: string;
  readonly reply: boolean | null;
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
  /** "TCP", "UDP", ... */
  readonly protocol: string;
  /** "TCP Flags: SYN", "DNS Query example.org A", as `weir observe` says it. */
  readonly summary: string;
  /** What an application asked for, and what it was answered: method, URL, status, topic, table, name; empty of packets. */
  readonly request: readonly Fact[];
  readonly policies: readonly FlowPolicy[];
  readonly trouble: string;
}

/** Rows of a question. */
export interface FlowPage {
  readonly flows: readonly FlowRow[];
  readonly completeness: Completeness;
  /** There are more that match. */
  readonly more: boolean;
}

/** A stream of rows. */
export type FlowEvent =
  | { readonly type: "flows"; readonly flows: readonly FlowRow[] }
  /** The reader, or the stream, was too slow for so many. */
  | { readonly type: "lost"; readonly flows: number }
  /** The last event: why the stream ends. */
  | { readonly type: "error"; readonly code: string; readonly detail: string }
  | { readonly type: "sources"; readonly sources: Sources }
  | { readonly type: "beat"; readonly nowUnixS: number };
