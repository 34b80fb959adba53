/** Policies. Types alone. @module */

/** One row of the policies' list. */
export interface PolicyRow {
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly policyName: string;
  readonly file: string;
  readonly endpoints: number;
  /** Flows that it decided since the server runs (or within the window). */
  readonly hits: number;
  readonly denied: number;
  /** 0: none seen. */
  readonly lastHitUnixS: number;
  readonly createdUnixS: number;
  readonly rules: number;
  readonly warnings: readonly string[];
  /** "" when in force. */
  readonly fault: string;
}

/** All policies. */
export interface PolicyReport {
  readonly policies: readonly PolicyRow[];
  readonly revision: number;
  readonly hitsSinceUnixS: number;
  /** Of what flows, for people: "the newest 20,000 of 1,234,567 flows, 100 %"; "" of all since then. */
  readonly hitsOf: string;
  readonly nodesBehind: readonly {
    readonly node: string;
    readonly error: string;
    readonly sinceUnixS: number;
  }[];
}

/** One policy. */
export interface PolicyDetail {
  readonly policy: PolicyRow;
  readonly yaml: string;
  /** Line of the file that the text's first line is. */
  readonly firstLine: number;
  readonly lines: readonly LineHits[];
  /** Who may come in and go out, as rules say it. */
  readonly graph: PolicyGraph;
  readonly hitsSinceUnixS: number;
  /** Of what flows, for people: "the newest 20,000 of 1,234,567 flows, 100 %"; "" of all since then. */
  readonly hitsOf: string;
}

/** Hits of a line of the text; lines without any are left out. */
export interface LineHits {
  /** 1 is the text's first line. */
  readonly line: number;
  readonly path: string;
  readonly allowed: number;
  readonly denied: number;
  readonly lastHitUnixS: number;
}

/** Who may come in, and where one may go. */
export interface PolicyGraph {
  readonly subject: string;
  readonly defaultDenyIngress: boolean;
  readonly defaultDenyEgress: boolean;
  readonly rules: readonly PolicyGraphRule[];
}

/** One rule of the graph. */
export interface PolicyGraphRule {
  readonly direction: "ingress" | "egress";
  readonly deny: boolean;
  readonly path: string;
  /** 1 is the text's first line. */
  readonly line: number;
  /** "app=cart", "10.0.0.0/8 except 10.1.0.0/16", "entity world", "everyone". */
  readonly peers: readonly string[];
  /** "80/TCP", "any port". */
  readonly ports: readonly string[];
  readonly allowed: number;
  readonly denied: number;
}
