/**
 * What the history needs of a flow more than once: who asked whom, on which port, and the words by which it is found.
 * @module
 */
import { L7_EVENT } from "@weir/flow-filter";
import type { Flow, Policy } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { wordOf } from "./word.ts";

/** Ports from here on are mostly chosen by the kernel for one connection (Linux: ip_local_port_range); they are no words. */
export const EPHEMERAL_PORT_MIN = 32_768;

/** Protocol and ports of a flow. */
export interface Transport {
  readonly protocol: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const NONE: Transport = { protocol: "", sourcePort: 0, destinationPort: 0 };

/** Pure. */
export function transportOf({ l4 }: Flow): Transport {
  if (l4 === undefined) return NONE;
  if (l4.TCP) return { protocol: "TCP", ...portsOf(l4.TCP) };
  if (l4.UDP) return { protocol: "UDP", ...portsOf(l4.UDP) };
  if (l4.SCTP) return { protocol: "SCTP", ...portsOf(l4.SCTP) };
  const name = (["ICMPv4", "ICMPv6", "VRRP", "IGMP"] as const).find((one) => l4[one] !== undefined);
  return name === undefined ? NONE : { ...NONE, protocol: name };
}

function portsOf({ source_port, destination_port }: { source_port: number; destination_port: number }) {
  return { sourcePort: source_port, destinationPort: destination_port };
}

/** Unix milliseconds of a flow; undefined without a time. */
export function flowMs({ time }: Flow): number | undefined {
  return time === undefined ? undefined : time.seconds * 1000 + time.nanos / 1e6;
}

/** A packet was dropped: the verdict that led to it is another flow of the same packet. */
export const isDrop = (flow: Flow): boolean => flow.event_type?.type === EVENT.DROP;
/** Policy allows it, and it fails all the same. */
export const isTrouble = (flow: Flow): boolean => flow.event_type?.type === EVENT.TROUBLE;

/** The policies of a verdict with direction. */
export function policiesOf(
  flow: Flow,
): { direction: "INGRESS" | "EGRESS"; allowed: boolean; policy: Policy }[] {
  const of = (direction: "INGRESS" | "EGRESS", allowed: boolean, list: readonly Policy[]) =>
    list.map((policy) => ({ direction, allowed, policy }));
  return [
    ...of("EGRESS", true, flow.egress_allowed_by),
    ...of("INGRESS", true, flow.ingress_allowed_by),
    ...of("EGRESS", false, flow.egress_denied_by),
    ...of("INGRESS", false, flow.ingress_denied_by),
  ];
}

/** Words of a flow whose ends have these numbers. The first letter is the block's kind. */
export function* flowTerms(
  flow: Flow,
  source: number,
  destination: number,
  transport: Transport,
): Generator<string> {
  yield `fs:${source}`;
  yield `fd:${destination}`;
  yield `fv:${flow.verdict}`;
  const { protocol, sourcePort, destinationPort } = transport;
  if (protocol !== "") yield `fk:${protocol}`;
  if (sourcePort > 0 && sourcePort < EPHEMERAL_PORT_MIN) yield `fo:${sourcePort}`;
  if (destinationPort > 0 && destinationPort < EPHEMERAL_PORT_MIN) yield `fp:${destinationPort}`;
  if (flow.event_type) yield `ft:${flow.event_type.type}`;
  if (flow.drop_reason_desc !== "DROP_REASON_UNKNOWN") yield `fr:${flow.drop_reason_desc}`;
  if (flow.source?.namespace) yield `fm:${wordOf(flow.source.namespace)}`;
  if (flow.destination?.namespace) yield `fn:${wordOf(flow.destination.namespace)}`;
  if (flow.IP) {
    yield `fa:${wordOf(flow.IP.source)}`;
    yield `fb:${wordOf(flow.IP.destination)}`;
  }
  for (const name of flow.source_names) yield `fx:${wordOf(name)}`;
  for (const name of flow.destination_names) yield `fy:${wordOf(name)}`;
}

/** Whether somebody's words (HTTP, DNS) are in it. */
export const isApplication = (flow: Flow): boolean => flow.event_type?.type === L7_EVENT;
