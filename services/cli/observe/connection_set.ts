/**
 * Connections made out of the flows that nodes hold in memory, and of what their conntrack tracks now.
 *
 *     flow ────────▶ protocol, addresses, ports, either way round ─▶ connection: start, end, verdict, policies, flows each way
 *     conntrack row ─▶ the same five ─▶ is it open; what it carried; who is at its ends, where no flow is held any more
 *
 * @module
 */
import type { Flow, Verdict } from "@weir/proto/flow";
import { Connection, type ConnectionPolicy, type ConnectionState } from "@weir/proto/history";
import { EVENT } from "@weir/proto/numbers";

/** One row of the datapath's conntrack, as `weir bpf ct list` shows it. */
export type TrackedRow = Readonly<Record<string, string>>;

/** A connection, and a flow of it that says so in full; none where conntrack alone knows it. */
export interface Found {
  readonly connection: Connection;
  readonly flows: readonly Flow[];
}

interface Growing {
  readonly value: Connection;
  readonly flows: Flow[];
  isReset: boolean;
  fin: [boolean, boolean];
}

interface Ports {
  readonly protocol: string;
  readonly from: number;
  readonly to: number;
}

const secondsOf = ({ time }: Flow) => (time?.seconds ?? 0) + (time?.nanos ?? 0) / 1e9;

function portsOf({ l4 }: Flow): Ports | undefined {
  if (l4 === undefined) return undefined;
  for (const protocol of ["TCP", "UDP", "SCTP"] as const) {
    const ports = l4[protocol];
    if (ports) return { protocol, from: ports.source_port, to: ports.destination_port };
  }
  const protocol = (["ICMPv4", "ICMPv6", "VRRP", "IGMP"] as const).find((name) => l4[name] !== undefined);
  return protocol && { protocol, from: 0, to: 0 };
}

const keyOf = (protocol: string, from: string, fromPort: number, to: string, toPort: number) =>
  `${protocol.toLowerCase()}|${from}|${fromPort}|${to}|${toPort}`;

/** From the best to the worst. */
const WORST: readonly Verdict[] = ["FORWARDED", "REDIRECTED", "AUDIT", "ERROR", "DROPPED"];

/** Makes connections of flows (any order) and rows of conntrack. Pure. */
export function connectionsOf(flows: readonly Flow[], tracked: readonly TrackedRow[] = []): Found[] {
  const growing = new Map<string, Growing>();
  for (const flow of flows.toSorted((a, b) => secondsOf(a) - secondsOf(b))) {
    const ports = portsOf(flow);
    if (flow.IP === undefined || ports === undefined) continue;
    const { source, destination } = flow.IP;
    const forward = keyOf(ports.protocol, source, ports.from, destination, ports.to);
    const backward = keyOf(ports.protocol, destination, ports.to, source, ports.from);
    const said = flow.is_reply?.value;
    const turned = said === true || (said === undefined && !growing.has(forward) && growing.has(backward));
    const key = turned ? backward : forward;
    let found = growing.get(key);
    if (found === undefined) growing.set(key, found = begin(flow, ports, turned));
    note(found, flow, turned);
  }
  const open = new Map<string, TrackedRow>();
  for (const row of tracked) {
    // The choice of a backend: the flow to the backend has a row of its own.
    if (row.flags?.split(",").includes("service")) continue;
    const isIcmp = /^icmp/i.test(row.protocol);
    const [from, to] = isIcmp ? [0, 0] : [Number(row.sourcePort), Number(row.destinationPort)];
    const key = keyOf(row.protocol, row.source, from, row.destination, to), known = open.get(key);
    // Two nodes may know it: where it begins is seen what was sent, lost on the way or not.
    if (known === undefined || !known.sourceEndpoint) open.set(key, row);
  }
  const all = [...growing].map(([key, one]) => {
    const row = open.get(key);
    open.delete(key);
    return { connection: { ...one.value, ...trafficOf(row), state: stateOf(one, row) }, flows: one.flows };
  });
  return [...all, ...[...open.values()].map((row) => ({ connection: trackedAlone(row), flows: [] }))];
}

function begin(flow: Flow, { protocol, from, to }: Ports, turned: boolean): Growing {
  const { source, destination, IP } = flow;
  const ends = turned
    ? { source: destination, destination: source, sourceIp: IP!.destination, destinationIp: IP!.source }
    : { source, destination, sourceIp: IP!.source, destinationIp: IP!.destination };
  const value = Connection.create({
    ...ends,
    id: flow.uuid,
    startUnixS: secondsOf(flow),
    startKnown: !turned && isFirst(flow),
    sourcePort: turned ? to : from,
    destinationPort: turned ? from : to,
    protocol,
  });
  return { value, flows: [], isReset: false, fin: [false, false] };
}

/** A connection's first packet, or one that was refused. */
function isFirst({ event_type, trace_reason }: Flow): boolean {
  return event_type?.type === EVENT.POLICY_VERDICT || event_type?.type === EVENT.DROP ||
    trace_reason === "NEW";
}

