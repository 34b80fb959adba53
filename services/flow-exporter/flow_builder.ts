/**
 * From an event to a flow: addresses and ports from the packet, names from what the cluster knows, policies from the
 * cookie. The rules by which Hubble's fields are filled are those that its clients rely on.
 * @module
 */
import { hostPort, reservedIdentityName } from "@weir/common";
import { Flow, type Policy, type TrafficDirection, type Verdict } from "@weir/proto/flow";
import { DROP, EVENT, REASON, TROUBLE } from "@weir/proto/numbers";
import { dropReasonName, tracePointName, traceReasonName, troubleText } from "@weir/proto/words";
import type { Rule } from "@weir/proto/policy";
import type { Init } from "@weir/proto";
import type { DatapathEvent, DropEvent, TroubleEvent } from "./event.ts";
import { type Packet, type Quoted, readEthernet, readPacket, type Transport } from "./packet.ts";

/** What is known of an address. */
export interface KnownAddress {
  identity: number;
  namespace: string;
  podName: string;
  labels: readonly string[];
}

/** Where names come from; every answer may be undefined. */
export interface Names {
  nodeName: string;
  cluster: string;
  address(ip: string): KnownAddress | undefined;
  identityLabels(identity: number): readonly string[] | undefined;
  rule(cookie: number): Rule | undefined;
  /** Addresses of an endpoint of this node by its number. */
  endpointAddresses(id: number): readonly string[];
  /** Who it is. */
  endpoint(id: number): KnownAddress | undefined;
  interfaceName(ifindex: number): string;
  /** DNS names by which an endpoint of this node, given by its number, has heard of an address. */
  dnsNames?(address: string, endpointId: number): readonly string[];
  /** The service of a service port by its id. */
  service(id: number): ServiceName | undefined;
  /** The service that has this frontend; `protocol` as in the packet: TCP, UDP, SCTP. */
  serviceAt(address: string, port: number, protocol: string): ServiceName | undefined;
}

/** A service as people name it. */
export interface ServiceName {
  namespace: string;
  name: string;
}

/** Message types of `event_type.type`. */
export const EVENT_TYPE = {
  drop: EVENT.DROP,
  trace: EVENT.TRACE,
  "policy-verdict": EVENT.POLICY_VERDICT,
  trouble: EVENT.TROUBLE,
  traffic: EVENT.TRAFFIC,
} as const;

const ICMP_TYPES: Record<string, string> = {
  "ICMPv4/0": "EchoReply",
  "ICMPv4/3": "DestinationUnreachable",
  "ICMPv4/8": "EchoRequest",
  "ICMPv4/11": "TimeExceeded",
  "ICMPv6/1": "DestinationUnreachable",
  "ICMPv6/2": "PacketTooBig",
  "ICMPv6/3": "TimeExceeded",
  "ICMPv6/128": "EchoRequest",
  "ICMPv6/129": "EchoReply",
  "ICMPv6/133": "RouterSolicitation",
  "ICMPv6/134": "RouterAdvertisement",
  "ICMPv6/135": "NeighborSolicitation",
  "ICMPv6/136": "NeighborAdvertisement",
};

/** What became of the packet of an event. */
export function verdictOf(event: DatapathEvent): Verdict {
  if (event.kind === "drop") return "DROPPED";
  if (event.kind === "trace" || event.kind === "trouble" || event.kind === "traffic") return "FORWARDED";
  if (event.audited) return "AUDIT";
  return event.verdict < 0 ? "DROPPED" : event.verdict > 0 ? "REDIRECTED" : "FORWARDED";
}

/** Names of an address, as the endpoint that the event is about asked for it. */
function dnsNames(address: string | undefined, { endpointId }: DatapathEvent, names: Names): string[] {
  return address === undefined ? [] : [...names.dnsNames?.(address, endpointId) ?? []];
}

