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

/** What becomes of connections: dropped from then on, let pass, let pass request by request. */
export type PreviewEffect = "closes" | "opens" | "judges";

/** A policy tried on recorded connections, beside those that are in force. */
export interface PolicyPreview {
  /** Connections by what becomes of them; `unjudged`: an end is not known; `otherwise`: recorded with another verdict than the policies of now give. */
  readonly counts: {
    readonly closes: number;
    readonly opens: number;
    readonly judges: number;
    readonly staysOpen: number;
    readonly staysClosed: number;
    readonly unjudged: number;
    readonly otherwise: number;
  };
  /** What closes first. */
  readonly changes: readonly PreviewChange[];
  readonly moreChanges: number;
  /** Map entries of policies in the kernels of nodes. */
  readonly nodes: readonly {
    readonly node: string;
    readonly entries: number;
    readonly entriesBefore: number;
    readonly bytes: number;
  }[];
  /** Why it would be refused; none: its maps hold it. */
  readonly tooLarge: readonly string[];
  /** How many were judged, of all that the history has of this time or of the newest alone. */
  readonly connections: number;
  readonly isWhole: boolean;
  /** Of all flows that the record is made of, "100 %", and what is in no answer. */
  readonly countedText: string;
  readonly missingText: string;
  readonly warnings: readonly string[];
}

/** Connections between two workloads on one port, with one fate for one reason. */
export interface PreviewChange {
  readonly effect: PreviewEffect;
  readonly from: string;
  readonly to: string;
  /** "80/TCP", "ICMP type 8" */
  readonly port: string;
  readonly connections: number;
  readonly lastUnixS: number;
  /** Rules that decide then, and now: "cnp:shop/web (web.yaml:7)". */
  readonly rules: readonly string[];
  readonly before: readonly string[];
  /** Denied because no rule allows it. */
  readonly byDefault: boolean;
}
