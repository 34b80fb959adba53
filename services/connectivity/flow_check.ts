/**
 * Whether the flows of a piece of traffic are those that must be seen, and none that must not. Pure.
 *
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import type { Answered, Dropped, Outcome } from "./scenario.ts";
import type { Protocol } from "./traffic.ts";

/** One piece of traffic as it was sent. */
export interface Sent {
  readonly protocol: Protocol;
  /** Who sent, as it knows itself and as the far end saw it; port 0: it is not known. */
  readonly froms: readonly { readonly address: string; readonly port: number }[];
  readonly destination: string;
  readonly port: number;
  /** The far end is a pod with a network of its own: its node sees the packet go in. */
  readonly isToPod: boolean;
  readonly expect: Outcome;
}

/** What is wrong: `missing` may still come, `unexpected` stays. */
export interface FlowFaults {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
}

/** Compares what was seen with what must and must not be seen. */
export function checkFlows(sent: Sent, flows: readonly Flow[]): FlowFaults {
  const forward = flows.filter((flow) => isForward(sent, flow));
  const back = flows.filter((flow) => isBack(sent, flow));
  switch (sent.expect.kind) {
    case "answered":
      return checkAnswered(sent, sent.expect, forward, back);
    case "dropped":
      return checkDropped(sent, sent.expect, forward, back);
    case "refused":
      return { missing: [], unexpected: [] };
  }
}

function checkAnswered(
  sent: Sent,
  expect: Answered,
  forward: readonly Flow[],
  back: readonly Flow[],
): FlowFaults {
  const missing: string[] = [], unexpected: string[] = [];
  const passed = forward.filter(isForwarded);
  const need = (found: boolean, what: string) => void (found || missing.push(what));
  const isTcp = sent.protocol === "TCP";
  if (isTcp) {
    need(passed.some((flow) => tcpFlags(flow, "SYN") && !tcpFlags(flow, "ACK")), "a forwarded SYN");
    need(
      back.some((flow) => isForwarded(flow) && tcpFlags(flow, "SYN") && tcpFlags(flow, "ACK")),
      "a forwarded SYN-ACK",
    );
    need(
      [...passed, ...back].some((flow) => tcpFlags(flow, "FIN") || tcpFlags(flow, "RST")),
      "a FIN or RST at the end",
    );
  } else {
    const what = sent.protocol === "UDP" ? "datagram" : "echo request";
    need(passed.length > 0, `a forwarded ${what}`);
    need(back.some(isForwarded), sent.protocol === "UDP" ? "a forwarded answer" : "a forwarded echo reply");
  }
  if (sent.isToPod) {
    need(
      passed.some(({ trace_observation_point: point }) => point === "TO_ENDPOINT"),
      "a flow that goes into the pod (to-endpoint)",
    );
  }
  const { ingress, egress } = expect.policies ?? {};
  if (ingress !== undefined) {
    need(
      forward.some((flow) => names(flow.ingress_allowed_by, ingress)),
      `policy ${ingress} behind the ingress verdict`,
    );
  }
  if (egress !== undefined) {
    need(
      forward.some((flow) => names(flow.egress_allowed_by, egress)),
      `policy ${egress} behind the egress verdict`,
    );
  }
  for (const flow of [...forward, ...back].filter(({ verdict }) => verdict === "DROPPED")) {
    unexpected.push(`a drop: ${flow.drop_reason_desc} at ${flow.node_name}`);
  }
  return { missing, unexpected: [...new Set(unexpected)] };
}

function checkDropped(
  sent: Sent,
  { side, reason, policy }: Dropped,
  forward: readonly Flow[],
  back: readonly Flow[],
): FlowFaults {
  const missing: string[] = [], unexpected: string[] = [];
  const drops = forward.filter(({ verdict }) => verdict === "DROPPED");
  const right = drops.filter((flow) =>
    flow.drop_reason_desc === reason && flow.traffic_direction === side.toUpperCase()
  );
  if (right.length === 0) {
    const seen = drops.map((flow) => `${flow.drop_reason_desc} ${flow.traffic_direction}`);
    missing.push(
      `a drop with ${reason} at ${side}${
        seen.length === 0 ? "" : ` (seen: ${[...new Set(seen)].join(", ")})`
      }`,
    );
  } else if (policy !== undefined) {
    const named = right.some((flow) =>
      names(side === "ingress" ? flow.ingress_denied_by : flow.egress_denied_by, policy)
    );
    if (!named) missing.push(`policy ${policy} behind the drop`);
  }
  if (back.some(isForwarded)) unexpected.push("an answer that was forwarded");
  const into = forward.some((flow) => isForwarded(flow) && flow.trace_observation_point === "TO_ENDPOINT");
  if (into && sent.isToPod) unexpected.push("a flow that goes into the pod (to-endpoint)");
  if (side === "egress" && forward.some(isForwarded)) unexpected.push("a flow that leaves the source");
  return { missing, unexpected };
}

/** Traces and verdicts alike: it went on. Troubles are of connections and no packets. */
const isForwarded = ({ verdict, trouble, event_type: type }: Flow) =>
  verdict === "FORWARDED" && trouble === undefined && type?.type === 4;

const tcpFlags = ({ l4 }: Flow, name: "SYN" | "ACK" | "FIN" | "RST") => l4?.TCP?.flags?.[name] === true;

const names = (policies: readonly { readonly name: string }[] | undefined, name: string) =>
  policies?.some((policy) => policy.name === name) ?? false;

function isForward({ protocol, froms, destination, port }: Sent, { IP, l4, trouble }: Flow): boolean {
  if (IP === undefined || trouble !== undefined) return false;
  const own = froms.filter(({ address }) => address === IP.source);
  if (own.length === 0) return false;
  if (protocol === "ICMP") {
    const type = l4?.ICMPv4?.type ?? l4?.ICMPv6?.type;
    return IP.destination === destination && (type === 8 || type === 128);
  }
  const ports = protocol === "TCP" ? l4?.TCP : l4?.UDP;
  if (ports === undefined) return false;
  if (own.some(({ port }) => port === ports.source_port)) return true;
  return own.some(({ port }) => port === 0) && ports.destination_port === port &&
    IP.destination === destination;
}

function isBack({ protocol, froms, destination, port }: Sent, { IP, l4, trouble }: Flow): boolean {
  if (IP === undefined || trouble !== undefined) return false;
  const own = froms.filter(({ address }) => address === IP.destination);
  if (own.length === 0) return false;
  if (protocol === "ICMP") {
    const type = l4?.ICMPv4?.type ?? l4?.ICMPv6?.type;
    return IP.source === destination && (type === 0 || type === 129);
  }
  const ports = protocol === "TCP" ? l4?.TCP : l4?.UDP;
  if (ports === undefined) return false;
  if (own.some(({ port }) => port === ports.destination_port)) return true;
  return own.some(({ port }) => port === 0) && ports.source_port === port && IP.source === destination;
}
