/** The two ends of a flow, as cards and rows name them. Pure. @module */
import { IDENTITY_ALLOCATED_MIN, IDENTITY_LOCAL_MIN, reservedIdentityName, workloadOf } from "@weir/common";
import type { Endpoint, Flow, Service } from "@weir/proto/flow";
import type { CardKind, FlowEnd, Group } from "../api.ts";

/** Who an end is, without its address and port: the finest that cards are made of. */
export interface End {
  /** Two flows with the same key have the same end here. */
  readonly key: string;
  readonly kind: CardKind;
  readonly namespace: string;
  readonly workload: string;
  readonly workloadKind: string;
  readonly pod: string;
  readonly identity: number;
  /** Sorted. */
  readonly labels: readonly string[];
  /** Node that it runs on, or that it is; "" unknown. */
  readonly node: string;
  /** Of what is no workload: DNS name, prefix, name of a node. */
  readonly name: string;
}

/** What is known beside the flow. */
export interface EndNames {
  /** Node by one of its addresses. */
  nodeAt(ip: string): string | undefined;
  /** Node that has a pod's address. */
  nodeOf(ip: string): string | undefined;
}

/** What the reserved identities are, by their names. */
export const RESERVED: Readonly<Record<string, CardKind>> = {
  host: "host",
  world: "world",
  "world-ipv4": "world",
  "world-ipv6": "world",
  "remote-node": "remote-node",
  "kube-apiserver": "kube-apiserver",
};

/** The end of a flow. */
export function endOf(flow: Flow, side: "source" | "destination", names: EndNames): End {
  const endpoint = flow[side], ip = flow.IP?.[side] ?? "";
  const identity = endpoint?.identity ?? 0;
  const domain = (side === "source" ? flow.source_names : flow.destination_names)[0] ?? "";
  const service = side === "source" ? flow.source_service : flow.destination_service;
  if (endpoint !== undefined && (endpoint.pod_name !== "" || isWorkload(identity))) {
    return workloadEnd(flow, side, endpoint, ip, names);
  }
  const kind = RESERVED[reservedIdentityName(identity) ?? ""];
  if (kind === "host" || kind === "remote-node") {
    const node = names.nodeAt(ip) ?? (kind === "host" ? nodeNameOf(flow.node_name) : "");
    return plain(node === "" ? kind : "node", identity, { node, name: node, labels: endpoint?.labels });
  }
  if (identity === 0 && service?.name) return serviceEnd(service);
  if (kind === "world" || identity >= IDENTITY_LOCAL_MIN) {
    if (domain !== "") return plain("dns", identity, { name: domain });
    const cidr = cidrOf(endpoint?.labels ?? []);
    return cidr === "" || cidr.endsWith("/0")
      ? plain("world", identity)
      : plain("cidr", identity, { name: cidr });
  }
  if (kind !== undefined) return plain(kind, identity, { labels: endpoint?.labels });
  const node = names.nodeAt(ip);
  if (node !== undefined) return plain("node", identity, { node, name: node });
  return plain("unknown", identity, { name: reservedIdentityName(identity) ?? "" });
}

/** Numbers that stand for the labels of an endpoint. */
export const isWorkload = (identity: number) =>
  identity >= IDENTITY_ALLOCATED_MIN && identity < IDENTITY_LOCAL_MIN;

function workloadEnd(
  flow: Flow,
  side: "source" | "destination",
  endpoint: Endpoint,
  ip: string,
  names: EndNames,
): End {
  const { namespace, pod_name: pod, identity } = endpoint;
  const labels = [...endpoint.labels].sort();
  const given = endpoint.workloads[0];
  const { name, kind } = given?.name ? given : workloadOf(pod) ?? nameOfLabels(labels, identity);
  const isHere = flow.traffic_direction === (side === "source" ? "EGRESS" : "INGRESS") &&
    flow.is_reply?.value !== true;
  const node = (isHere ? nodeNameOf(flow.node_name) : names.nodeOf(ip)) ?? "";
  return {
    key: `w ${namespace}/${kind}/${name} ${identity} ${node}`,
    kind: "workload",
    namespace,
    workload: name,
    workloadKind: kind,
    pod,
    identity,
    labels,
    node,
    name: "",
  };
}

/** An endpoint that is no pod, as `weir endpoint add` makes them, is told by its labels. */
export function nameOfLabels(labels: readonly string[], identity: number): { name: string; kind: string } {
  for (const key of ["app.kubernetes.io/name", "app", "name", "k8s-app"]) {
    const value = valueOfLabel(labels, key);
    if (value) return { name: value, kind: "Endpoint" };
  }
  return { name: labels[0]?.replace(/^[^:]*:/, "") ?? `identity ${identity}`, kind: "Endpoint" };
}

/** An end that is no workload. */
export function plain(
  kind: CardKind,
  identity: number,
  { name = "", node = "", labels = [] }: { name?: string; node?: string; labels?: readonly string[] } = {},
): End {
  return {
    key: `${kind} ${name}`,
    kind,
    namespace: "",
    workload: "",
    workloadKind: "",
    pod: "",
    identity,
    labels: [...labels].sort(),
    node,
    name,
  };
}

function serviceEnd({ name, namespace }: Service): End {
  return { ...plain("service", 0, { name: `${namespace}/${name}` }), namespace };
}

