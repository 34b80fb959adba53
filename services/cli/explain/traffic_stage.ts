/**
 * What real packets of a connection met lately: drops that are not policy's, and flows that policy allowed and that failed all the
 * same, at both nodes. An attempt that policy dropped is policy's. Where one node has seen an answer and the other has not, it was lost between them. Pure.
 *
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import { type Stage, stage } from "./stage.ts";

/** One flow and the node that saw it. */
export interface SeenFlow {
  readonly node: string;
  readonly unixS: number;
  readonly flow: Flow;
}

/** What is asked of the flows. */
export interface TrafficQuestion {
  readonly fromNode: string | undefined;
  readonly toNode: string | undefined;
  /** Flows between the two ends on this port, in either direction, newest last. */
  readonly flows: readonly SeenFlow[];
  readonly nowUnixS: number;
  /** What a router is called: the node, where the address is one of a node's. */
  readonly nameOf?: (address: string) => string;
}

/** The newest thing that went wrong; nothing when all that was seen is well, or nothing was seen. */
export function trafficStage(
  { fromNode, toNode, flows, nowUnixS, nameOf = (address) => address }: TrafficQuestion,
): Stage | undefined {
  // An answer that leaves the far node has not come yet; it is sent again and again to who does not get it.
  const arrived = ({ node, flow }: SeenFlow) =>
    fromNode === undefined
      ? !flows.some((other) => kindOf(other.flow) === "unconfirmed" && tupleOf(other.flow) === tupleOf(flow))
      : node === fromNode;
  // Since a connection got through, what began before it is over, also what is told of it later.
  const answers = flows.filter((one) => isAnswer(one.flow) && arrived(one));
  const isOver = (one: SeenFlow) =>
    answers.some((answer) =>
      tupleOf(answer.flow) === tupleOf(one.flow)
        ? answer.unixS >= beganUnixS(one)
        : firstUnixS(answer, flows) >= beganUnixS(one)
    );
  const drop = flows.findLast((one) => one.flow.verdict === "DROPPED" && !isPolicy(one.flow) && !isOver(one));
  const denied = flows.filter(({ flow }) => flow.verdict === "DROPPED" && isPolicy(flow));
  const troubles = flows.filter((one) =>
    kindOf(one.flow) !== "" && !isOver(one) && !denied.some((drop) => isOfAttempt(drop, one))
  );
  // What began last is asked about; of what began together, what was told last.
  const last = troubles.toSorted((a, b) => beganUnixS(a) - beganUnixS(b)).at(-1);
  if (drop !== undefined && (last === undefined || drop.unixS > last.unixS - 1)) {
    const reason = words(drop.flow.drop_reason_desc);
    return stage(
      "traffic",
      drop.node,
      "broken",
      `packets were dropped there ${ago(drop, nowUnixS)}: ${reason}`,
      {
        fixes: [`See them: weir observe --node ${drop.node} --verdict DROPPED --last 5`],
      },
    );
  }
  if (last === undefined) return undefined;
  // Each connection has a story of its own: what one node saw of an earlier one says nothing of this one.
  const recent = troubles.filter((one) => isOfConnection(one, last));
  const at = (node: string | undefined, kind: string) =>
    recent.findLast((one) => one.node === node && kindOf(one.flow) === kind);
  const when = ago(last, nowUnixS);
  const broken = (subject: string, message: string, fixes: string[]) =>
    stage("traffic", subject, "broken", message, { fixes });
  const big = recent.findLast(({ flow }) => kindOf(flow) === "too-big");
  if (big !== undefined) {
    return broken(
      big.node,
      `packets larger than the path were sent ${when}: ${big.flow.trouble?.mtu} bytes fit`,
      [
        `Set the MTU of the way to ${big.flow.trouble?.mtu}, or let ICMP "packet too big" through to the sender`,
      ],
    );
  }
  const refused = recent.findLast(({ flow }) => kindOf(flow) === "refused");
  if (refused !== undefined) {
    const own = recent.some(({ flow }) => kindOf(flow) === "refused" && flow.trouble?.by_endpoint);
    if (own) {
      return broken("", `the connection was refused ${when} by the endpoint itself: nobody listens there`, [
        "Start what is to listen there",
      ]);
    }
    if (toNode === undefined) {
      const who = refused.flow.IP?.source || "the far host";
      return broken(
        "",
        `the connection was refused ${when}: it left the cluster, and ${who} (or a firewall in front of it) said no`,
        [`Start what is to listen there on ${who}, or look at its firewall`],
      );
    }
    return broken("", `the connection was refused ${when}, by something on the way`, [
      "Look for a firewall between the nodes",
    ]);
  }
  const unreachable = recent.findLast(({ flow }) => kindOf(flow) === "unreachable");
  if (unreachable !== undefined) {
    const { flow } = unreachable, sayer = nameOf(flow.IP?.source ?? "somebody");
    const what = UNREACHABLE[flow.l4?.ICMPv4?.code ?? -1] ?? "unreachable";
    return flow.trouble?.by_endpoint || what === PORT_UNREACHABLE
      ? broken("", `${sayer} said ${when} that nothing listens on this port`, [
        "Start what is to listen there",
      ])
      : broken("", `${sayer} said ${when} that it cannot deliver: ${what}`, [
        `Look at the routes and the firewall of ${sayer}, and whether the far host is up`,
      ]);
  }
  const lostBack = at(toNode, "unconfirmed");
  if (lostBack !== undefined && fromNode !== toNode) {
    return broken(
      "",
      `${toNode} saw the answer leave, and ${
        fromNode ?? "who asked"
      } did not get it (${when}): it is lost on the way back`,
      [`Look at the way from ${toNode} to ${fromNode ?? "the source"}: routes, firewall, UDP port 8472`],
    );
  }
  const there = at(toNode, "no-answer"), here = at(fromNode, "no-answer");
  const waited = (there ?? here)?.flow.trouble?.waited_s ?? 0;
  const silence = `no answer came within ${waited.toFixed(waited < 10 ? 1 : 0)} s`;
  if (there !== undefined) {
    return broken("", `${silence} (${when}), and it arrived: the far end does not answer`, [
      "Look at the process there (stopped, its backlog full, or it answers nothing to this) and at the firewall in its own namespace: iptables -L, nft list ruleset",
    ]);
  }
  if (here !== undefined && toNode !== undefined && toNode !== fromNode) {
    return broken("", `${silence} (${when}), and ${toNode} saw nothing arrive: it is lost on the way there`, [
      `Look at the way from ${fromNode} to ${toNode}: routes, firewall, UDP port 8472`,
    ]);
  }
  if (here !== undefined) {
    return broken("", `${silence} (${when}): it left the cluster, and nothing came back`, [
      "Look beyond the node: its routes, masquerading, a firewall, the far host",
    ]);
  }
  return undefined;
}

