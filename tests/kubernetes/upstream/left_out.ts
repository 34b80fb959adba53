/** Upstream's specs that are left out, and why. What is not here is run when it is asked for, and fails where it fails. @module */

/** What cannot be shown on these clusters, whatever network they have. */
export interface LeftOut {
  /** Of the spec's whole name. For Go's regular expressions and for ours. */
  pattern: string;
  why: string;
}

/** What the specs are asked of. */
export interface Surroundings {
  dualStack: boolean;
  /** Whether this kernel has SCTP sockets. */
  sctp: boolean;
  /** Whether kube-proxy runs. */
  kubeProxy: boolean;
}

/** Those that are left out there. Pure. */
export function leftOut({ dualStack, sctp, kubeProxy }: Surroundings): LeftOut[] {
  const always: LeftOut[] = [
    { pattern: "\\[Disruptive\\]", why: "restarts what this machine has no service for" },
    {
      pattern: "Provider:gce|\\[Feature:LoadBalancer\\]|Service CIDRs",
      why: "asks a cloud, or another cluster's addresses",
    },
    { pattern: "LocalhostNodePorts should let a node pull", why: "there is no image of a registry" },
    { pattern: "should create Endpoints( and EndpointSlices)? for Pods", why: "there is no image of nginx" },
    {
      pattern: "DNS configMap nameserver|PerformanceDNS",
      why: "changes the CoreDNS of another kind of cluster",
    },
    { pattern: "provider? Internet connection", why: "nothing outside is reachable from here" },
    { pattern: "Feature:Networking-Performance", why: "measures this machine" },
  ];
  return [
    ...always,
    // Others name SCTP and send none.
    ...sctp ? [] : [{ pattern: "SCTPConnectivity", why: "this kernel has no SCTP" }],
    ...dualStack ? [] : [{ pattern: "IPv6DualStack", why: "the cluster has IPv4 alone: up --dual-stack" }],
    ...kubeProxy ? [] : [{ pattern: "KubeProxy|kube-proxy urls", why: "there is no kube-proxy" }],
  ];
}