/** "cidr:10.0.0.0/8" among the labels; the longest where there are several. "" for none. */
export function cidrOf(labels: readonly string[]): string {
  let found = "", length = -1;
  for (const label of labels) {
    if (!label.startsWith("cidr:")) continue;
    const prefix = label.slice(5).replace(/=$/, "");
    const bits = Number(prefix.slice(prefix.lastIndexOf("/") + 1));
    if (bits > length) [found, length] = [prefix, bits];
  }
  return found;
}

/** "default/node-1" -> "node-1". */
export function nodeNameOf(text: string): string {
  return text.slice(text.lastIndexOf("/") + 1);
}

/** Value of a label by its key, with any source; undefined where there is none. */
export function valueOfLabel(labels: readonly string[], key: string): string | undefined {
  for (const label of labels) {
    const equals = label.indexOf("=");
    const full = equals < 0 ? label : label.slice(0, equals);
    if (full === key || full.slice(full.indexOf(":") + 1) === key) {
      return equals < 0 ? "" : label.slice(equals + 1);
    }
  }
  return undefined;
}

/** Everything that there is no room for. */
export const OTHER: End = plain("other", 0);

/** What a card is, without its numbers. */
export interface CardHead {
  readonly id: string;
  readonly kind: CardKind;
  readonly name: string;
  readonly namespace: string;
  readonly workloadKind: string;
  readonly query: Readonly<Record<string, string>>;
}

/** The card that an end is on. */
export function cardOf(end: End, group: Group): CardHead {
  if (end.kind !== "workload") return plainCard(end);
  if (group === "namespace") {
    const { namespace } = end;
    return head("namespace", namespace, { name: namespace || "(no namespace)", query: { namespace } });
  }
  if (group === "node") {
    const name = end.node || "(node not known)";
    return head("node", end.node, { name, query: end.node === "" ? {} : { "node-name": end.node } });
  }
  if (group.startsWith("label:")) {
    const key = group.slice(6), value = valueOfLabel(end.labels, key);
    const text = value === undefined ? "" : `${key}=${value}`;
    const name = value === undefined ? `(without ${key})` : text;
    return head("label", text, { name, query: value === undefined ? {} : { label: text } });
  }
  const { namespace, workload, workloadKind } = end;
  return head("workload", `${namespace}/${workloadKind}/${workload}`, {
    name: workload,
    namespace,
    workloadKind,
    query: workloadKind === "Endpoint"
      ? { identity: `${end.identity}` }
      : { pod: `${namespace}/${workloadKind === "Pod" ? workload : `${workload}-`}` },
  });
}

function plainCard(end: End): CardHead {
  const { kind, name, namespace } = end;
  const query: Record<string, Record<string, string>> = {
    world: { identity: "world" },
    host: { identity: "host" },
    "remote-node": { identity: "remote-node" },
    "kube-apiserver": { identity: "kube-apiserver" },
    cidr: { ip: name },
    dns: { fqdn: name },
    service: { service: name },
    node: { "node-name": name },
  };
  const titles: Readonly<Record<string, string>> = {
    world: "world",
    host: "host",
    "remote-node": "other nodes",
    "kube-apiserver": "kube-apiserver",
    other: "other",
    unknown: name || "unknown",
  };
  return head(kind, name, { name: titles[kind] ?? name, namespace, query: query[kind] ?? {} });
}

function head(kind: CardKind, rest: string, parts: Partial<CardHead>): CardHead {
  const id = rest === "" ? kind : `${kind}:${rest}`;
  return { id, kind, name: rest, namespace: "", workloadKind: "", query: {}, ...parts };
}

/** One end of a row. */
export function rowEnd(flow: Flow, side: "source" | "destination", names: EndNames): FlowEnd {
  const end = endOf(flow, side, names), endpoint = flow[side];
  const service = side === "source" ? flow.source_service : flow.destination_service;
  return {
    card: cardOf(end, "workload").id,
    namespace: endpoint?.namespace ?? "",
    pod: endpoint?.pod_name ?? "",
    workload: end.workload,
    workloadKind: end.workloadKind,
    ip: flow.IP?.[side] ?? "",
    port: portOf(flow, side),
    identity: endpoint?.identity ?? 0,
    labels: endpoint?.labels ?? [],
    names: side === "source" ? flow.source_names : flow.destination_names,
    service: service?.name ? `${service.namespace}/${service.name}` : "",
  };
}

/** Port of an end; 0 where there is none. */
export function portOf(flow: Flow, side: "source" | "destination"): number {
  const transport = flow.l4?.TCP ?? flow.l4?.UDP ?? flow.l4?.SCTP;
  return (side === "source" ? transport?.source_port : transport?.destination_port) ?? 0;
}

/** "TCP", "ICMPv4"; "" where the packet has none that is known. */
export function protocolOf(flow: Flow): string {
  const l4 = flow.l4;
  if (l4 === undefined) return "";
  for (const name of ["TCP", "UDP", "ICMPv4", "ICMPv6", "SCTP", "VRRP", "IGMP"] as const) {
    if (l4[name] !== undefined) return name;
  }
  return "";
}

/** "HTTP", "DNS", "Kafka"; "" of what says nothing of layer 7. */
export function applicationOf(flow: Flow): string {
  if (flow.l7?.http !== undefined) return "HTTP";
  if (flow.l7?.dns !== undefined) return "DNS";
  return flow.l7?.kafka !== undefined ? "Kafka" : flow.application?.protocol ?? "";
}

/** Unix seconds of a flow, never later than `nowS`: a node whose clock is ahead does not tell of the future. */
export function secondsOf(flow: Flow, nowS: number): number {
  const { seconds = nowS, nanos = 0 } = flow.time ?? {};
  return Math.min(seconds + nanos / 1e9, nowS);
}
