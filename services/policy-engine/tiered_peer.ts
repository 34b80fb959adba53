/**
 * Reading of subjects and peers as the policies of administrators have them. Pods and namespaces always mean pods of the local cluster that
 * have an address of their own: one in its node's network has the node's identity, which is in no namespace.
 * @module
 */
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  type Requirement,
  Selector,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
} from "@weir/common";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { canonicalName } from "@weir/l7-rules";
import { fqdnName } from "./fqdn_selector.ts";
import { readSelector } from "./label_syntax.ts";
import { compiles } from "./name_syntax.ts";
import { readOneField } from "./one_field.ts";
import { inCluster, readPrefix } from "./peer_syntax.ts";
import { cidrPeer, fqdnPeer, labelPeer, type Peer, type PeerSelector } from "./policy.ts";

/** What reading peers needs to know. */
export interface TieredPeerContext {
  /** Name of the local cluster. */
  readonly cluster: string;
  /** Most items in one list. */
  readonly itemsMax: number;
  /** Peers of egress may be nodes and networks, too. */
  readonly isEgress: boolean;
  /** What becomes of `domainNames`. */
  readonly domains: "allowed" | "refused" | "unknown";
}

/** What v1alpha1 had once and dropped. */
const REMOVED = "not supported: the API removed it";
/** `*.` for any number of labels, then a name of at least two. */
const DOMAIN =
  /^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$/;

/** Reads `subject`; undefined after a fault. */
export function readTieredSubject(
  reader: ManifestReader,
  node: ManifestNode,
  { cluster }: { readonly cluster: string },
): Selector | undefined {
  const [key, value] = readOneField(reader, node, ["namespaces", "pods"]) ?? [];
  if (value === undefined) return undefined;
  return key === "namespaces" ? readNamespaces(reader, value, cluster) : readPods(reader, value, cluster);
}

/** Reads `from` or `to`, which must have an item. */
export function readTieredPeers(
  reader: ManifestReader,
  node: ManifestNode,
  context: TieredPeerContext,
): Peer[] {
  const items = reader.list(node, context.itemsMax) ?? [];
  if (node.kind === "list" && items.length === 0) {
    reader.invalid(node, "an empty list, want at least one peer");
  }
  return items.flatMap((item) => readPeer(reader, item, context));
}

function readPeer(reader: ManifestReader, item: ManifestNode, context: TieredPeerContext): Peer[] {
  const { isEgress, domains, cluster } = context;
  const names = ["namespaces", "pods", ...isEgress ? ["nodes", "networks"] : []];
  if (isEgress && domains !== "unknown") names.push("domainNames");
  const [key, node] = readOneField(reader, item, names) ?? [];
  if (node === undefined) return [];
  const place = { path: node.path, line: node.line };
  if (key === "nodes") return readNodes(reader, node).map((selector) => ({ ...place, selector }));
  if (key === "networks") {
    return itemsOf(reader, node, context).flatMap((network) => {
      const prefix = readPrefix(reader, network, false);
      return prefix ? [{ path: network.path, line: network.line, selector: cidrPeer(prefix) }] : [];
    });
  }
  if (key === "domainNames") return readDomains(reader, node, context);
  const selector = key === "namespaces"
    ? readNamespaces(reader, node, cluster)
    : readPods(reader, node, cluster);
  return selector ? [{ ...place, selector: labelPeer(selector) }] : [];
}

function itemsOf(
  reader: ManifestReader,
  node: ManifestNode,
  { itemsMax }: TieredPeerContext,
): readonly ManifestNode[] {
  const items = reader.list(node, itemsMax) ?? [];
  if (node.kind === "list" && items.length === 0) {
    reader.invalid(node, "an empty list, want at least one item");
  }
  return items;
}

