/**
 * Kubernetes NetworkPolicy (networking.k8s.io/v1) as rules.
 * @module
 */
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  type Requirement,
  Selector,
  SOURCE_KUBERNETES,
} from "@weir/common";
import { type PolicyContext, SECTIONS_MAX } from "./cilium_policy.ts";
import { readSelector } from "./label_syntax.ts";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { inCluster, PEERS_MAX, readCidrBlock } from "./peer_syntax.ts";
import {
  type Direction,
  DIRECTIONS,
  labelPeer,
  type Peer,
  PEER_ANY,
  type PolicyRule,
  type RuleDirection,
  type RuleSection,
} from "./policy.ts";
import { readKubernetesPorts } from "./port_syntax.ts";

/** Reads `spec` of a document; one rule, or none after a fault. */
export function readKubernetesRules(
  reader: ManifestReader,
  document: ManifestNode,
  context: PolicyContext,
): PolicyRule[] {
  const spec = document.fields.get("spec")?.value;
  if (!spec || spec.kind === "null") return reader.invalid(document, "spec is missing") ?? [];
  const fields = reader.map(spec, ["podSelector", "ingress", "egress", "policyTypes"]);
  if (!fields) return [];
  const podSelector = fields.get("podSelector");
  const pods = podSelector ? readSelector(reader, podSelector, { sources: false }) : Selector.everything;
  const types = readPolicyTypes(reader, fields.get("policyTypes"));
  const sections = {
    INGRESS: readSections(reader, fields.get("ingress"), "from", context),
    EGRESS: readSections(reader, fields.get("egress"), "to", context),
  };
  // Without policyTypes ingress always counts, egress only when there are egress rules.
  const applies: Record<Direction, boolean> = {
    INGRESS: types === undefined || types.has("Ingress"),
    EGRESS: types === undefined ? sections.EGRESS.length > 0 : types.has("Egress"),
  };
  const directions = Object.fromEntries(DIRECTIONS.map((direction) => {
    const name = direction === "INGRESS" ? "ingress" : "egress";
    const node = fields.get(name) ?? fields.get("policyTypes") ?? spec;
    if (!applies[direction] && sections[direction].length > 0) {
      context.warn(
        node.path,
        `has no effect: policyTypes does not name ${direction === "INGRESS" ? "Ingress" : "Egress"}`,
      );
    }
    const made: RuleDirection = {
      applies: applies[direction],
      defaultDeny: applies[direction],
      path: node.path,
      line: node.line,
      sections: applies[direction] ? sections[direction] : [],
    };
    return [direction, made];
  })) as Record<Direction, RuleDirection>;
  if (!pods) return [];
  const subject = pods.and([inNamespace(context.namespace)]);
  return [{ path: spec.path, line: spec.line, subject, description: "", labels: [], directions }];
}

function readPolicyTypes(reader: ManifestReader, node: ManifestNode | undefined): Set<string> | undefined {
  const items = reader.list(node, 2);
  if (!items || items.length === 0) return undefined;
  const types = new Set<string>();
  for (const item of items) {
    const type = reader.string(item, 32);
    if (type === undefined) continue;
    if (type === "Ingress" || type === "Egress") types.add(type);
    else reader.invalid(item, `${JSON.stringify(type)}, want Ingress or Egress`);
  }
  return types;
}

function readSections(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  word: "from" | "to",
  context: PolicyContext,
): RuleSection[] {
  return (reader.list(node, SECTIONS_MAX) ?? []).flatMap((item) => {
    const fields = reader.map(item, [word, "ports"]);
    if (!fields) return [];
    const ports = readKubernetesPorts(reader, fields.get("ports"));
    const peersNode = fields.get(word);
    const list = reader.list(peersNode, PEERS_MAX);
    const peers = !peersNode || list?.length === 0
      ? [{ path: item.path, line: item.line, selector: PEER_ANY }]
      : (list ?? []).flatMap((peer) => readPeer(reader, peer, context) ?? []);
    return [{ path: item.path, line: item.line, deny: false, peers, ports }];
  });
}

function readPeer(reader: ManifestReader, node: ManifestNode, context: PolicyContext): Peer | undefined {
  const fields = reader.map(node, ["podSelector", "namespaceSelector", "ipBlock"]);
  if (!fields) return undefined;
  const place = { path: node.path, line: node.line };
  const ipBlock = fields.get("ipBlock");
  const podSelector = fields.get("podSelector");
  const namespaceSelector = fields.get("namespaceSelector");
  if (ipBlock) {
    if (podSelector || namespaceSelector) {
      return reader.invalid(ipBlock, "ipBlock cannot stand beside podSelector or namespaceSelector");
    }
    const selector = readCidrBlock(reader, ipBlock);
    return selector && { ...place, selector };
  }
  if (!podSelector && !namespaceSelector) {
    return reader.invalid(node, "an empty peer, want podSelector, namespaceSelector or ipBlock");
  }
  const pods = podSelector ? readSelector(reader, podSelector, { sources: false }) : Selector.everything;
  // Namespace labels are labels of the pod, with a prefix.
  const namespaces = namespaceSelector
    ? readSelector(reader, namespaceSelector, {
      sources: false,
      keyPrefix: LABEL_NAMESPACE_META_PREFIX,
      defaultSource: SOURCE_KUBERNETES,
    })
    : undefined;
  if (!pods || (namespaceSelector && !namespaces)) return undefined;
  // A namespace is always asked for: a selector of only NotIn and DoesNotExist must not mean the world.
  const confined: Requirement[] = namespaces
    ? [...namespaces.requirements, {
      source: SOURCE_KUBERNETES,
      key: LABEL_NAMESPACE,
      operator: "Exists",
      values: [],
    }]
    : [inNamespace(context.namespace)];
  const selector = pods.and(confined);
  return {
    ...place,
    selector: labelPeer(
      selector.mentions(LABEL_CLUSTER) ? selector : selector.and([inCluster(context.cluster)]),
    ),
  };
}

function inNamespace(namespace: string): Requirement {
  return { source: SOURCE_KUBERNETES, key: LABEL_NAMESPACE, operator: "In", values: [namespace] };
}
