/**
 * What the operator may do at the API server: one list, of which the manifest's roles are made. The tests compare it with
 * the audit log of a real API server: nothing is refused, and nothing is there that is not needed.
 * @module
 */
import { RESOURCES } from "../api/mod.ts";
import { customResources } from "./crds/mod.ts";

/** A row: these verbs on these resources. */
export interface Right {
  /** API group, "" is the core group. */
  readonly group: string;
  /** Plurals, a subresource after a slash. */
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  /** Only objects of these names. */
  readonly names?: readonly string[];
  /** Only in the namespace that Weir itself is in. */
  readonly own?: boolean;
  readonly why: string;
}

const CILIUM = RESOURCES.CiliumNode.group;
const { CustomResourceDefinition, Lease } = RESOURCES;

/** Name of the Lease that operators of one cluster share. */
export const LEASE_NAME = "weir-operator";

/** What single endpoints need beside the rest. */
export const SINGLE_ENDPOINTS: Right = {
  group: CILIUM,
  resources: ["ciliumendpoints"],
  verbs: ["create", "delete", "list", "patch", "watch"],
  why: "one for each pod, where that is asked for",
};

/** What the operator needs. `singleEndpoints`: also with `--kubernetes-cilium-endpoints`. */
export function operatorRights({ singleEndpoints }: { singleEndpoints: boolean }): Right[] {
  const names = customResources().map(({ metadata }) => metadata.name);
  return [
    {
      group: Lease.group,
      resources: [Lease.plural],
      verbs: ["get", "update"],
      names: [LEASE_NAME],
      own: true,
      why: "of several operators one leads",
    },
    {
      group: Lease.group,
      resources: [Lease.plural],
      verbs: ["create"],
      own: true,
      why: "the first one makes it",
    },
    {
      group: CustomResourceDefinition.group,
      resources: [CustomResourceDefinition.plural],
      verbs: ["get", "patch"],
      names,
      why: "definitions are put in place at the start",
    },
    {
      group: CustomResourceDefinition.group,
      resources: [CustomResourceDefinition.plural],
      verbs: ["create"],
      why: "the same, where they are not there yet",
    },
    {
      group: CILIUM,
      resources: [
        "ciliumendpointslices",
        "ciliumidentities",
        "ciliumnodes",
      ],
      verbs: ["create", "delete", "list", "patch", "watch"],
      why: "they are written by the operator alone",
    },
    ...singleEndpoints ? [SINGLE_ENDPOINTS] : [],
    {
      group: CILIUM,
      resources: ["ciliumclusterwidenetworkpolicies", "ciliumloadbalancerippools", "ciliumnetworkpolicies"],
      verbs: ["list", "watch"],
      why: "their status is compared with what Weir knows",
    },
    {
      group: CILIUM,
      resources: [
        "ciliumclusterwidenetworkpolicies/status",
        "ciliumloadbalancerippools/status",
        "ciliumnetworkpolicies/status",
        "ciliumnodes/status",
      ],
      verbs: ["patch"],
      why: "conditions",
    },
    { group: "", resources: ["services"], verbs: ["list", "watch"], why: "their addresses are compared" },
    {
      group: "",
      resources: ["services/status"],
      verbs: ["patch"],
      why: "addresses that the load balancer gave",
    },
    {
      group: "",
      resources: ["nodes"],
      verbs: ["list", "patch", "watch"],
      why: "the taint of nodes whose Weir is not ready; taints are a part of the Node itself",
    },
    { group: "", resources: ["nodes/status"], verbs: ["patch"], why: "the condition NetworkUnavailable" },
  ];
}

/** A rule of a Role or ClusterRole. */
export interface PolicyRule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: string[];
  verbs: string[];
}

/** The rules of the ClusterRole, and of the Role in Weir's own namespace, that give exactly these rights. */
export function rulesOf(rights: readonly Right[]): { cluster: PolicyRule[]; own: PolicyRule[] } {
  const rule = ({ group, resources, names, verbs }: Right): PolicyRule => ({
    apiGroups: [group],
    resources: [...resources],
    ...(names === undefined ? {} : { resourceNames: [...names] }),
    verbs: [...verbs],
  });
  return {
    cluster: rights.filter(({ own }) => !own).map(rule),
    own: rights.filter(({ own }) => own).map(rule),
  };
}
