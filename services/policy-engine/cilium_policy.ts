/**
 * CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (v2) as rules.
 * @module
 */
import {
  formatLabel,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LabelError,
  makeLabel,
  type Requirement,
  Selector,
  SOURCE_KUBERNETES,
  SOURCE_NODE,
  SOURCE_RESERVED,
  SOURCE_UNSPEC,
} from "@weir/common";
import { readSelector } from "./label_syntax.ts";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { readFqdns } from "./name_syntax.ts";
import { inCluster, PEERS_MAX, readCidrs, readCidrSet, readEntities } from "./peer_syntax.ts";
import {
  type Direction,
  DIRECTIONS,
  labelPeer,
  type Peer,
  PEER_ANY,
  type PolicyRule,
  PORT_MATCH_ANY,
  type RuleDirection,
  type RuleSection,
} from "./policy.ts";
import { readIcmps, readToPorts } from "./port_syntax.ts";
import { readServices } from "./service_syntax.ts";

/** Most `specs` in one policy, and rules in one list of a spec. */
export const SPECS_MAX = 1000;
export const SECTIONS_MAX = 5000;

/** What reading a policy needs to know beside its text. */
export interface PolicyContext {
  readonly namespace: string;
  /** True for CiliumClusterwideNetworkPolicy. */
  readonly clusterwide: boolean;
  /** Name of the local cluster. */
  readonly cluster: string;
  readonly warn: (path: string, detail: string) => void;
}

const NO_HOST_RULES = "not possible in a policy for hosts: their connections do not go to the L7 proxy";

const SPEC_FIELDS = [
  "endpointSelector",
  "nodeSelector",
  "ingress",
  "ingressDeny",
  "egress",
  "egressDeny",
  "enableDefaultDeny",
  "labels",
  "description",
];
const SPEC_UNSUPPORTED = { log: "not supported yet" };

const REMOVED = "not supported: Cilium removed it";
const PEER_UNSUPPORTED: Readonly<Record<Direction, Readonly<Record<string, string>>>> = {
  INGRESS: {
    fromRequires: REMOVED,
    fromGroups: "not supported yet",
    fromNodes: "not supported yet: it needs identities of nodes by label",
  },
  EGRESS: {
    toRequires: REMOVED,
    toGroups: "not supported yet",
    toNodes: "not supported yet: it needs identities of nodes by label",
  },
};
const NO_DENIED_NAMES = "not possible in a deny: a name is known only once it was asked for";

/** Reads `spec` and `specs` of a document. */
export function readCiliumRules(
  reader: ManifestReader,
  document: ManifestNode,
  context: PolicyContext,
): PolicyRule[] {
  const specs: ManifestNode[] = [];
  const single = document.fields.get("spec")?.value;
  if (single && single.kind !== "null") specs.push(single);
  const several = document.fields.get("specs")?.value;
  if (several && several.kind !== "null") specs.push(...reader.list(several, SPECS_MAX) ?? []);
  if (specs.length === 0) reader.invalid(several ?? document, "no rule, want spec or specs");
  return specs.flatMap((spec) => readSpec(reader, spec, context) ?? []);
}

function readSpec(
  reader: ManifestReader,
  spec: ManifestNode,
  context: PolicyContext,
): PolicyRule | undefined {
  const fields = reader.map(
    spec,
    context.clusterwide ? SPEC_FIELDS : SPEC_FIELDS.filter((field) => field !== "nodeSelector"),
    context.clusterwide ? SPEC_UNSUPPORTED : {
      ...SPEC_UNSUPPORTED,
      nodeSelector: "only possible in a CiliumClusterwideNetworkPolicy",
    },
  );
  if (!fields) return undefined;
  const subjectNode = fields.get("endpointSelector"), hostsNode = fields.get("nodeSelector");
  if (!subjectNode && !hostsNode && !spec.fields.has("nodeSelector")) {
    const place = spec.fields.has("endpointSelector") ? reader.keyPlace(spec, "endpointSelector") : spec;
    reader.invalid(place, "endpointSelector is missing, want a selector ({} for every endpoint)");
  }
  if (subjectNode && hostsNode) {
    reader.invalid(hostsNode, "nodeSelector cannot stand beside endpointSelector, want one of them");
  }
  const subject = hostsNode
    ? readHosts(reader, hostsNode)
    : subjectNode && readSubject(reader, subjectNode, context);
  const subjects = {
    anyNamespace: subject?.mentions("init", SOURCE_RESERVED) ?? false,
    isForHosts: hostsNode !== undefined,
  };
  const sections = {
    INGRESS: readSections(reader, fields, "INGRESS", context, subjects),
    EGRESS: readSections(reader, fields, "EGRESS", context, subjects),
  };
  const lists = ["ingress", "ingressDeny", "egress", "egressDeny"].map((name) => fields.get(name));
  if (!lists.some((list) => list?.kind === "list" && list.items.length > 0)) {
    reader.invalid(spec, "no rule in it, want at least one of ingress, ingressDeny, egress, egressDeny");
  }
  const asked = readDefaultDeny(reader, fields.get("enableDefaultDeny"));
  const directions = Object.fromEntries(DIRECTIONS.map((direction) => {
    const name = direction === "INGRESS" ? "ingress" : "egress";
    const node = fields.get(name) ?? fields.get(`${name}Deny`) ?? fields.get("enableDefaultDeny") ?? spec;
    const has = sections[direction].length > 0;
    if (asked[direction] && !has) {
      context.warn(
        `${spec.path}.enableDefaultDeny.${name}`,
        `has no effect: the rule has no ${name} or ${name}Deny`,
      );
    }
    const made: RuleDirection = {
      applies: has,
      defaultDeny: has && (asked[direction] ?? true),
      path: node.path,
      line: node.line,
      sections: sections[direction],
    };
    return [direction, made];
  })) as Record<Direction, RuleDirection>;
  const description = reader.string(fields.get("description"), 4096) ?? "";
  const labels = readRuleLabels(reader, fields.get("labels"));
  if (!subject) return undefined;
  const rule = { path: spec.path, line: spec.line, subject, description, labels, directions };
  return hostsNode ? { ...rule, isForHosts: true } : rule;
}

