/**
 * What the datapath reported, after its record was read (`event_record.ts`) and before names are known.
 * @module
 */

/** Fields of every event. */
interface EventBase {
  /** Nanoseconds since boot. */
  timeNs: number;
  /** Number of the endpoint whose program reported, 0 for none. */
  endpointId: number;
  sourceIdentity: number;
  destinationIdentity: number;
  ifindex: number;
  /** Id of the service port that the flow goes through, 0 for none. */
  service: number;
  /** Captured head of the packet. */
  packet: Uint8Array;
  /** 2: begins with Ethernet, 3: with the IP header. */
  layer: 2 | 3;
  /** Of a packet that came through the tunnel: underlay address that it came from, and the VNI that it came with. */
  tunnel?: { source: string; vni: number };
}

/** A packet that was dropped. */
export interface DropEvent extends EventBase {
  kind: "drop";
  /** Drop reason (proto/numbers/drop_reasons.tsv). */
  reason: number;
  direction: "INGRESS" | "EGRESS" | "UNKNOWN";
  /** Whether it was an answer; undefined when the datapath had not found out. */
  reply?: boolean;
  file: string;
  line: number;
  /** Cookie of the rule or default deny behind a policy drop, else 0. */
  cookie: number;
}

/** A packet that passed an observation point. */
export interface TraceEvent extends EventBase {
  kind: "trace";
  /** Datapath numbering: 0 to-endpoint, 1 to-proxy, ... 11 to-network. */
  point: number;
  /** Conntrack: 0 new, 1 established, 2 reply, 3 related, 5 unknown. */
  reason: number;
}

/** What policy said of a new connection. */
export interface PolicyVerdictEvent extends EventBase {
  kind: "policy-verdict";
  /** Below 0 the negated drop reason, 0 pass, above 0 the proxy port. */
  verdict: number;
  direction: "INGRESS" | "EGRESS";
  /** 0 none, 1 L3-only, 2 L3-L4, 3 L4-only, 4 all, 5 L3-proto, 6 proto-only. */
  matchType: number;
  cookie: number;
  audited: boolean;
}

/** What is wrong with a flow that policy allows. */
export interface TroubleEvent extends EventBase {
  kind: "trouble";
  /** As in proto/numbers/troubles.tsv. */
  trouble: number;
  /** Nobody answered, or confirmed the answer, for so long; else 0. */
  waitedMs: number;
  /** Packets sent without an answer, or retransmissions in a row, else 0. */
  tries: number;
  /** What the sender takes for the path's MTU, 0: not known. */
  mtu: number;
  /** The packet that says so was sent by an endpoint of this node. */
  byEndpoint: boolean;
}

/** What a connection has carried since it began. Its packet is headers made from its key, from who opened it. */
export interface TrafficEvent extends EventBase {
  kind: "traffic";
  packets: number;
  bytes: number;
  replyPackets: number;
  replyBytes: number;
  over: boolean;
  atSource: boolean;
}

/** Any event that becomes a flow. */
export type DatapathEvent = DropEvent | TraceEvent | PolicyVerdictEvent | TroubleEvent | TrafficEvent;
