/**
 * Reading of peers that both vocabularies share: entities and CIDRs.
 * @module
 */
import {
  LABEL_CLUSTER,
  Prefix,
  type Requirement,
  Selector,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
} from "@weir/common";
import { describe, type ManifestNode, type ManifestReader } from "@weir/common/manifest";
import { readSelector } from "./label_syntax.ts";
import { groupNamed, SOURCE_CIDR_GROUP } from "./peer_source.ts";
import { cidrPeer, labelPeer, type Peer, PEER_ANY, type PeerSelector, sourcePeer } from "./policy.ts";

/** Most peers in one list, and most exceptions of one CIDR. */
export const PEERS_MAX = 2000;
export const EXCEPTIONS_MAX = 1000;

/** A name of Kubernetes objects. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** Reserved labels by entity; `all`, `none` and the cluster's own label are added where they are read. */
const ENTITY_RESERVED: Readonly<Record<string, readonly string[]>> = {
  "all": [],
  "none": [],
  "world": ["world", "world-ipv4", "world-ipv6"],
  "world-ipv4": ["world-ipv4"],
  "world-ipv6": ["world-ipv6"],
  "cluster": ["host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"],
  "host": ["host"],
  "remote-node": ["remote-node"],
  "kube-apiserver": ["kube-apiserver"],
  "ingress": ["ingress"],
  "init": ["init"],
  "health": ["health"],
  "unmanaged": ["unmanaged"],
  // Beside Cilium's: destinations that are many machines. No other entity but `all` means them, nor does a CIDR.
  "multicast": ["multicast"],
  "broadcast": ["broadcast"],
};

/** What an entity stands for; undefined for a name that is none. @param cluster name of the local cluster */
function entitySelectors(entity: string, cluster: string): PeerSelector[] | undefined {
  if (!Object.hasOwn(ENTITY_RESERVED, entity)) return undefined;
  if (entity === "all") return [PEER_ANY];
  const selectors = ENTITY_RESERVED[entity].map((name) =>
    labelPeer(Selector.of([{ source: SOURCE_RESERVED, key: name, operator: "In", values: [""] }]))
  );
  if (entity === "cluster") selectors.push(labelPeer(Selector.of([inCluster(cluster)])));
  return selectors;
}

/** Being in the local cluster. */
export function inCluster(cluster: string): Requirement {
  return { source: SOURCE_KUBERNETES, key: LABEL_CLUSTER, operator: "In", values: [cluster] };
}

/** Reads a list of entities. */
export function readEntities(reader: ManifestReader, node: ManifestNode, cluster: string): Peer[] {
  return (reader.list(node, PEERS_MAX) ?? []).flatMap((item) => {
    const name = reader.string(item, 64);
    if (name === undefined) return [];
    const selectors = entitySelectors(name, cluster);
    if (!selectors) {
      reader.invalid(
        item,
        `${JSON.stringify(name)} is no entity, want one of ${Object.keys(ENTITY_RESERVED).join(", ")}`,
      );
      return [];
    }
    return selectors.map((selector) => ({ path: item.path, line: item.line, selector }));
  });
}

/** Reads a list of CIDRs and bare addresses. */
export function readCidrs(reader: ManifestReader, node: ManifestNode): Peer[] {
  return (reader.list(node, PEERS_MAX) ?? []).flatMap((item) => {
    const prefix = readPrefix(reader, item, true);
    return prefix ? [{ path: item.path, line: item.line, selector: cidrPeer(prefix) }] : [];
  });
}

/** Reads `{cidr, except}`. */
export function readCidrBlock(reader: ManifestReader, node: ManifestNode): PeerSelector | undefined {
  const before = reader.faults.faults.length;
  const fields = reader.map(node, ["cidr", "except"]);
  if (!fields) return undefined;
  const cidrNode = fields.get("cidr");
  if (!cidrNode) return reader.invalid(node, "cidr is missing");
  const prefix = readPrefix(reader, cidrNode, false);
  const except: Prefix[] = [];
  for (const item of reader.list(fields.get("except"), EXCEPTIONS_MAX) ?? []) {
    const exception = readPrefix(reader, item, false);
    if (!exception || !prefix) continue;
    if (prefix.contains(exception)) except.push(exception);
    else reader.invalid(item, `${exception} does not lie inside ${prefix}`);
  }
  return prefix && reader.faults.faults.length === before ? cidrPeer(prefix, except) : undefined;
}

/** Reads `{cidr | cidrGroupRef | cidrGroupSelector, except}`, as Cilium has it. */
export function readCidrSet(reader: ManifestReader, node: ManifestNode): PeerSelector | undefined {
  const given = ["cidr", "cidrGroupRef", "cidrGroupSelector"].filter((key) => node.fields.has(key));
  if (given.length > 1) {
    return reader.invalid(node, "want exactly one of cidr, cidrGroupRef and cidrGroupSelector");
  }
  if (given.length === 0 || given[0] === "cidr") return readCidrBlock(reader, node);
  const before = reader.faults.faults.length;
  const fields = reader.map(node, [given[0], "except"]);
  const group = fields?.get(given[0]);
  if (!fields || !group) return reader.invalid(node, `${given[0]} is empty`);
  const selector = given[0] === "cidrGroupRef" ? readGroupName(reader, group) : readSelector(reader, group, {
    sources: false,
    defaultSource: SOURCE_CIDR_GROUP,
  });
  // What the group holds, and so whether an exception lies inside, is known later.
  const except = (reader.list(fields.get("except"), EXCEPTIONS_MAX) ?? []).flatMap((item) =>
    readPrefix(reader, item, false) ?? []
  );
  return selector && reader.faults.faults.length === before
    ? sourcePeer("group", selector, except)
    : undefined;
}

function readGroupName(reader: ManifestReader, node: ManifestNode): Selector | undefined {
  const name = reader.string(node, 253);
  if (name === undefined) return undefined;
  return OBJECT_NAME.test(name)
    ? groupNamed(name)
    : reader.invalid(node, `${JSON.stringify(name)} is no name of a CiliumCIDRGroup`);
}

/** Reads one prefix. @param bare an address is one, too */
export function readPrefix(reader: ManifestReader, node: ManifestNode, bare: boolean): Prefix | undefined {
  const text = reader.string(node, 64);
  if (text === undefined) return undefined;
  const prefix = Prefix.tryParse(text, { bare });
  return prefix ?? reader.invalid(
    node,
    `${describe(node)}, want ${bare ? "an IP address or " : ""}a prefix such as 10.0.0.0/8 or 2001:db8::/32`,
  );
}
