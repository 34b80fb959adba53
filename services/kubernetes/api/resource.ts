/** Kinds of the API, and the paths that they have. @module */

/** A kind of objects. */
export interface Resource {
  /** "" is the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

/** Which objects of a kind a path means. */
export interface ResourceSelection {
  /** All namespaces when it is left out. */
  namespace?: string;
  name?: string;
  subresource?: string;
}

const core = (kind: string, plural: string, namespaced = true): Resource => ({
  group: "",
  version: "v1",
  kind,
  plural,
  namespaced,
});
const cilium = (kind: string, plural: string, namespaced: boolean, version = "v2"): Resource => ({
  group: "cilium.io",
  version,
  kind,
  plural,
  namespaced,
});

/** Of administrators' policies, whose definitions others install. */
const policyApi = (kind: string, plural: string, version: string): Resource => ({
  group: "policy.networking.k8s.io",
  version,
  kind,
  plural,
  namespaced: false,
});

/** Kinds that Weir reads or writes, by their kind. */
export const RESOURCES = {
  Pod: core("Pod", "pods"),
  Namespace: core("Namespace", "namespaces", false),
  Node: core("Node", "nodes", false),
  Service: core("Service", "services"),
  ServiceAccount: core("ServiceAccount", "serviceaccounts"),
  ConfigMap: core("ConfigMap", "configmaps"),
  Secret: core("Secret", "secrets"),
  Event: core("Event", "events"),
  EndpointSlice: {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    namespaced: true,
  },
  NetworkPolicy: {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    namespaced: true,
  },
  AdminNetworkPolicy: policyApi("AdminNetworkPolicy", "adminnetworkpolicies", "v1alpha1"),
  BaselineAdminNetworkPolicy: policyApi(
    "BaselineAdminNetworkPolicy",
    "baselineadminnetworkpolicies",
    "v1alpha1",
  ),
  ClusterNetworkPolicy: policyApi("ClusterNetworkPolicy", "clusternetworkpolicies", "v1alpha2"),
  Lease: {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    namespaced: true,
  },
  TokenReview: {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenReview",
    plural: "tokenreviews",
    namespaced: false,
  },
  CustomResourceDefinition: {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    namespaced: false,
  },
  CiliumNetworkPolicy: cilium("CiliumNetworkPolicy", "ciliumnetworkpolicies", true),
  CiliumClusterwideNetworkPolicy: cilium(
    "CiliumClusterwideNetworkPolicy",
    "ciliumclusterwidenetworkpolicies",
    false,
  ),
  CiliumCIDRGroup: cilium("CiliumCIDRGroup", "ciliumcidrgroups", false),
  CiliumIdentity: cilium("CiliumIdentity", "ciliumidentities", false),
  CiliumEndpoint: cilium("CiliumEndpoint", "ciliumendpoints", true),
  CiliumEndpointSlice: cilium("CiliumEndpointSlice", "ciliumendpointslices", false, "v2alpha1"),
  CiliumNode: cilium("CiliumNode", "ciliumnodes", false),
  CiliumPodIPPool: cilium("CiliumPodIPPool", "ciliumpodippools", false, "v2alpha1"),
  CiliumLoadBalancerIPPool: cilium("CiliumLoadBalancerIPPool", "ciliumloadbalancerippools", false),
} as const satisfies Record<string, Resource>;

/** "pods", "ciliumnetworkpolicies.cilium.io". */
export function resourceName({ group, plural }: Resource): string {
  return group === "" ? plural : `${plural}.${group}`;
}

/** "v1", "cilium.io/v2". */
export function apiVersionOf({ group, version }: Resource): string {
  return group === "" ? version : `${group}/${version}`;
}

/** The path of these objects at the API server, each part encoded. */
export function resourcePath(resource: Resource, selection: ResourceSelection = {}): string {
  const { group, version, plural, namespaced } = resource;
  const { namespace, name, subresource } = selection;
  const parts = [
    ...(namespaced && namespace !== undefined ? ["namespaces", namespace] : []),
    plural,
    ...(name === undefined ? [] : [name]),
    ...(subresource === undefined ? [] : [subresource]),
  ];
  const base = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  return `${base}/${parts.map(encodeURIComponent).join("/")}`;
}