/** The hosts of nodes by the labels of these: Kubernetes' are among them, with the source of all. */
function readHosts(reader: ManifestReader, node: ManifestNode): Selector | undefined {
  const selector = readSelector(reader, node, { sources: true });
  if (!selector) return undefined;
  return Selector.of([
    ...selector.requirements.map((requirement) => ({
      ...requirement,
      source: requirement.source === SOURCE_KUBERNETES ? SOURCE_NODE : requirement.source,
    })),
    { source: SOURCE_RESERVED, key: "host", operator: "In", values: [""] },
  ]);
}

function readSubject(
  reader: ManifestReader,
  node: ManifestNode,
  context: PolicyContext,
): Selector | undefined {
  const selector = readSelector(reader, node, { sources: true });
  if (!selector || context.clusterwide) return selector;
  const own = selector.requirements.filter((requirement) => requirement.key !== LABEL_NAMESPACE);
  if (own.length < selector.requirements.length) {
    const named = selector.requirements.find((requirement) => requirement.key === LABEL_NAMESPACE)!;
    if (named.operator !== "In" || named.values.join() !== context.namespace) {
      context.warn(
        node.path,
        `a policy selects in its own namespace only: the namespace in the selector is read as ${context.namespace}`,
      );
    }
  }
  return Selector.of([...own, inNamespace(context.namespace)]);
}

function inNamespace(namespace: string): Requirement {
  return { source: SOURCE_KUBERNETES, key: LABEL_NAMESPACE, operator: "In", values: [namespace] };
}

function readSections(
  reader: ManifestReader,
  fields: ReadonlyMap<string, ManifestNode>,
  direction: Direction,
  context: PolicyContext,
  subjects: Pick<SectionOptions, "anyNamespace" | "isForHosts">,
): RuleSection[] {
  const name = direction === "INGRESS" ? "ingress" : "egress";
  const sections: RuleSection[] = [];
  for (const [key, deny] of [[name, false], [`${name}Deny`, true]] as const) {
    for (const node of reader.list(fields.get(key), SECTIONS_MAX) ?? []) {
      const section = readSection(reader, node, { direction, deny, context, ...subjects });
      if (section) sections.push(section);
    }
  }
  return sections;
}

interface SectionOptions {
  readonly direction: Direction;
  readonly deny: boolean;
  readonly context: PolicyContext;
  /** Peers need no namespace label: the subject may be an endpoint whose labels are not known yet. */
  readonly anyNamespace: boolean;
  /** The subject is nodes themselves. */
  readonly isForHosts: boolean;
}

