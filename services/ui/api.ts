/**
 * What the page and its server say to each other. Types alone: nothing of this is left when it runs.
 *
 * Every path is below the base path, which the page reads from `document.baseURI` (the server writes `<base href>`).
 * All of it is `GET`. Times are Unix seconds (fractions allowed), rates are per second, ages are never sent. A stream is
 * newline-delimited JSON: one object of {@link LiveEvent} or {@link FlowEvent} in a line, a `beat` at least every 5 s. A stream that was
 * cut begins anew with a `snapshot`; so the page throws away what it had.
 *
 * | path | answers |
 * | --- | --- |
 * | `api/session` | {@link Session} |
 * | `api/live?group=&FILTER` | stream of {@link LiveEvent}: map, time strip, totals |
 * | `api/map?group=&FILTER&since=&until=` | {@link MapSnapshot}; of now without `since` |
 * | `api/card?id=&group=&FILTER&since=&until=` | {@link CardDetail}, for the panel |
 * | `api/flows?FILTER&last=&since=&until=` | {@link FlowPage}, newest last |
 * | `api/flows/stream?FILTER&last=` | stream of {@link FlowEvent} |
 * | `api/drops?FILTER&since=&until=` | {@link DropReport}; without `since` of what the server saw since it runs, one hour at most |
 * | `api/drops/explain?cause=ID&FILTER&since=&until=` | {@link DropExplanation} |
 * | `api/explain?FLOW` | {@link Explanation} for `from`, `to` (card ids, pods, addresses), `protocol`, `port` |
 * | `api/policies` | {@link PolicyReport} |
 * | `api/policy?name=cnp:NS/NAME` | {@link PolicyDetail} |
 * | `api/health` | {@link HealthReport} |
 * | `api/strip?FILTER&since=&until=&step=` | {@link TimeStrip} |
 * | `api/names` | {@link Names}, for completion |
 *
 * FILTER is the flags of `weir observe` without dashes, `from-pod=shop/cart&verdict=dropped&not-port=53`: the parameters of the
 * flow exporter's `GET /v1/flows`. GROUP is `workload`, `namespace`, `node` or `label:KEY`. `since` and `until` are Unix seconds.
 * Errors are RFC 9457 problem documents, {@link Problem}.
 *
 * @module
 */

/** How cards are made of flows' ends. */
export type Group = "workload" | "namespace" | "node" | `label:${string}`;

/** An error. */
export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly title?: string;
  readonly detail: string;
  readonly action?: string;
}

/** What the page is told first. */
export interface Session {
  readonly version: string;
  readonly cluster: string;
  /** "demo" of a lab; "" of the host's own Weir. */
  readonly lab: string;
  readonly nodes: readonly string[];
  /** Since when the server counts what it shows as "now". */
  readonly sinceUnixS: number;
  readonly nowUnixS: number;
  /** Windows of the past can be asked for; else `historyReason` says why not. */
  readonly history: boolean;
  readonly historyReason: string;
  readonly historySinceUnixS: number;
  readonly limits: MapLimits;
}

/** Named maxima of what one map shows. */
export interface MapLimits {
  readonly cardsMax: number;
  readonly edgesMax: number;
  readonly portsPerCardMax: number;
  readonly causesMax: number;
}

/** How much of what happened is in an answer. */
export interface Completeness {
  /** Flows that there were, as far as is known. */
  readonly seen: number;
  /** Flows that this answer is made of. */
  readonly shown: number;
  readonly lost: number;
  /** 0 to 1; below 1 only a part was kept, on purpose. */
  readonly sampled: number;
  /** For people: "12,480 flows, 100 %". */
  readonly text: string;
}

/** What a card is. `other` holds what there was no room for. */
export type CardKind =
  | "workload"
  | "namespace"
  | "label"
  | "node"
  | "host"
  | "remote-node"
  | "world"
  | "cidr"
  | "dns"
  | "service"
  | "kube-apiserver"
  | "unknown"
  | "other";

/** One card. Ids are the same for as long as the thing is, in windows of the past too. */
export interface Card {
  /** "workload:shop/Deployment/cart", "namespace:shop", "node:node-1", "dns:example.org", "world", "host", "other", ... */
  readonly id: string;
  readonly kind: CardKind;
  readonly name: string;
  /** "" of what belongs to none. */
  readonly namespace: string;
  /** "Deployment", "Pod", ...; "" of what is no workload. */
  readonly workloadKind: string;
  readonly nodes: readonly string[];
  /** Security-relevant labels of its newest flow, sorted. */
  readonly labels: readonly string[];
  readonly identities: readonly number[];
  readonly pods: number;
  /** Ports on which it was spoken to, the busiest first. */
  readonly ports: readonly CardPort[];
  /** Flows in and out per second, of the last seconds. */
  readonly rateIn: number;
  readonly rateOut: number;
  readonly droppedIn: number;
  readonly droppedOut: number;
  readonly lastSeenUnixS: number;
  /** Filter parameters that mean this card at either end: `{"workload": "cart", "namespace": "shop"}`; empty where none can. */
  readonly query: Readonly<Record<string, string>>;
}

