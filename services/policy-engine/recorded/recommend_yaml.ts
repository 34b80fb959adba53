/**
 * Recommended policies as manifests, with a comment for each rule on what it rests on. What the record says is text of others: comments hold no
 * end of a line, and values are quoted by the YAML library.
 * @module
 */
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  PROTOCOL_NUMBERS,
  protocolName,
  SOURCE_KUBERNETES,
} from "@weir/common";
import { stringify } from "yaml";
import { type Direction, DIRECTIONS } from "../policy.ts";
import {
  isDns,
  type PeerEvidence,
  type PortEvidence,
  type RecommendedPolicy,
  type RecommendedRule,
} from "./recommend.ts";
import { keyText } from "./recommended_peer.ts";

/** The kinds that can be asked for. */
export const RECOMMENDED_KINDS = ["CiliumNetworkPolicy", "NetworkPolicy"] as const;
export type RecommendedKind = typeof RECOMMENDED_KINDS[number];

/** Options of {@link policyYaml}. */
export interface PolicyYamlOptions {
  readonly kind: RecommendedKind;
  readonly name: string;
  /** Labels of the workloads, as they were asked for. */
  readonly labels: Readonly<Record<string, string>>;
  /** Requests of HTTP and names of DNS as they were seen, and no others. */
  readonly l7: boolean;
  /** Lines above the document. */
  readonly head: readonly string[];
}

/** The kind has no words for some of it. */
export class RecommendError extends Error {
  override readonly name = "RecommendError";
  constructor(readonly unsaid: readonly string[]) {
    super(`${unsaid.slice(0, 5).join("; ")}${unsaid.length > 5 ? `; and ${unsaid.length - 5} more` : ""}`);
  }
}

/** Ports and types that one item may have (Cilium). */
const PORTS_MAX = 40;
const EVIDENCE_SHOWN = 12;
const { ICMP, ICMPV6 } = PROTOCOL_NUMBERS;

/** @throws {RecommendError} NetworkPolicy has no words for it */
export function policyYaml(policy: RecommendedPolicy, options: PolicyYamlOptions): string {
  const isCilium = options.kind === "CiliumNetworkPolicy";
  const unsaid: string[] = [];
  const part = (direction: Direction) => {
    const rules = policy.directions[direction];
    if (rules.length === 0) {
      const empty = isCilium ? `  ${wordOf(direction)}:\n  - {}\n` : `  ${wordOf(direction)}: []\n`;
      return `  # ${wordOf(direction)}: nothing passed, so nothing does\n${empty}`;
    }
    const texts = rules.map((rule) => {
      const bodies = isCilium
        ? ciliumRules(rule, direction, policy, options.l7)
        : kubernetesRules(rule, direction, policy, unsaid);
      return bodies.length === 0
        ? ""
        : `${evidenceOf(rule).map(comment).join("")}${bodies.map(item).join("")}`;
    }).filter((text) => text !== "");
    return texts.length === 0 ? `  ${wordOf(direction)}: []\n` : `  ${wordOf(direction)}:\n${texts.join("")}`;
  };
  const body = DIRECTIONS.map(part).join("");
  if (unsaid.length > 0) throw new RecommendError(unsaid);
  const head = [...options.head, ...policy.leftOut.map((text) => `Seen and left out: ${text}`)];
  const subject = { matchLabels: options.labels };
  return head.map((line) => comment(line).trimStart()).join("") + stringify({
    apiVersion: isCilium ? "cilium.io/v2" : "networking.k8s.io/v1",
    kind: options.kind,
    metadata: { name: options.name, namespace: policy.namespace },
  }) + "spec:\n" +
    indented(
      stringify(
        isCilium
          ? { endpointSelector: subject }
          : { podSelector: subject, policyTypes: ["Ingress", "Egress"] },
      ),
    ) + body;
}

function wordOf(direction: Direction): string {
  return direction.toLowerCase();
}

function ciliumRules(
  { peers, ports }: RecommendedRule,
  direction: Direction,
  policy: RecommendedPolicy,
  l7: boolean,
): object[] {
  const side = direction === "INGRESS" ? "from" : "to";
  const { namespace, byName } = policy;
  const [first] = peers;
  const who = first.peer.type === "endpoints"
    ? { [`${side}Endpoints`]: peers.map((peer) => endpointSelector(peer, namespace)) }
    : first.peer.type === "entity"
    ? { [`${side}Entities`]: peers.map(({ peer }) => peer.type === "entity" ? peer.entity : "") }
    : first.peer.type === "name"
    ? { toFQDNs: peers.map(({ peer }) => ({ matchName: peer.type === "name" ? peer.name : "" })) }
    : { [`${side}CIDR`]: peers.map(({ peer }) => peer.type === "address" ? peer.prefix : "") };
  const plain: PortEvidence[] = [], items: object[] = [], icmps: object[] = [];
  for (const one of ports) {
    const { protocol, port } = one;
    if (protocol === ICMP || protocol === ICMPV6) {
      icmps.push({ type: port, family: protocol === ICMP ? "IPv4" : "IPv6" });
      continue;
    }
    const rules = direction === "EGRESS" && isDns(one) && (byName || l7)
      ? { dns: dnsRules(one, policy, l7) }
      : l7 && protocol === PROTOCOL_NUMBERS.TCP && one.http.size > 0 && !one.requestsCut
      ? { http: [...one.http.keys()].sort().map(httpRule) }
      : undefined;
    if (rules === undefined) plain.push(one);
    else items.push({ ports: [portOf(one)], rules });
  }
  for (const some of chunks(plain)) items.push({ ports: some.map(portOf) });
  return [
    ...items.length > 0 ? [{ ...who, toPorts: items }] : [],
    ...chunks(icmps).map((fields) => ({ ...who, icmps: [{ fields }] })),
  ];
}