/** Builds the flow of an event. `bootUnixS` is the wall clock at monotonic time 0; `uuid` is the caller's. Pure. */
export function buildFlow(
  event: DatapathEvent,
  names: Names,
  context: { bootUnixS: number; uuid: string },
): Flow {
  const packet = readPacket(event.packet, event.layer);
  const unixS = context.bootUnixS + event.timeNs / 1e9;
  const flow: Init<Flow> = {
    time: { seconds: Math.floor(unixS), nanos: Math.floor((unixS % 1) * 1e9) },
    uuid: context.uuid,
    Type: "L3_L4",
    verdict: verdictOf(event),
    node_name: names.cluster === "" ? names.nodeName : `${names.cluster}/${names.nodeName}`,
    ethernet: readEthernet(event.packet, event.layer),
    IP: packet.ip && {
      source: packet.ip.source,
      destination: packet.ip.destination,
      ipVersion: packet.ip.family === 4 ? "IPv4" : "IPv6",
    },
    l4: layer4(packet.transport),
    source: endpointOf(packet.ip?.source, event.sourceIdentity, names),
    destination: endpointOf(packet.ip?.destination, event.destinationIdentity, names),
    source_names: dnsNames(packet.ip?.source, event, names),
    destination_names: dnsNames(packet.ip?.destination, event, names),
    Summary: summary(packet),
    tunnel: event.tunnel && {
      protocol: "VXLAN",
      IP: { source: event.tunnel.source, ipVersion: event.tunnel.source.includes(":") ? "IPv6" : "IPv4" },
      vni: event.tunnel.vni,
    },
  };
  switch (event.kind) {
    case "drop":
      fillDrop(flow, event.reason, event.direction, event.cookie, names);
      nameSender(flow, event, names);
      flow.event_type = { type: EVENT_TYPE.drop, sub_type: event.reason };
      {
        const reply = replyOf(event, packet);
        if (reply !== undefined) flow.is_reply = { value: reply };
        flow.reply = reply ?? false;
      }
      if (event.file !== "") flow.file = { name: event.file, line: event.line };
      break;
    case "trace": {
      const reply = replyOf(event, packet);
      flow.event_type = { type: EVENT_TYPE.trace, sub_type: event.point };
      flow.trace_observation_point = tracePointName(event.point);
      flow.trace_reason = traceReasonName(event.reason);
      if (reply !== undefined) flow.is_reply = { value: reply };
      flow.reply = reply ?? false;
      flow.traffic_direction = directionOf(event, packet, names);
      flow.interface = { index: event.ifindex, name: names.interfaceName(event.ifindex) };
      break;
    }
    case "trouble":
      fillTrouble(flow, event, packet, names);
      break;
    case "traffic":
      flow.event_type = { type: EVENT_TYPE.traffic, sub_type: 0 };
      flow.is_reply = { value: false };
      flow.traffic = {
        packets: event.packets,
        bytes: event.bytes,
        reply_packets: event.replyPackets,
        reply_bytes: event.replyBytes,
        over: event.over,
        at_source: event.atSource,
      };
      break;
    case "policy-verdict":
      flow.event_type = { type: EVENT_TYPE["policy-verdict"], sub_type: 0 };
      flow.policy_match_type = event.matchType;
      flow.traffic_direction = event.direction;
      if (event.verdict < 0) {
        fillDrop(flow, -event.verdict, event.direction, event.cookie, names);
      } else {
        flow.is_reply = { value: false };
        if (event.verdict > 0) flow.proxy_port = event.verdict;
        // What passes because a policy is in audit mode is denied by that.
        const policies = policiesOf(event.cookie, names);
        if (event.direction === "INGRESS") {
          flow[event.audited ? "ingress_denied_by" : "ingress_allowed_by"] = policies;
        } else flow[event.audited ? "egress_denied_by" : "egress_allowed_by"] = policies;
      }
  }
  nameServices(flow, event, packet, names);
  // A virtual address is nobody's, and no unknown identity either.
  if (flow.destination?.identity === 0 && flow.destination_service) flow.destination.labels = [];
  return Flow.create(flow);
}

