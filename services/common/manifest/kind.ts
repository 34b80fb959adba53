/**
 * The registry of manifest kinds: what a document may be, and which service takes it. A new kind is one entry here; the
 * service that takes it does not compile until it has a decoder for it.
 * @module
 */

/** Who decodes and keeps objects of a kind. */
export type ManifestTaker = "policy-engine" | "load-balancer" | "lab";

/** One kind of manifest. */
export interface ManifestKind {
  /** Accepted values of `apiVersion`, the one to write first. */
  readonly versions: readonly string[];
  readonly taker: ManifestTaker;
  /** Objects have no namespace. */
  readonly clusterwide?: true;
  /** Objects have names of `a-z`, `0-9` and `-`, at most 63; default also `.`, at most 253. */
  readonly shortNames?: true;
  /** What objects' names begin with in their service: `cnp:NAMESPACE/NAME`. Default `KIND NAMESPACE/NAME`. */
  readonly prefix?: string;
  /** The service that takes it makes its objects itself; nobody writes one. */
  readonly isInternal?: true;
  /** The kind that objects are kept as, where two kinds say the same. */
  readonly keptAs?: string;
}

/** Every kind, in the order in which messages name them. */
export const MANIFEST_KINDS = {
  Namespace: { versions: ["v1"], taker: "lab", clusterwide: true, shortNames: true },
  Pod: { versions: ["v1"], taker: "lab" },
  Service: { versions: ["v1"], taker: "load-balancer" },
  EndpointSlice: { versions: ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"], taker: "load-balancer" },
  Endpoints: { versions: ["v1"], taker: "load-balancer" },
  CiliumLoadBalancerIPPool: {
    versions: ["cilium.io/v2", "cilium.io/v2alpha1"],
    taker: "load-balancer",
    clusterwide: true,
    keptAs: "AddressPool",
  },
  AddressPool: { versions: ["weir.io/v1"], taker: "load-balancer", clusterwide: true },
  CiliumNetworkPolicy: { versions: ["cilium.io/v2"], taker: "policy-engine", prefix: "cnp" },
  CiliumClusterwideNetworkPolicy: {
    versions: ["cilium.io/v2"],
    taker: "policy-engine",
    clusterwide: true,
    prefix: "ccnp",
  },
  NetworkPolicy: { versions: ["networking.k8s.io/v1"], taker: "policy-engine", prefix: "knp" },
  AdminNetworkPolicy: {
    versions: ["policy.networking.k8s.io/v1alpha1"],
    taker: "policy-engine",
    clusterwide: true,
    prefix: "anp",
  },
  BaselineAdminNetworkPolicy: {
    versions: ["policy.networking.k8s.io/v1alpha1"],
    taker: "policy-engine",
    clusterwide: true,
    prefix: "banp",
  },
  ClusterNetworkPolicy: {
    versions: ["policy.networking.k8s.io/v1alpha2"],
    taker: "policy-engine",
    clusterwide: true,
    prefix: "clnp",
  },
  CiliumCIDRGroup: {
    versions: ["cilium.io/v2", "cilium.io/v2alpha1"],
    taker: "policy-engine",
    clusterwide: true,
    prefix: "ccg",
  },
  ServicePeers: { versions: ["weir.io/v1"], taker: "policy-engine", prefix: "svc", isInternal: true },
} as const satisfies Readonly<Record<string, ManifestKind>>;

export type ManifestKindName = keyof typeof MANIFEST_KINDS;

/** Names of the kinds that a service takes. */
export type KindTakenBy<Taker extends ManifestTaker> = {
  [Name in ManifestKindName]: (typeof MANIFEST_KINDS)[Name]["taker"] extends Taker ? Name : never;
}[ManifestKindName];

/** The entry of a kind, or undefined. */
export function findKind(name: string): ManifestKind | undefined {
  return Object.hasOwn(MANIFEST_KINDS, name) ? MANIFEST_KINDS[name as ManifestKindName] : undefined;
}

/** Names of the kinds that people write and a service takes. */
export function kindsTakenBy<Taker extends ManifestTaker>(taker: Taker): readonly KindTakenBy<Taker>[] {
  const names = Object.keys(MANIFEST_KINDS).filter((name) => {
    const kind = findKind(name)!;
    return kind.taker === taker && !kind.isInternal;
  });
  return names as KindTakenBy<Taker>[];
}

/**
 * Name of an object in its service, one per object of a cluster.
 * @param namespace not looked at for a clusterwide kind
 */
export function manifestObjectName(kind: ManifestKindName, namespace: string, name: string): string {
  const { prefix, keptAs, clusterwide } = findKind(kind)!;
  const own = clusterwide ? name : `${namespace}/${name}`;
  return prefix === undefined ? `${keptAs ?? kind} ${own}` : `${prefix}:${own}`;
}