function readSection(
  reader: ManifestReader,
  node: ManifestNode,
  options: SectionOptions,
): RuleSection | undefined {
  const { direction, deny, context } = options;
  const word = direction === "INGRESS" ? "from" : "to";
  const peerFields = [`${word}Endpoints`, `${word}Entities`, `${word}CIDR`, `${word}CIDRSet`];
  if (word === "to") peerFields.push("toServices");
  if (word === "to" && !deny && !options.isForHosts) peerFields.push("toFQDNs");
  const known = [...peerFields, "toPorts", "icmps"];
  if (!deny) known.push("authentication");
  const fields = reader.map(node, known, {
    ...PEER_UNSUPPORTED[direction],
    ...word === "to" && deny ? { toFQDNs: NO_DENIED_NAMES } : {},
    ...options.isForHosts
      ? { toFQDNs: "not supported yet for hosts: nobody reads their questions to DNS" }
      : {},
  });
  if (!fields) return undefined;
  readAuthentication(reader, fields.get("authentication"));
  const given = peerFields.filter((field) => fields.has(field));
  if (given.length > 1) {
    reader.invalid(node, `${given.join(" and ")} cannot stand in one rule, want one kind of peer per rule`);
  }
  const peers: Peer[] = [];
  for (const field of given) {
    peers.push(...readPeers(reader, field.slice(word.length), fields.get(field)!, options));
  }
  const portsNode = fields.get("toPorts");
  const hasPorts = portsNode !== undefined && !(portsNode.kind === "list" && portsNode.items.length === 0);
  const icmpsNode = fields.get("icmps");
  const hasIcmps = icmpsNode !== undefined && !(icmpsNode.kind === "list" && icmpsNode.items.length === 0);
  if (hasPorts && hasIcmps) {
    reader.invalid(icmpsNode, "icmps cannot stand beside toPorts, want a rule of its own");
  }
  const ports = hasPorts
    ? readToPorts(reader, portsNode, { direction, deny, namespace: context.namespace, warn: context.warn })
    : hasIcmps
    ? readIcmps(reader, icmpsNode)
    : [PORT_MATCH_ANY];
  if (options.isForHosts && portsNode && ports.some(({ rules }) => rules !== undefined)) {
    reader.unsupported(portsNode, "rules", NO_HOST_RULES);
  }
  // Ports without any peer field are for every peer; a rule with neither matches nothing and only closes the direction.
  if (given.length === 0 && (hasPorts || hasIcmps)) {
    peers.push({ path: node.path, line: node.line, selector: PEER_ANY });
  }
  return { path: node.path, line: node.line, deny, peers, ports };
}

function readPeers(
  reader: ManifestReader,
  kind: string,
  node: ManifestNode,
  options: SectionOptions,
): Peer[] {
  const { cluster } = options.context;
  if (kind === "Entities") return readEntities(reader, node, cluster);
  if (kind === "CIDR") return readCidrs(reader, node);
  if (kind === "Services") return readServices(reader, node, options.context.warn);
  if (kind === "FQDNs") return readFqdns(reader, node, options.context.warn);
  return (reader.list(node, PEERS_MAX) ?? []).flatMap((item) => {
    if (kind === "CIDRSet") {
      const selector = readCidrSet(reader, item);
      return selector ? [{ path: item.path, line: item.line, selector }] : [];
    }
    const selector = readSelector(reader, item, { sources: true });
    if (!selector) return [];
    return [{ path: item.path, line: item.line, selector: labelPeer(confine(selector, options)) }];
  });
}

/** Adds what a peer selector leaves unsaid: the policy's namespace and the local cluster. */
function confine(selector: Selector, { context, anyNamespace }: SectionOptions): Selector {
  // Reserved identities have neither namespace nor cluster.
  if (selector.requirements.some((requirement) => requirement.source === SOURCE_RESERVED)) return selector;
  const added: Requirement[] = [];
  const namesNamespace = selector.mentions(LABEL_NAMESPACE) ||
    selector.mentions((key) => key.startsWith(LABEL_NAMESPACE_META_PREFIX));
  if (!namesNamespace) {
    if (!context.clusterwide) added.push(inNamespace(context.namespace));
    else if (!anyNamespace) {
      added.push({ source: SOURCE_KUBERNETES, key: LABEL_NAMESPACE, operator: "Exists", values: [] });
    }
  }
  if (!selector.mentions(LABEL_CLUSTER)) added.push(inCluster(context.cluster));
  return selector.and(added);
}

function readAuthentication(reader: ManifestReader, node: ManifestNode | undefined): void {
  const mode = node && reader.map(node, ["mode"])?.get("mode");
  if (!node) return;
  if (!mode) return void reader.invalid(node, "mode is missing");
  const text = reader.string(mode, 64);
  if (text === undefined || text === "disabled") return;
  if (text === "required" || text === "test-always-fail") {
    reader.unsupported(mode, `authentication mode ${text}`, "not supported yet: only disabled is");
  } else reader.invalid(mode, `${JSON.stringify(text)} is no authentication mode, want disabled`);
}

function readDefaultDeny(
  reader: ManifestReader,
  node: ManifestNode | undefined,
): Partial<Record<Direction, boolean>> {
  const fields = node && reader.map(node, ["ingress", "egress"]);
  return { INGRESS: reader.boolean(fields?.get("ingress")), EGRESS: reader.boolean(fields?.get("egress")) };
}

function readRuleLabels(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  return (reader.list(node, 64) ?? []).flatMap((item) => {
    const fields = reader.map(item, ["key", "value", "source"]);
    if (!fields) return [];
    const key = reader.string(fields.get("key"), 512);
    const value = reader.string(fields.get("value"), 512) ?? "";
    const source = reader.string(fields.get("source"), 63) ?? SOURCE_UNSPEC;
    if (key === undefined) return reader.invalid(item, "key is missing") ?? [];
    try {
      return [formatLabel(makeLabel(source, key, value))];
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
      return reader.invalid(item, error.message) ?? [];
    }
  });
}