/** What is wrong, in numbers and in words. A packet that says so goes against the flow. */
function fillTrouble(flow: Init<Flow>, event: TroubleEvent, packet: Packet, names: Names): void {
  const { trouble, waitedMs, tries, byEndpoint } = event;
  const reply = replyOf(event, packet);
  const { transport } = packet;
  const mtu = transport !== undefined && "mtu" in transport ? transport.mtu ?? 0 : event.mtu;
  const about = transport !== undefined && "about" in transport ? transport.about : undefined;
  flow.event_type = { type: EVENT_TYPE.trouble, sub_type: trouble };
  flow.trouble = {
    kind: troubleText(trouble),
    waited_s: waitedMs / 1000,
    tries,
    mtu,
    by_endpoint: byEndpoint,
    about_ip: about?.destination,
    about_port: about?.port,
  };
  if (reply !== undefined) flow.is_reply = { value: reply };
  flow.reply = reply ?? false;
  flow.traffic_direction = directionOf(event, packet, names);
  const waited = `${(waitedMs / 1000).toFixed(1)} s`;
  const said = byEndpoint ? "by the endpoint itself" : "by the other side or on the way";
  const words: Record<number, string> = {
    [TROUBLE.NO_ANSWER]: `no answer for ${waited}, ${tries} ${transport?.kind === "TCP" ? "SYN" : "packet"}${
      tries === 1 ? "" : "s"
    } sent`,
    [TROUBLE.UNCONFIRMED]: `answered, and for ${waited} who asked has not confirmed it`,
    [TROUBLE.REFUSED]: `connection refused ${said}`,
    [TROUBLE.UNREACHABLE]: `${about === undefined ? "" : `${whereTo(about)} is `}unreachable, said ${said}`,
    [TROUBLE.RETRANSMITTED]:
      `sent the same ${tries} times again, and nothing came; it takes the path for ${mtu} bytes`,
    [TROUBLE.TOO_BIG]: `a packet was too big, said ${said}: ${mtu} bytes fit`,
  };
  flow.Summary = words[trouble] ?? flow.Summary;
}

function whereTo({ destination, port }: Quoted): string {
  return port === 0 ? destination : hostPort(destination, port);
}

/**
 * The service of a translated flow is the destination's, of answers the source's. Where the datapath named none (what is
 * asked was refused before a service was found, or the packet was seen before its translation), the addresses tell.
 */
function nameServices(flow: Init<Flow>, event: DatapathEvent, packet: Packet, names: Names): void {
  const known = event.service === 0 ? undefined : names.service(event.service);
  if (known) {
    if (flow.is_reply?.value) flow.source_service = known;
    else flow.destination_service = known;
    return;
  }
  const { ip, transport: t } = packet;
  if (!ip || !t || !("sourcePort" in t)) return;
  flow.source_service = names.serviceAt(ip.source, t.sourcePort, t.kind);
  flow.destination_service = names.serviceAt(ip.destination, t.destinationPort, t.kind);
}

/** Refused for what the packet says of itself: its addresses do not tell who sent it. */
const NOT_BELIEVED: ReadonlySet<number> = new Set([
  DROP.INVALID_SIP,
  DROP.UNKNOWN_L3,
  DROP.UNSUPPORTED_L2,
  DROP.FORBIDDEN_ICMP6,
]);

/** The endpoint that a refused packet came from, where its address says something else. */
export function trueSender(
  event: DatapathEvent,
  claimed: string | undefined,
  names: Pick<Names, "endpoint" | "endpointAddresses">,
): KnownAddress | undefined {
  if (event.kind !== "drop" || !NOT_BELIEVED.has(event.reason)) return undefined;
  if (event.direction !== "EGRESS" || event.endpointId === 0) return undefined;
  if (claimed !== undefined && names.endpointAddresses(event.endpointId).includes(claimed)) return undefined;
  return names.endpoint(event.endpointId);
}

/** Names the endpoint that a refused packet came from, whosever address it wears; the summary has the address. */
function nameSender(flow: Init<Flow>, event: DropEvent, names: Names): void {
  const claimed = flow.IP?.source, sender = trueSender(event, claimed, names);
  if (sender === undefined) return;
  flow.source = endNamed(sender, event.sourceIdentity, names);
  if (claimed !== undefined && sender.podName !== "") {
    flow.Summary = [flow.Summary, `source ${claimed}`].filter((text) => text !== "").join("; ");
  }
}

/** Whether it is an answer; undefined when nobody can tell. */
export function replyOf(event: DatapathEvent, packet: Packet): boolean | undefined {
  switch (event.kind) {
    case "drop":
      return event.reply ?? replyByFlags(packet);
    case "trace":
      return event.reason < 4 ? event.reason === REASON.REPLY : undefined;
    case "policy-verdict":
      return event.verdict < 0 ? undefined : false;
    case "traffic":
      return false;
    case "trouble":
      // Who opened a connection that is stuck is not known.
      return event.trouble === TROUBLE.RETRANSMITTED ? undefined : event.waitedMs === 0;
  }
}

