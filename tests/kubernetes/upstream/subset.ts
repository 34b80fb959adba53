/** Upstream's specs that every run of the tests tries: of each kind some, together a few minutes on two processors. @module */

/** Regular expressions, each of one spec's whole name. */
export const SUBSET: readonly string[] = [
  "Netpol .* should support a 'default-deny-all' policy",
  "Netpol .* should allow ingress access from namespace on one named port",
  "Netpol .* should enforce updated policy",
  "Netpol .* should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
  "Conntrack should be able to preserve UDP traffic when server pod cycles for a ClusterIP service$",
  "Conntrack should be able to cleanup conntrack entries",
  "Services should be able to create a functioning NodePort service",
  "Services should have session affinity work for service with type clusterIP",
  "Services should fallback to local terminating endpoints .* externalTrafficPolicy=Local",
  "Services should allow pods to hairpin back",
  "Granular Checks: Pods should function for node-pod communication: udp",
  "DNS should provide DNS for services",
  "HostPort validates",
];
