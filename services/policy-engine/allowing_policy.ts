/**
 * A policy that allows one connection on one side where it is denied by default, as a manifest that can be applied as it is. It
 * closes nothing: the side is closed already.
 * @module
 */
import {
  type Label,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  protocolName,
  SOURCE_CIDR,
  SOURCE_NODE,
  SOURCE_RESERVED,
} from "@weir/common";
import { stringify } from "yaml";
import type { Decision } from "./decision.ts";
import { isHost, isOutside, type PeerIdentity, type Policy } from "./policy.ts";

/** Entities by the reserved label that they stand for; who has no entry here has no name in a manifest. */
const ENTITIES: Readonly<Record<string, string>> = {
  "host": "host",
  "remote-node": "remote-node",
  "kube-apiserver": "kube-apiserver",
  "ingress": "ingress",
  "health": "health",
  "init": "init",
  "unmanaged": "unmanaged",
  "world": "world",
  "world-ipv4": "world",
  "world-ipv6": "world",
  "multicast": "multicast",
  "broadcast": "broadcast",
};

/**
 * @param closing A policy that closes the side: the new one is of its namespace, or of the whole cluster as it is.
 * @returns the manifest; empty where the remote end has no words in a manifest
 */
export function allowingPolicy(
  { pair, query, direction, words }: Decision,
  closing: Policy,
): string {
  const word = direction === "INGRESS" ? "from" : "to";
  const namespace = closing.namespace || namespaceOf(pair.subject);
  const clusterwide = closing.namespace === "" && namespace === "";
  const peer = peerOf(
    pair.remote,
    word,
    clusterwide ? "" : namespace || "default",
    addressOf(query, direction),
  );
  const forHosts = isHost(pair.subject.labels);
  if (peer === undefined || (forHosts && "toFQDNs" in peer)) return "";
  const port = String(query.port), protocol = protocolName(query.protocol);
  const isIcmp = query.protocol === 1 || query.protocol === 58;
  const family = query.protocol === 1 ? "IPv4" : "IPv6";
  const rule = isIcmp
    ? { ...peer, icmps: [{ fields: [{ type: query.port, family }] }] }
    : { ...peer, toPorts: [{ ports: [{ port, protocol }] }] };
  const name = `allow-${words.port}-${word}-${shortName(pair.remote)}`.toLowerCase().replaceAll(
    /[^a-z0-9.-]+/g,
    "-",
  )
    .slice(0, 63).replace(/[^a-z0-9]+$/, "");
  return stringify({
    apiVersion: "cilium.io/v2",
    kind: clusterwide ? "CiliumClusterwideNetworkPolicy" : "CiliumNetworkPolicy",
    metadata: clusterwide ? { name } : { name, namespace: namespace || "default" },
    spec: {
      ...(forHosts
        ? { nodeSelector: { matchLabels: nodeLabelsOf(pair.subject) } }
        : { endpointSelector: { matchLabels: selectorOf(pair.subject) } }),
      [words.direction]: [rule],
    },
  });
}

/** The peer part of a rule: who has a name by its labels, its entity or its address. */
function peerOf(
  remote: PeerIdentity,
  word: "from" | "to",
  namespace: string,
  address: string | undefined,
): Record<string, unknown> | undefined {
  if (remote.askedName !== undefined) return { toFQDNs: [{ matchName: remote.askedName }] };
  if (isOutside(remote)) return { [`${word}CIDR`]: [remote.prefixes[0].text] };
  const reserved = [...remote.labels].find(({ source }) => source === SOURCE_RESERVED);
  if (reserved !== undefined) {
    const entity = ENTITIES[reserved.key];
    if (entity === "world" && address !== undefined) return { [`${word}CIDR`]: [address] };
    return entity === undefined ? undefined : { [`${word}Entities`]: [entity] };
  }
  const labels = selectorOf(remote);
  const elsewhere = namespaceOf(remote);
  if (elsewhere !== namespace && elsewhere !== "") labels[`k8s:${LABEL_NAMESPACE}`] = elsewhere;
  return { [`${word}Endpoints`]: [{ matchLabels: labels }] };
}

/** Labels of a node, as a nodeSelector has them. */
function nodeLabelsOf({ labels }: PeerIdentity): Record<string, string> {
  const own = [...labels].filter(({ source }) => source === SOURCE_NODE);
  return Object.fromEntries(own.map(({ key, value }) => [key, value]));
}

/** Labels that people gave, as a selector has them. */
function selectorOf(identity: PeerIdentity): Record<string, string> {
  const own = [...identity.labels].filter(({ source, key }) =>
    source !== SOURCE_CIDR && key !== LABEL_CLUSTER && key !== LABEL_NAMESPACE &&
    !key.startsWith(LABEL_NAMESPACE_META_PREFIX) &&
    !key.startsWith("io.cilium.")
  );
  return Object.fromEntries(own.map((label) => [keyOf(label), label.value]));
}

/** With its source where that is not Kubernetes: a key without one means any source. */
function keyOf({ source, key }: Label): string {
  return source === "k8s" ? key : `${source}:${key}`;
}

function namespaceOf(identity: PeerIdentity): string {
  return identity.labels.withKey(LABEL_NAMESPACE)[0]?.value ?? "";
}

function shortName(identity: PeerIdentity): string {
  if (identity.askedName !== undefined) return identity.askedName;
  if (isOutside(identity)) return identity.prefixes[0].text;
  const label = [...identity.labels].find(({ source, key }) =>
    source !== SOURCE_CIDR && !key.startsWith("io.")
  );
  return label === undefined ? "peer" : label.value || label.key;
}

/** The address that was asked about; only the destination's is known. */
function addressOf(query: Decision["query"], direction: Decision["direction"]): string | undefined {
  return direction === "EGRESS" ? query.toAddress : undefined;
}