/** Which way the connection goes, seen from the reporting endpoint. */
export function directionOf(event: DatapathEvent, packet: Packet, names: Names): TrafficDirection {
  switch (event.kind) {
    case "drop":
      return event.direction === "UNKNOWN" ? "TRAFFIC_DIRECTION_UNKNOWN" : event.direction;
    case "policy-verdict":
      return event.direction;
    case "trace":
      if (event.reason >= 4) return "TRAFFIC_DIRECTION_UNKNOWN";
  }
  return traceDirection(event, packet, names, replyOf(event, packet) ?? false);
}

/** Who opens a TCP connection, and who answers that, is told by the packet itself. */
function replyByFlags({ transport: t }: Packet): boolean | undefined {
  return t?.kind === "TCP" && t.flags.SYN ? t.flags.ACK : undefined;
}

function fillDrop(flow: Init<Flow>, reason: number, direction: string, cookie: number, names: Names): void {
  flow.drop_reason = reason;
  flow.drop_reason_desc = dropReasonName(reason);
  flow.traffic_direction =
    (direction === "UNKNOWN" ? "TRAFFIC_DIRECTION_UNKNOWN" : direction) as TrafficDirection;
  const policies = policiesOf(cookie, names);
  if (direction === "INGRESS") flow.ingress_denied_by = policies;
  else if (direction === "EGRESS") flow.egress_denied_by = policies;
}

/** The connection's direction seen from the reporting endpoint: egress when it began the connection. */
function traceDirection(
  event: { endpointId: number },
  packet: Packet,
  names: Names,
  reply: boolean,
): TrafficDirection {
  const own = names.endpointAddresses(event.endpointId);
  const isSource = packet.ip !== undefined && own.includes(packet.ip.source);
  return isSource !== reply ? "EGRESS" : "INGRESS";
}

/** Each policy behind a cookie once; one rule may stem from several. */
export function policiesOf(cookie: number, names: Names): Init<Policy>[] {
  const seen = new Map<string, Init<Policy>>();
  for (const source of names.rule(cookie)?.sources ?? []) {
    seen.set(source.policy, {
      name: source.policyName,
      namespace: source.namespace,
      kind: source.kind,
      labels: source.labels,
      path: source.path,
      file: source.file,
      line: source.line,
    });
  }
  return [...seen.values()];
}

function endpointOf(ip: string | undefined, identity: number, names: Names): Init<Flow>["source"] {
  return endNamed(ip === undefined ? undefined : names.address(ip), identity, names);
}

/** One end of a flow by what is known of its address, and its identity; 0: the address's. */
export function endNamed(
  known: KnownAddress | undefined,
  identity: number,
  names: Names,
): Init<Flow>["source"] {
  const number = identity || known?.identity || 0;
  return {
    identity: number,
    labels: [...labelsOf(known, number, names)],
    namespace: known?.namespace ?? "",
    pod_name: known?.podName ?? "",
    cluster_name: known?.podName ? names.cluster : "",
  };
}

/** Labels of an end. The packet's own identity counts; the address's labels only where they belong to it. */
export function labelsOf(
  known: KnownAddress | undefined,
  identity: number,
  names: Pick<Names, "identityLabels">,
): readonly string[] {
  return names.identityLabels(identity) ?? (known?.identity === identity ? known.labels : undefined) ??
    (reservedIdentityName(identity) ? [`reserved:${reservedIdentityName(identity)}`] : []);
}

function layer4(transport: Transport | undefined): Init<Flow>["l4"] {
  switch (transport?.kind) {
    case "TCP":
      return {
        TCP: {
          source_port: transport.sourcePort,
          destination_port: transport.destinationPort,
          flags: transport.flags,
        },
      };
    case "UDP":
      return { UDP: { source_port: transport.sourcePort, destination_port: transport.destinationPort } };
    case "SCTP":
      return {
        SCTP: {
          source_port: transport.sourcePort,
          destination_port: transport.destinationPort,
          chunk_type: transport.chunkType,
        },
      };
    case "ICMPv4":
    case "ICMPv6":
      return { [transport.kind]: { type: transport.type, code: transport.code } };
  }
  return undefined;
}

function summary(packet: Packet): string {
  const t = packet.transport;
  switch (t?.kind) {
    case "TCP":
      return `TCP Flags: ${Object.entries(t.flags).filter(([, on]) => on).map(([name]) => name).join(", ")}`;
    case "UDP":
    case "SCTP":
      return t.kind;
    case "ICMPv4":
    case "ICMPv6":
      return `${t.kind} ${ICMP_TYPES[`${t.kind}/${t.type}`] ?? `Type=${t.type} Code=${t.code}`}`;
  }
  return "";
}