const PORT_UNREACHABLE = "port unreachable";
/** Codes of ICMP "destination unreachable" (RFC 792, 1812). */
const UNREACHABLE: Readonly<Record<number, string>> = {
  0: "no route to that network",
  1: "no route to that host, or it does not answer ARP",
  2: "protocol unreachable",
  3: PORT_UNREACHABLE,
  9: "a firewall forbids that network",
  10: "a firewall forbids that host",
  13: "a firewall forbids it",
};

/** What routers say within this time belongs to the connection: it has their addresses. */
const ATTEMPT_S = 12;
/** Nodes' clocks and the times of their records differ by less. */
const CLOCKS_S = 2;

/** A reset answers too, and is no sign that it works. */
function isAnswer(flow: Flow): boolean {
  return flow.verdict === "FORWARDED" && flow.is_reply?.value === true && kindOf(flow) === "" &&
    !flow.l4?.TCP?.flags?.RST;
}

/** When the connection of an answer was first seen. */
function firstUnixS(answer: SeenFlow, flows: readonly SeenFlow[]): number {
  return flows.find(({ flow }) => tupleOf(flow) === tupleOf(answer.flow))?.unixS ?? answer.unixS;
}

function beganUnixS({ unixS, flow }: SeenFlow): number {
  return unixS - (flow.trouble?.waited_s ?? 0);
}

/** A drop by policy at the far node is why the near one got no answer: policy's stages say how it is now. */
function isOfAttempt(drop: SeenFlow, trouble: SeenFlow): boolean {
  return drop.unixS >= beganUnixS(trouble) - CLOCKS_S && drop.unixS <= trouble.unixS + CLOCKS_S &&
    tupleOf(drop.flow) === tupleOf(trouble.flow);
}

function isOfConnection(one: SeenFlow, last: SeenFlow): boolean {
  if (isIcmpError(one.flow) || isIcmpError(last.flow)) return one.unixS > last.unixS - ATTEMPT_S;
  return tupleOf(one.flow) === tupleOf(last.flow);
}

function isIcmpError(flow: Flow): boolean {
  return kindOf(flow) === "unreachable" || kindOf(flow) === "too-big";
}

/** Addresses and ports of a connection, the same for both directions. */
function tupleOf({ IP, l4 }: Flow): string {
  const layer = l4?.TCP ?? l4?.UDP;
  return [
    `${IP?.source} ${layer?.source_port ?? ""}`,
    `${IP?.destination} ${layer?.destination_port ?? ""}`,
  ].sort().join(" ");
}

/** "no-answer", ...; "" for a flow that is in no trouble. */
export function kindOf(flow: Flow): string {
  return flow.trouble?.kind ?? "";
}

/** A request that the L7 proxy denied is policy's too: no packet of it was dropped, and the next one may be another. */
function isPolicy({ Type, drop_reason_desc }: Flow): boolean {
  return Type === "L7" || drop_reason_desc === "POLICY_DENIED" || drop_reason_desc === "POLICY_DENY";
}

function words(reason: string): string {
  return reason.toLowerCase().replaceAll("_", " ");
}

function ago({ unixS }: SeenFlow, nowUnixS: number): string {
  return `${Math.max(0, Math.round(nowUnixS - unixS))} s ago`;
}