/** A port of a card. */
export interface CardPort {
  /** "TCP", "UDP", "ICMPv4", ... */
  readonly protocol: string;
  /** 0 where there is none. */
  readonly port: number;
  /** "HTTP", "DNS" where layer 7 was seen; "" else. */
  readonly application: string;
  /** New connections, or packets told of, per second. */
  readonly rate: number;
  readonly dropped: number;
}

/** What became of an edge's flows. `mixed`: some were dropped. */
export type EdgeVerdict = "allowed" | "dropped" | "audited" | "mixed" | "error";

/** From one card to another: who opened the flows, to whom. */
export interface Edge {
  /** "FROM>TO". */
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly verdict: EdgeVerdict;
  /** Per second, of the last seconds. */
  readonly rate: number;
  readonly dropRate: number;
  /** Since the snapshot's `sinceUnixS`. */
  readonly flows: number;
  readonly allowed: number;
  readonly dropped: number;
  readonly audited: number;
  /** Flows that policy allows and that fail all the same (no answer, refused, ...). */
  readonly trouble: number;
  readonly protocols: readonly EdgeProtocol[];
  /** Why flows were dropped, the most frequent first, at most 8. */
  readonly reasons: readonly { readonly reason: string; readonly count: number }[];
  readonly firstSeenUnixS: number;
  readonly lastSeenUnixS: number;
}

/** One protocol and port of an edge. */
export interface EdgeProtocol {
  readonly protocol: string;
  readonly port: number;
  readonly application: string;
  readonly flows: number;
  readonly dropped: number;
}

/** The whole map. */
export interface MapSnapshot {
  readonly group: Group;
  readonly sinceUnixS: number;
  /** Of a window of the past; of the live map the time it was made. */
  readonly untilUnixS: number;
  readonly cards: readonly Card[];
  readonly edges: readonly Edge[];
  /** Cards and edges that there was no room for, and that "other" stands for. */
  readonly foldedCards: number;
  readonly foldedEdges: number;
  readonly completeness: Completeness;
}

/** What became other since the event before: whole cards and edges, by id. */
export interface MapDifference {
  readonly cards: readonly Card[];
  readonly edges: readonly Edge[];
  readonly goneCards: readonly string[];
  readonly goneEdges: readonly string[];
  readonly foldedCards: number;
  readonly foldedEdges: number;
  readonly completeness: Completeness;
  readonly untilUnixS: number;
}

/** What the panel says of one card. */
export interface CardDetail {
  readonly card: Card;
  /** Edges that end at it, the busiest first. */
  readonly edges: readonly Edge[];
  /** Policies that decided its flows. */
  readonly policies: readonly (PolicyHit & { readonly direction: "ingress" | "egress" })[];
  /** Its drops, the newest first. */
  readonly causes: readonly DropCause[];
  readonly commands: readonly Command[];
}

/** How often a policy decided. */
export interface PolicyHit {
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly policyName: string;
  readonly allowed: number;
  readonly denied: number;
  readonly lastHitUnixS: number;
}

/** A stream of the map. */
export type LiveEvent =
  | { readonly type: "snapshot"; readonly map: MapSnapshot; readonly strip: TimeStrip }
  | { readonly type: "difference"; readonly map: MapDifference; readonly strip: TimeStrip }
  /** Nodes that are away, and what was lost: nothing of them is on the map. */
  | { readonly type: "sources"; readonly sources: Sources }
  | { readonly type: "beat"; readonly nowUnixS: number };

/** Where flows come from, and how that is. */
export interface Sources {
  /** "" while the relay answers. */
  readonly error: string;
  readonly connected: readonly string[];
  readonly away: readonly { readonly node: string; readonly reason: string }[];
  /** Events that the kernel's rings or readers lost since the server runs. */
  readonly lost: number;
}

/** Flows and drops over time; in a difference only the buckets that became other. */
export interface TimeStrip {
  /** Seconds per bucket. */
  readonly stepS: number;
  /** Sums do not hold what the filter asks: these are all flows. */
  readonly ofAll?: boolean;
  readonly buckets: readonly TimeBucket[];
}

/** One bucket of the strip. */
export interface TimeBucket {
  readonly atUnixS: number;
  readonly flows: number;
  readonly dropped: number;
  readonly audited: number;
  readonly trouble: number;
  readonly lost: number;
}

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

