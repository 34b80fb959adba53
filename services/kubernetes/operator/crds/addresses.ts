/** CiliumLoadBalancerIPPool, CiliumPodIPPool, CiliumCIDRGroup: addresses that people give. @module */
import { type Resource, RESOURCES } from "../../api/resource.ts";
import { AGE, type Definition } from "./definition.ts";
import { CONDITIONS, flag, integer, labelSelector, listOf, object, oneWordOf, text } from "./schema.ts";

const cilium = (kind: string, plural: string, version: string): Resource => ({
  group: "cilium.io",
  version,
  kind,
  plural,
  namespaced: false,
});
const condition = (type: string) => `.status.conditions[?(@.type=="cilium.io/${type}")]`;
const address = text({ maxLength: 64 });

const loadBalancerPool: Definition = {
  resource: RESOURCES.CiliumLoadBalancerIPPool,
  shortNames: ["ippools", "ippool", "lbippool", "lbippools"],
  olderVersions: ["v2alpha1"],
  description: "Addresses for Services of type LoadBalancer.",
  status: true,
  columns: [
    { name: "Disabled", type: "boolean", jsonPath: ".spec.disabled" },
    { name: "Conflicting", type: "string", jsonPath: `${condition("PoolConflict")}.status` },
    { name: "IPs Available", type: "string", jsonPath: `${condition("IPsAvailable")}.message` },
    AGE,
  ],
  properties: {
    spec: object({
      blocks: listOf(object({ cidr: address, start: address, stop: address })),
      serviceSelector: labelSelector("Services that get their addresses here; none said: every Service."),
      allowFirstLastIPs: oneWordOf(["Yes", "No"]),
      disabled: { ...flag("Nothing more is given from it."), default: false },
    }),
    status: object({ conditions: CONDITIONS }),
  },
  required: ["spec"],
};

const poolCidrs = (maxBits: number) =>
  object({
    cidrs: listOf(address, { minItems: 1 }),
    maskSize: integer(1, maxBits),
  }, { required: ["cidrs", "maskSize"] });

const podPool: Definition = {
  resource: cilium("CiliumPodIPPool", "ciliumpodippools", "v2alpha1"),
  shortNames: ["cpip"],
  description: "Addresses for pods, of which nodes get parts.",
  columns: [AGE],
  properties: {
    spec: object({
      ipv4: poolCidrs(32),
      ipv6: poolCidrs(128),
      podSelector: labelSelector(),
      namespaceSelector: labelSelector(),
    }),
  },
  required: ["spec"],
};

const cidrGroup: Definition = {
  resource: RESOURCES.CiliumCIDRGroup,
  shortNames: ["ccg"],
  olderVersions: ["v2alpha1"],
  description: "Prefixes outside of the cluster, for policies to name together.",
  columns: [AGE],
  properties: {
    spec: object({ externalCIDRs: listOf(address, { minItems: 0 }) }, { required: ["externalCIDRs"] }),
  },
  required: ["spec"],
};

/** What people give. */
export const ADDRESSES: readonly Definition[] = [loadBalancerPool, podPool, cidrGroup];