function note(found: Growing, flow: Flow, turned: boolean): void {
  const { value, flows } = found, flags = flow.l4?.TCP?.flags;
  flows.push(flow);
  value.endUnixS = Math.max(value.endUnixS, secondsOf(flow));
  if (turned) value.replyFlows++;
  else value.flows++;
  value.startKnown ||= !turned && isFirst(flow);
  if (WORST.indexOf(flow.verdict) > WORST.indexOf(value.verdict)) value.verdict = flow.verdict;
  if (flow.event_type?.type === EVENT.DROP) value.drops++;
  if (flow.drop_reason_desc !== "DROP_REASON_UNKNOWN") value.dropReason = flow.drop_reason_desc;
  if (flow.trouble !== undefined) value.trouble = flow.trouble.kind;
  else if (flags !== undefined && flow.verdict !== "DROPPED") {
    found.fin[turned ? 1 : 0] ||= flags.FIN;
    found.isReset ||= flags.RST;
  }
  if (flow.node_name !== "" && !value.nodes.includes(flow.node_name)) value.nodes.push(flow.node_name);
  for (const name of turned ? flow.source_names : flow.destination_names) {
    if (!value.destinationNames.includes(name)) value.destinationNames.push(name);
  }
  value.destinationService ??= turned ? flow.source_service : flow.destination_service;
  for (const policy of policiesOf(flow)) {
    const text = JSON.stringify(policy);
    if (!value.policies.some((known) => JSON.stringify(known) === text)) value.policies.push(policy);
  }
}

function policiesOf(flow: Flow): ConnectionPolicy[] {
  const of = (direction: "INGRESS" | "EGRESS", allowed: boolean, list: Flow["ingress_allowed_by"]) =>
    list.map((policy): ConnectionPolicy => ({ direction, allowed, policy }));
  return [
    ...of("EGRESS", true, flow.egress_allowed_by),
    ...of("INGRESS", true, flow.ingress_allowed_by),
    ...of("EGRESS", false, flow.egress_denied_by),
    ...of("INGRESS", false, flow.ingress_denied_by),
  ];
}

function stateOf({ value, fin, isReset }: Growing, row: TrackedRow | undefined): ConnectionState {
  const flags = row?.flags?.split(",") ?? [], replied = value.replyFlows > 0 || flags.includes("replied");
  if (value.verdict === "DROPPED" && !replied) return "DENIED";
  if (isReset || value.trouble === "refused") return "RESET";
  const ends = [fin[0] || flags.includes("closing"), fin[1] || flags.includes("closing-reverse")];
  if (ends[0] && ends[1]) return "CLOSED";
  if (value.trouble === "no-answer" && !replied) return "NO_ANSWER";
  if (row !== undefined) return replied ? "OPEN" : "NO_ANSWER";
  return ends[0] || ends[1] ? "CLOSED" : "SILENT";
}

/** What conntrack has counted, "there/back"; nothing where it knows the connection no more, or counts none. */
function trafficOf(row: TrackedRow | undefined): Partial<Connection> {
  const numbers = (text = "") => text.split("/").map(Number);
  const [packets, replyPackets] = numbers(row?.packets), [bytes, replyBytes] = numbers(row?.bytes);
  if (!(packets + replyPackets > 0)) return {};
  return { trafficKnown: true, packets, bytes, replyPackets, replyBytes };
}

/** What conntrack says of a connection whose flows are not held any more. */
function trackedAlone(row: TrackedRow): Connection {
  const flags = row.flags?.split(",") ?? [];
  const isIcmp = /^icmp/i.test(row.protocol);
  const slash = (row.service ?? "").lastIndexOf("/");
  return Connection.create({
    id: `conntrack:${
      row.node ?? ""
    }:${row.protocol}:${row.source}:${row.sourcePort}:${row.destination}:${row.destinationPort}`,
    state: flags.includes("closing") && flags.includes("closing-reverse")
      ? "CLOSED"
      : flags.includes("replied")
      ? "OPEN"
      : "NO_ANSWER",
    source: endOf(row.sourceEndpoint, row.sourceIdentity),
    destination: endOf(row.destinationEndpoint, row.destinationIdentity),
    sourceIp: row.source,
    destinationIp: row.destination,
    sourcePort: isIcmp ? 0 : Number(row.sourcePort),
    destinationPort: isIcmp ? 0 : Number(row.destinationPort),
    protocol: row.protocol.toUpperCase(),
    ...trafficOf(row),
    verdict: "FORWARDED",
    destinationService: row.service
      ? { namespace: row.service.slice(0, Math.max(0, slash)), name: row.service.slice(slash + 1) }
      : undefined,
    nodes: row.node ? [row.node] : [],
  });
}

/** "shop/cart" of the conntrack's names. */
function endOf(name: string | undefined, identity: string | undefined): Partial<NonNullable<Flow["source"]>> {
  const slash = (name ?? "").indexOf("/");
  return {
    identity: Number(identity ?? 0),
    namespace: slash < 0 ? "" : name!.slice(0, slash),
    pod_name: slash < 0 ? "" : name!.slice(slash + 1),
  };
}