/** Drops that have one reason behind them. */
export interface DropCause {
  readonly id: string;
  /** Card ids (workloads), and their names for people. */
  readonly from: string;
  readonly fromName: string;
  readonly to: string;
  readonly toName: string;
  readonly protocol: string;
  readonly port: number;
  /** "POLICY_DENIED". */
  readonly reason: string;
  /** For people: "no policy allows it (default deny)". */
  readonly reasonText: string;
  readonly direction: string;
  /** The policies that denied, or that put the end into default deny. */
  readonly policies: readonly FlowPolicy[];
  readonly count: number;
  readonly firstSeenUnixS: number;
  readonly lastSeenUnixS: number;
  /** Counts of the last 30 steps of `trendStepS` seconds, the oldest first. */
  readonly trend: readonly number[];
  readonly trendStepS: number;
  readonly nodes: readonly string[];
  /** A flow of it, to look at. */
  readonly example: FlowRow;
}

/** All causes, the most frequent first. */
export interface DropReport {
  readonly sinceUnixS: number;
  readonly untilUnixS: number;
  readonly causes: readonly DropCause[];
  /** Drops whose causes there was no room for. */
  readonly foldedDrops: number;
  readonly completeness: Completeness;
}

/** Why a cause is, and what would end it. */
export interface DropExplanation {
  readonly cause: string;
  readonly explanation: Explanation | null;
  /** Why there is none: "this is no matter of policy: ...". */
  readonly reason: string;
  /** What to type. */
  readonly commands: readonly Command[];
}

/** A command to copy. */
export interface Command {
  readonly title: string;
  readonly text: string;
}

/** What the policy engine says. */
export interface Explanation {
  readonly allowed: boolean;
  readonly policyRevision: number;
  /** When the policies held that this is about; 0: now. */
  readonly atUnixS: number;
  readonly steps: readonly ExplanationStep[];
}

/** One end's verdict. */
export interface ExplanationStep {
  readonly direction: "egress" | "ingress";
  readonly allowed: boolean;
  readonly reason: string;
  readonly facts: readonly string[];
  /** What to edit; "" where nothing would turn it. */
  readonly change: string;
  readonly alternatives: readonly string[];
  readonly nearMiss: string;
  readonly notes: readonly string[];
  /** A whole policy that allows this and nothing else; "" where none is needed. */
  readonly manifest: string;
  readonly policies: readonly FlowPolicy[];
}

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

/** Something that is wrong, as `weir status` says it. */
export interface HealthFinding {
  readonly condition: "hung" | "away" | "partitioned" | "stale" | "degraded";
  readonly node: string;
  readonly subject: string;
  readonly sinceUnixS: number;
  readonly message: string;
  readonly effect: string;
  readonly remedy: string;
}

/** One node. */
export interface HealthNode {
  readonly name: string;
  readonly ready: boolean;
  /** Why nothing is known of it; "". */
  readonly error: string;
  readonly services: readonly HealthService[];
  readonly endpoints: number;
  readonly endpointsReady: number;
  readonly lostEvents: number;
  readonly maps: readonly HealthMap[];
  readonly programs: readonly HealthProgram[];
  /** "verifier" or "structural"; "" unknown. */
  readonly gate: string;
}

/** One service of a node. */
export interface HealthService {
  readonly name: string;
  readonly state: string;
  readonly sinceUnixS: number;
  readonly restarts: number;
  readonly message: string;
}

/** How full a map is. */
export interface HealthMap {
  readonly name: string;
  readonly entries: number;
  readonly entriesMax: number;
}

/** What the verifier said of a program. */
export interface HealthProgram {
  readonly name: string;
  readonly object: string;
  readonly attachedTo: string;
  /** "accepted", ... */
  readonly verdict: string;
  readonly verifier: string;
  /** Instructions that the verifier visited, and the time it took. */
  readonly visits: number;
  readonly timeUs: number;
  /** The kernel runs the bytes that were judged. */
  readonly same: boolean;
  readonly hash: string;
}

/** All of the health page. */
export interface HealthReport {
  readonly healthy: boolean;
  readonly atUnixS: number;
  readonly findings: readonly HealthFinding[];
  readonly nodes: readonly HealthNode[];
  readonly counts: {
    readonly identities: number;
    readonly policies: number;
    readonly services: number;
    readonly endpoints: number;
    readonly endpointsReady: number;
  };
  /** Where the page's flows come from. */
  readonly sources: Sources;
  /** Limits that were reached, by name, and how often. */
  readonly folded: readonly { readonly limit: string; readonly count: number }[];
}

/** Words for completion, at most 2,000 of each. */
export interface Names {
  readonly namespaces: readonly string[];
  /** "shop/cart". */
  readonly pods: readonly string[];
  readonly workloads: readonly string[];
  readonly labels: readonly string[];
  readonly nodes: readonly string[];
  readonly verdicts: readonly string[];
  readonly dropReasons: readonly string[];
  readonly types: readonly string[];
  readonly protocols: readonly string[];
  /** Names of the filter's parameters: "from-pod", "not-verdict", ... */
  readonly parameters: readonly string[];
}
