/**
 * What the control plane may do at the API server, and nobody else of Weir anything. Its service `kubernetes` is the only one that
 * speaks to it.
 *
 * @module
 */
import { operatorRights, rulesOf, SINGLE_ENDPOINTS } from "@weir/kubernetes/rights";
import { type Json, where } from "./values.ts";

const READ = ["get", "list", "watch"];
/** What the operator writes, but for single endpoints. */
const OPERATOR = rulesOf(operatorRights({ singleEndpoints: false }));
/** As values of a manifest are. */
const json = (rules: unknown): Json[] => JSON.parse(JSON.stringify(rules));

/** Of the whole cluster. @param singleEndpoints the value: whether single endpoints are written */
export function controlPlaneRules(singleEndpoints: Json): Json[] {
  return [
    { apiGroups: [""], resources: ["namespaces", "nodes", "pods", "services"], verbs: READ },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: READ },
    { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: READ },
    // Whose definitions others install, or nobody.
    {
      apiGroups: ["policy.networking.k8s.io"],
      resources: ["adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"],
      verbs: READ,
    },
    {
      apiGroups: ["cilium.io"],
      resources: [
        "ciliumcidrgroups",
        "ciliumclusterwidenetworkpolicies",
        "ciliumnetworkpolicies",
        "ciliumpodippools",
      ],
      verbs: READ,
    },
    // What nodes say of their pods and of Services.
    { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
    // Who is behind the token that a node's pod shows.
    { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
    ...json(OPERATOR.cluster),
    ...where(singleEndpoints, json(rulesOf([SINGLE_ENDPOINTS]).cluster)),
  ];
}

/** Of its own namespace. */
export function namespaceRules(): Json[] {
  return [
    // Where nodes find the control plane; who may create cannot be said by name.
    { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
    {
      apiGroups: [""],
      resources: ["configmaps"],
      resourceNames: ["weir-cluster"],
      verbs: ["get", "patch", "update"],
    },
    ...json(OPERATOR.own),
  ];
}
