/** How a cluster is to be. @module */

/** Addresses of a cluster. Every cluster has the same, for each is in a network of its own. */
export const NETWORK = {
  underlay: { ipv4: "172.30.0", ipv6: "fd00:30:0:0::" },
  pods: { ipv4: "10.244.0.0/16", ipv6: "fd00:10:244::/56" },
  services: { ipv4: "10.96.0.0/16", ipv6: "fd00:10:96::/112" },
  apiService: "10.96.0.1",
  dns: "10.96.0.10",
} as const;

/** Port of the API server. */
export const API_PORT = 6443;

/** Address of the control plane on the network between the nodes. */
export const API_ADDRESS = `${NETWORK.underlay.ipv4}.1`;

export interface ClusterOptions {
  name: string;
  /** 1 to 9. */
  nodes: number;
  /** `reference`: ptp, host-local, portmap and kube-proxy; `none`: nodes get ready when somebody brings a network. */
  cni: "reference" | "none";
  /** Keep a log of every request at the API server. */
  audit: boolean;
  /** Pods, services and nodes have IPv4 and IPv6. */
  dualStack: boolean;
}

/** Addresses of node `index`, which counts from 1; IPv4 first. */
export function nodeAddresses(index: number, { dualStack }: Pick<ClusterOptions, "dualStack">): string[] {
  const { ipv4, ipv6 } = NETWORK.underlay;
  return [`${ipv4}.${10 + index}`, ...dualStack ? [`${ipv6}${10 + index}`] : []];
}

/** A network of both families where that is asked for, as Kubernetes' flags have it. */
export function both(network: { ipv4: string; ipv6: string }, dualStack: boolean): string {
  return dualStack ? `${network.ipv4},${network.ipv6}` : network.ipv4;
}

export function nodeName(index: number): string {
  return `node-${index}`;
}
