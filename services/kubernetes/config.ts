/** Settings of the service. @module */
import type { ConfigSpec } from "@weir/common";

/** Flags and environment of the process. */
export const PROCESS_CONFIG = {
  cluster: { kind: "text", default: "default", description: "name of this cluster, in every pod's labels" },
  apiServer: {
    kind: "text",
    default: "",
    description: "URL of the API server; empty: as the pod's environment says",
  },
  serviceAccountDirectory: {
    kind: "text",
    default: "/var/run/secrets/kubernetes.io/serviceaccount",
    description: "directory with the token that is shown, and the ca.crt that the API server is believed by",
  },
  namespace: { kind: "text", default: "weir-system", description: "namespace of Weir's own objects" },
  nodeServiceAccount: {
    kind: "text",
    default: "weir-node",
    description: "service account of the nodes' pods, whose tokens may enroll",
  },
  node: {
    kind: "text",
    default: "",
    description: "name of this machine, for people who ask which operator leads",
  },
  ciliumEndpoints: {
    kind: "flag",
    description: "write one CiliumEndpoint for each pod beside the slices",
  },
  identityAllocator: {
    kind: "text",
    default: "unix:/run/weir/host/identity-allocator.sock",
    description: "address of the identity allocator",
  },
  policyEngine: {
    kind: "text",
    default: "unix:/run/weir/host/policy-engine.sock",
    description: "address of the policy engine",
  },
  loadBalancer: {
    kind: "text",
    default: "unix:/run/weir/host/load-balancer.sock",
    description: "address of the load balancer",
  },
  authority: {
    kind: "text",
    default: "",
    description: "address of the certificate authority, as the control plane; empty: no node enrolls",
  },
} as const satisfies ConfigSpec;
