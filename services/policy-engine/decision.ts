/** What decided about a connection in one direction, and how its ends are called. @module */
import type { AskedRequest } from "./asked_request.ts";
import { protocolName, type Verdict } from "@weir/common";
import type { Enforcement } from "@weir/proto/common";
import type { NamedPort } from "./named_ports.ts";
import type { PairState } from "./pair_state.ts";
import type { Direction, PeerIdentity } from "./policy.ts";

/** A connection to explain. */
export interface ExplainQuery {
  readonly from: PeerIdentity;
  readonly to: PeerIdentity;
  readonly protocol: number;
  /** Destination port, or ICMP type. */
  readonly port: number;
  /** Port names of the destination. */
  readonly toNamedPorts: readonly NamedPort[];
  /** Prefix of the destination, where it is known: endpoints of one identity may differ in what a port name means. */
  readonly toAddress?: string;
  /** When policies are enforced on each end; default `DEFAULT`. */
  readonly fromEnforcement?: Enforcement;
  readonly toEnforcement?: Enforcement;
  /** A request within the connection. */
  readonly request?: AskedRequest;
}

/** How the two ends and the port are called. */
export interface Words {
  /** `source` or `destination`: the end whose policy it is, and the other end. */
  readonly subject: string;
  readonly remote: string;
  /** `ingress` or `egress`. */
  readonly direction: string;
  /** `80/TCP` */
  readonly port: string;
  /** `from` or `to`, before the remote end. */
  readonly preposition: string;
}

/** What decided in one direction. */
export interface Decision {
  readonly pair: PairState;
  readonly query: ExplainQuery;
  readonly direction: Direction;
  readonly words: Words;
  readonly verdict: Verdict;
}

/** The verdict of the pair's state about the connection. */
export function lookUp(
  pair: PairState,
  { protocol, port, toAddress }: ExplainQuery,
  direction: Direction,
): Verdict {
  const address = direction === "EGRESS" ? toAddress : undefined;
  return pair.state.lookup(pair.remote.number, direction, protocol, port, address);
}

/** Words for the ends of a connection. */
export function wordsOf({ protocol, port }: ExplainQuery, direction: Direction): Words {
  const text = protocol === 1 || protocol === 58
    ? `${protocolName(protocol)} type ${port}`
    : `${port}/${protocolName(protocol)}`;
  return direction === "INGRESS"
    ? { subject: "destination", remote: "source", direction: "ingress", port: text, preposition: "from" }
    : { subject: "source", remote: "destination", direction: "egress", port: text, preposition: "to" };
}
