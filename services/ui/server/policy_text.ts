/** What a policy's text says, for the drawing of it: its rules with their lines, peers and ports. Pure; it judges nothing. @module */
import {
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node as YamlNode,
  parseDocument,
  type YAMLMap,
} from "yaml";
import type { PolicyGraph, PolicyGraphRule } from "../api.ts";
import { asList, type Fields, selectorText } from "./selector_text.ts";
import { podsText, tieredRule } from "./tiered_policy_text.ts";

/** Rules and peers that are drawn. */
const RULES_MAX = 500, PEERS_MAX = 200;

type Rule = Omit<PolicyGraphRule, "allowed" | "denied">;
type Text = Omit<PolicyGraph, "rules"> & { readonly rules: readonly Rule[] };

const SECTIONS: readonly (readonly [key: string, direction: "ingress" | "egress", deny: boolean])[] = [
  ["ingress", "ingress", false],
  ["ingressDeny", "ingress", true],
  ["egress", "egress", false],
  ["egressDeny", "egress", true],
];

/** Reads one document. What cannot be read gives no rules. */
export function policyText(manifest: string): Text {
  const lines = new LineCounter();
  const document = parseDocument(manifest, { lineCounter: lines });
  const root = document.contents;
  const lineOf = (node: YamlNode) => node.range ? lines.linePos(node.range[0]).line : 1;
  const rules: Rule[] = [];
  let subject = "", denyIn = false, denyOut = false;
  const readSpec = (spec: YAMLMap, path: string) => {
    const selector = spec.get("endpointSelector") ?? spec.get("podSelector");
    const whom = json(spec.get("subject")), isTiered = whom !== undefined;
    subject ||= isTiered ? podsText(whom).join() : selectorText(json(selector), "every endpoint");
    const isDefaultDeny = json(spec.get("enableDefaultDeny")) as Record<string, boolean> | undefined;
    const types = json(spec.get("policyTypes")) as string[] | undefined;
    for (const [key, direction, deny] of SECTIONS) {
      const section = spec.get(key, true) as unknown;
      const isNamed = types?.some((type) => type.toLowerCase() === direction) ?? false;
      if (!isTiered && isDefaultDeny?.[direction] !== false && (section !== undefined || isNamed)) {
        if (direction === "ingress") denyIn = true;
        else denyOut = true;
      }
      if (!isSeq(section)) continue;
      section.items.forEach((item, index) => {
        if (!isMap(item) || rules.length >= RULES_MAX) return;
        const fields = item.toJSON() as Fields;
        rules.push({
          direction,
          deny,
          path: `${path}.${key}[${index}]`,
          line: lineOf(item),
          ...bounded(isTiered ? tieredRule(fields) : peersAndPorts(fields, direction)),
        });
      });
    }
  };
  if (isMap(root)) {
    const spec = root.get("spec"), specs = root.get("specs");
    if (isMap(spec)) readSpec(spec, "spec");
    if (isSeq(specs)) specs.items.forEach((one, i) => isMap(one) && readSpec(one, `specs[${i}]`));
  }
  return { subject: subject || "nobody", defaultDenyIngress: denyIn, defaultDenyEgress: denyOut, rules };
}

function json(node: unknown): unknown {
  return isMap(node) || isSeq(node) ? node.toJSON() : isScalar(node) ? node.value : node;
}

function peersAndPorts(
  rule: Record<string, unknown>,
  direction: "ingress" | "egress",
): { peers: string[]; ports: string[] } {
  const to = direction === "ingress" ? "from" : "to", peers: string[] = [];
  for (const [key, value] of Object.entries(rule)) {
    if (!key.startsWith(to) || key === "toPorts") continue;
    const what = key.slice(to.length);
    for (const one of Array.isArray(value) ? value : [value]) peers.push(peerText(what, one));
  }
  const ports: string[] = [];
  for (const list of asList(rule.toPorts)) {
    for (const port of asList((list as Fields)?.ports)) ports.push(portText(port));
  }
  for (const port of asList(rule.ports)) ports.push(portText(port));
  for (const icmp of asList(rule.icmps)) {
    for (const { type, family } of asList((icmp as Fields)?.fields) as Fields[]) {
      ports.push(`ICMP ${family ?? ""} type ${type}`);
    }
  }
  return { peers, ports };
}

/** As much of a rule as is drawn. */
function bounded<Drawn extends Pick<Rule, "peers" | "ports">>(rule: Drawn): Drawn {
  const { peers, ports } = rule;
  return {
    ...rule,
    peers: peers.length === 0 ? ["everyone"] : peers.slice(0, PEERS_MAX),
    ports: ports.length === 0 ? ["any port"] : ports.slice(0, PEERS_MAX),
  };
}

/** @param what "Endpoints", "CIDR", "CIDRSet", "Entities"; "" of a Kubernetes NetworkPolicy */
function peerText(what: string, peer: unknown): string {
  if (typeof peer === "string") return what === "Entities" ? `entity ${peer}` : peer;
  if (typeof peer !== "object" || peer === null) return `${peer}`;
  const fields = peer as Fields;
  if (typeof fields.cidr === "string") return cidrText(fields.cidr, fields.except);
  if (typeof fields.ipBlock === "object" && fields.ipBlock !== null) {
    const { cidr, except } = fields.ipBlock as Fields;
    return cidrText(`${cidr}`, except);
  }
  if ("podSelector" in fields || "namespaceSelector" in fields) {
    const pods = selectorText(fields.podSelector, "every pod");
    if (!("namespaceSelector" in fields)) return pods;
    return `${pods} in ${selectorText(fields.namespaceSelector, "every namespace")}`;
  }
  return selectorText(fields, "every endpoint");
}

function cidrText(cidr: string, except: unknown): string {
  const but = asList(except);
  return but.length === 0 ? cidr : `${cidr} except ${but.join(", ")}`;
}

function portText(port: unknown): string {
  const { port: number, endPort, protocol } = (port ?? {}) as Fields;
  const range = endPort === undefined ? `${number ?? "any port"}` : `${number}-${endPort}`;
  return protocol === undefined || protocol === "ANY" ? range : `${range}/${protocol}`;
}
