/**
 * The slow, obvious evaluator for policies of tiers: their rules one after the other, one connection at a time.
 * @module
 */
import {
  inCidr,
  type Manifest,
  matchesSelector,
  meansName,
  type OracleEnd,
  type OracleQuery,
} from "./oracle_matching.ts";

const NAMESPACE = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS = "k8s:io.cilium.k8s.namespace.labels.";
const CLUSTER = "k8s:io.cilium.k8s.policy.cluster";

/** Whether it is a policy of a tier. */
export function isTieredManifest({ kind }: Manifest): boolean {
  return ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"].includes(kind);
}

/** What the rules of a tier say: undefined when none decides, or one passes. */
export function tierDecides(
  manifests: readonly Manifest[],
  tier: "Admin" | "Baseline",
  query: OracleQuery,
): boolean | undefined {
  const hits: { place: number; action: string }[] = [];
  for (const { kind, spec } of manifests) {
    const own = kind === "ClusterNetworkPolicy"
      ? spec.tier
      : kind === "AdminNetworkPolicy"
      ? "Admin"
      : "Baseline";
    if (own !== tier || query.subject.outside !== undefined || !meansPods(spec.subject, query.subject)) {
      continue;
    }
    for (const [index, rule] of (spec[query.direction] ?? []).entries()) {
      const peers: Manifest[] = rule[query.direction === "ingress" ? "from" : "to"];
      const ports: Manifest[] | undefined = rule.ports ?? rule.protocols;
      if (!peers.some((peer) => meansPeer(peer, query.remote))) continue;
      if (ports !== undefined && !ports.some((port) => meansPort(port, query))) continue;
      hits.push({
        place: (spec.priority ?? 0) * 1000 + index,
        action: rule.action.replace("Accept", "Allow"),
      });
    }
  }
  const first = Math.min(...hits.map(({ place }) => place));
  const actions = hits.filter(({ place }) => place === first).map(({ action }) => action);
  return actions.includes("Deny") ? false : actions.includes("Allow") ? true : undefined;
}

function meansPods({ namespaces, pods }: Manifest, end: OracleEnd): boolean {
  const { labels } = end;
  if (end.outside !== undefined || labels[`k8s:${NAMESPACE}`] === undefined) return false;
  if (labels[CLUSTER] !== "default") return false;
  const written = namespaces ?? pods.namespaceSelector ?? pods.namespaces;
  const selector = written.namespaceSelector ?? written;
  const ofNamespace = Object.entries(labels).filter(([key]) => key.startsWith(NAMESPACE_LABELS))
    .map(([key, value]) => [`k8s:${key.slice(NAMESPACE_LABELS.length)}`, value]);
  return matchesSelector(selector, Object.fromEntries(ofNamespace)) &&
    (pods === undefined || matchesSelector(pods.podSelector, labels));
}

function meansPeer(peer: Manifest, remote: OracleEnd): boolean {
  if (peer.nodes) return "reserved:host" in remote.labels || "reserved:remote-node" in remote.labels;
  if (peer.networks) {
    return remote.outside !== undefined &&
      peer.networks.some((cidr: string) => inCidr(cidr, remote.outside!));
  }
  if (peer.domainNames) {
    return remote.names?.some((name) =>
      peer.domainNames.some((text: string) =>
        text.startsWith("*.")
          ? meansName({ matchPattern: `*${text}` }, name)
          : meansName({ matchName: text }, name)
      )
    ) ?? false;
  }
  return meansPods(peer, remote);
}

function meansPort(port: Manifest, query: OracleQuery): boolean {
  const { protocol, direction } = query;
  if (protocol === "ICMP") return false;
  const name = port.namedPort ?? port.destinationNamedPort;
  if (name !== undefined) {
    const destination = direction === "ingress" ? query.subject : query.remote;
    return destination.namedPorts.some((named) =>
      named.name === name && named.protocol === protocol && named.port === query.port
    );
  }
  const within = ({ start, end }: Manifest) => start <= query.port && query.port <= end;
  if (port.portNumber) {
    return (port.portNumber.protocol ?? "TCP") === protocol && port.portNumber.port === query.port;
  }
  if (port.portRange) return (port.portRange.protocol ?? "TCP") === protocol && within(port.portRange);
  const of = port[protocol.toLowerCase()]?.destinationPort;
  return of !== undefined && (of.range ? within(of.range) : of.number === query.port);
}