function kubernetesRules(
  rule: RecommendedRule,
  direction: Direction,
  { namespace }: RecommendedPolicy,
  unsaid: string[],
): object[] {
  const icmp = rule.ports.filter(({ protocol }) => protocol === ICMP || protocol === ICMPV6);
  const ports = rule.ports.filter((one) => !icmp.includes(one));
  const peers: object[] = [];
  for (const one of rule.peers) {
    const { peer, selector, name, cluster } = one;
    // A node always reaches its own pods, whatever policy says.
    if (peer.type === "entity" && peer.entity === "host" && direction === "INGRESS") continue;
    const text = `${direction === "INGRESS" ? "from" : "to"} ${plainText(name)}`;
    for (const { port } of icmp) unsaid.push(`ICMP type ${port} ${text}`);
    if (peer.type === "address") peers.push({ ipBlock: { cidr: peer.prefix } });
    else if (
      peer.type === "endpoints" && cluster === undefined &&
      selector!.labels.every(({ source }) => source === SOURCE_KUBERNETES)
    ) {
      const pods = { podSelector: selectorOf(one) };
      const isElsewhere = peer.end.namespace !== namespace;
      peers.push(
        isElsewhere
          ? {
            namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": peer.end.namespace } },
            ...pods,
          }
          : pods,
      );
    } else if (ports.length > 0) unsaid.push(text);
  }
  if (peers.length === 0 || ports.length === 0) return [];
  return [{
    [direction === "INGRESS" ? "from" : "to"]: peers,
    ports: ports.map(({ port, protocol }) => ({ port, protocol: protocolName(protocol) })),
  }];
}

function endpointSelector(evidence: PeerEvidence, namespace: string): object {
  const { peer, cluster } = evidence;
  const elsewhere: Record<string, string> = {};
  if (peer.type === "endpoints" && peer.end.namespace !== namespace) {
    elsewhere[`k8s:${LABEL_NAMESPACE}`] = peer.end.namespace;
  }
  if (cluster !== undefined) elsewhere[`k8s:${LABEL_CLUSTER}`] = cluster;
  return selectorOf(evidence, elsewhere);
}

function selectorOf({ selector }: PeerEvidence, more: Record<string, string> = {}): object {
  const matchLabels = {
    ...Object.fromEntries(selector!.labels.map(({ source, key, value }) => [keyText(source, key), value])),
    ...more,
  };
  const matchExpressions = selector!.absent.map((key) => ({ key, operator: "DoesNotExist" }));
  return {
    ...Object.keys(matchLabels).length > 0 ? { matchLabels } : {},
    ...matchExpressions.length > 0 ? { matchExpressions } : {},
  };
}

function portOf({ port, protocol }: PortEvidence): object {
  return { port: String(port), protocol: protocolName(protocol) };
}

/** With L7 what was asked for, if all of it is known; else every name: it is the answers that are needed. */
function dnsRules({ dns, requestsCut }: PortEvidence, policy: RecommendedPolicy, l7: boolean): object[] {
  const names = new Set(
    [...dns.keys()].map((name) => name.toLowerCase().replace(/\.$/, "")).filter((name) => name !== ""),
  );
  if (!l7 || names.size === 0 || requestsCut) return [{ matchPattern: "*" }];
  for (const { peers } of policy.directions.EGRESS) {
    for (const { peer } of peers) if (peer.type === "name") names.add(peer.name);
  }
  return [...names].sort().map((matchName) => ({ matchName }));
}

function httpRule(request: string): object {
  const at = request.indexOf(" "), [path, query] = request.slice(at + 1).split("?", 2);
  const pattern = path.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return {
    method: request.slice(0, at).replace(/[^A-Za-z-]/g, ""),
    path: query === undefined ? pattern : `${pattern}(\\?.*)?`,
  };
}

function chunks<T>(all: readonly T[]): T[][] {
  return Array.from(
    { length: Math.ceil(all.length / PORTS_MAX) },
    (_, at) => all.slice(at * PORTS_MAX, (at + 1) * PORTS_MAX),
  );
}

/** `shop/db 5432/TCP: 120 connections, 2026-11-22T10:00:00Z to 2026-11-22T11:00:00Z, such as ...` */
function evidenceOf({ peers }: RecommendedRule): string[] {
  const all = peers.flatMap(({ name, ports }) =>
    [...ports.values()].map((one) => {
      const { protocol, port, connections, firstMs, lastMs, example } = one;
      const isIcmp = protocol === ICMP || protocol === ICMPV6;
      const where = isIcmp ? `${protocolName(protocol)} type ${port}` : `${port}/${protocolName(protocol)}`;
      const times = Number.isFinite(firstMs) ? `, ${timeText(firstMs)} to ${timeText(lastMs)}` : "";
      const text = `${name} ${where}: ${connections} connection${
        connections === 1 ? "" : "s"
      }${times}, such as ${example}`;
      return { connections, text };
    })
  ).sort((a, b) => b.connections - a.connections);
  const shown = all.slice(0, EVIDENCE_SHOWN).map(({ text }) => text);
  return all.length > shown.length ? [...shown, `and ${all.length - shown.length} more`] : shown;
}

function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "?" : date.toISOString().replace(/\.\d+Z$/, "Z");
}

function comment(text: string): string {
  return `  # ${plainText(text)}\n`;
}

/** Nothing that ends a line, or that a terminal obeys. */
function plainText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "?").slice(0, 400);
}

function item(rule: object): string {
  return indented(stringify([rule], { lineWidth: 0 }));
}

function indented(text: string): string {
  return text.replace(/^(?=.)/gm, "  ");
}
