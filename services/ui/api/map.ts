/** The map. Types alone. @module */
import type { DropCause } from "./drops.ts";
import type { Command, Completeness, Sources, TimeStrip } from "./session.ts";

/** How cards are made of flows' ends. */
export type Group = "workload" | "namespace" | "node" | `label:${string}`;

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
  /** "HTTP", "DNS", "Cassandra" where layer 7 was seen; "" else. */
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
  /** Earlier than before where a node's memory came late. */
  readonly sinceUnixS: number;
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
