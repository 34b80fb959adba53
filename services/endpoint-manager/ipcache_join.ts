/**
 * The prefixes this node's datapath must know, joined from the cluster's ipcache, the nodes and the CIDRs that
 * policies name. Pods win over nodes, nodes over CIDRs: a CIDR rule never selects a pod or a node.
 * @module
 */
import {
  IDENTITY_HOST,
  IDENTITY_REMOTE_NODE,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  IpAddress,
  Prefix,
} from "@weir/common";
import type { IpcacheUpsert } from "@weir/proto/datapath";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";

/** What the join reads. */
export interface IpcacheSources {
  nodeName: string;
  /** Router addresses of this node, which answer as the host. */
  gateways: readonly string[];
  ipcache: Iterable<IpcacheEntry>;
  nodes: Iterable<Node>;
  cidrs: Iterable<CidrIdentity>;
}

const hostPrefix = (address: string) => Prefix.host(IpAddress.parse(address)).text;

/** Every prefix with its identity and where to send it. A function of its argument. */
export function joinIpcache(sources: IpcacheSources): Map<string, IpcacheUpsert> {
  const joined = new Map<string, IpcacheUpsert>();
  const nodes = [...sources.nodes];
  const self = nodes.find(({ name }) => name === sources.nodeName);
  // Both ends must take the same family: a tunnel packet counts only from the address that is looked for here.
  const onlyV6 = self !== undefined && self.ipv4 === "" && self.ipv6 !== "";
  const put = (prefix: string, identity: number, nodeIpv4 = "", nodeIpv6 = "") =>
    joined.set(prefix, {
      prefix,
      identity,
      nodeIpv4: onlyV6 && nodeIpv6 !== "" ? "" : nodeIpv4,
      nodeIpv6,
    });
  put("0.0.0.0/0", IDENTITY_WORLD_IPV4);
  put("::/0", IDENTITY_WORLD_IPV6);
  for (const cidr of sources.cidrs) put(Prefix.parse(cidr.prefix).text, cidr.identity);
  for (const node of nodes) {
    const identity = node.name === sources.nodeName ? IDENTITY_HOST : IDENTITY_REMOTE_NODE;
    const own = identity === IDENTITY_HOST;
    // In tunnel mode pods reach other nodes through the tunnel; direct routing does not look at the node.
    for (const address of [node.ipv4, node.ipv6]) {
      if (address !== "") put(hostPrefix(address), identity, own ? "" : node.ipv4, own ? "" : node.ipv6);
    }
    // A remote node talks to our pods from its router address too.
    for (const cidr of [node.podCidrV4, node.podCidrV6]) {
      if (cidr === "") continue;
      const gateway = Prefix.parse(cidr).addressAt(1).text;
      put(hostPrefix(gateway), identity, own ? "" : node.ipv4, own ? "" : node.ipv6);
    }
  }
  for (const address of sources.gateways) if (address !== "") put(hostPrefix(address), IDENTITY_HOST);
  for (const entry of sources.ipcache) {
    const own = entry.node === sources.nodeName;
    put(entry.prefix, entry.identity, own ? "" : entry.nodeIpv4, own ? "" : entry.nodeIpv6);
  }
  return joined;
}

/** What changed between two joins, in the order to apply it. */
export function diffIpcache(
  before: ReadonlyMap<string, IpcacheUpsert>,
  after: ReadonlyMap<string, IpcacheUpsert>,
): { upserts: IpcacheUpsert[]; deletes: string[] } {
  const upserts: IpcacheUpsert[] = [];
  for (const [prefix, entry] of after) {
    const old = before.get(prefix);
    if (
      !old || old.identity !== entry.identity || old.nodeIpv4 !== entry.nodeIpv4 ||
      old.nodeIpv6 !== entry.nodeIpv6
    ) upserts.push(entry);
  }
  const deletes = [...before.keys()].filter((prefix) => !after.has(prefix));
  return { upserts, deletes };
}