/** A selector of namespaces, or `{namespaceSelector}` as the first releases of v1alpha1 had it. */
function readNamespaces(
  reader: ManifestReader,
  node: ManifestNode,
  cluster: string,
  pods: Selector = Selector.everything,
): Selector | undefined {
  let selectorNode = node;
  if (["namespaceSelector", "sameLabels", "notSameLabels"].some((field) => node.fields.has(field))) {
    const inner = reader.map(node, ["namespaceSelector"], { sameLabels: REMOVED, notSameLabels: REMOVED })
      ?.get("namespaceSelector");
    if (inner === undefined) return undefined;
    selectorNode = inner;
  }
  // Namespace labels are labels of the pod, with a prefix.
  const namespaces = readSelector(reader, selectorNode, {
    sources: false,
    keyPrefix: LABEL_NAMESPACE_META_PREFIX,
    defaultSource: SOURCE_KUBERNETES,
  });
  // A namespace is always asked for: a selector of only NotIn and DoesNotExist must not mean the world or nodes.
  const inNamespace: Requirement = {
    source: SOURCE_KUBERNETES,
    key: LABEL_NAMESPACE,
    operator: "Exists",
    values: [],
  };
  return namespaces && pods.and([
    ...namespaces.requirements,
    inNamespace,
    ...pods.mentions(LABEL_CLUSTER) ? [] : [inCluster(cluster)],
  ]);
}

/** `{namespaceSelector, podSelector}`, or `{namespaces: {namespaceSelector}, podSelector}` as the first releases of v1alpha1 had it. */
function readPods(reader: ManifestReader, node: ManifestNode, cluster: string): Selector | undefined {
  const fields = reader.map(node, ["namespaceSelector", "podSelector", "namespaces"]);
  if (!fields) return undefined;
  const podNode = fields.get("podSelector");
  if (podNode === undefined) return reader.invalid(node, "podSelector is missing ({} for every pod)");
  const namespaces = fields.get("namespaceSelector") ?? fields.get("namespaces");
  if (namespaces === undefined) {
    return reader.invalid(node, "namespaceSelector is missing ({} for every namespace)");
  }
  if (fields.size === 3) {
    return reader.invalid(fields.get("namespaces")!, "namespaces cannot stand beside namespaceSelector");
  }
  const pods = readSelector(reader, podNode, { sources: false });
  return pods && readNamespaces(reader, namespaces, cluster, pods);
}

/** All nodes: those of a label have no identity that tells them apart. */
function readNodes(reader: ManifestReader, node: ManifestNode): PeerSelector[] {
  const selector = readSelector(reader, node, { sources: false });
  if (selector === undefined) return [];
  if (selector.requirements.length > 0) {
    return reader.unsupported(
      node,
      "a selector of nodes by label",
      "not supported yet: it needs identities of nodes by label, {} means all of them",
    ) ?? [];
  }
  return ["host", "remote-node"].map((key) =>
    labelPeer(Selector.of([{ source: SOURCE_RESERVED, key, operator: "Exists", values: [] }]))
  );
}

function readDomains(reader: ManifestReader, node: ManifestNode, context: TieredPeerContext): Peer[] {
  if (context.domains === "refused") {
    return reader.unsupported(
      node,
      "domainNames",
      "only possible in a rule that allows: a name is known only once it was asked for",
    ) ?? [];
  }
  return itemsOf(reader, node, context).flatMap((item) => {
    const text = reader.string(item, 253);
    if (text === undefined) return [];
    if (!DOMAIN.test(text)) {
      return reader.invalid(
        item,
        `${JSON.stringify(text)} is no domain name, want one such as www.example.com or *.example.com`,
      ) ?? [];
    }
    const name = canonicalName(text), isPattern = name.startsWith("*.");
    // Its star stands for any number of labels.
    const given = isPattern
      ? { matchName: "", matchPattern: `*${name}` }
      : { matchName: name, matchPattern: "" };
    if (!compiles(reader, item, () => fqdnName(given))) return [];
    return [{ path: item.path, line: item.line, selector: fqdnPeer(fqdnName(given)) }];
  });
}
