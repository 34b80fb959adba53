/**
 * What the node is told about itself.
 * @module
 */
import type { Enforcement } from "@weir/proto/common";
import type { NodeConfigRoutingMode, NodeFailsafe, NodeProxy } from "@weir/proto/datapath";

/** Settings of the endpoint manager, as its process reads them. */
export interface EndpointManagerConfig {
  nodeName: string;
  instance: string;
  cluster: string;
  nodeIpv4: string;
  nodeIpv6: string;
  routingMode: NodeConfigRoutingMode;
  mtu: number;
  devices: string[];
  tunnelPort: number;
  masquerade: boolean;
  /** Prefixes that see the endpoints' own addresses. */
  masqueradeExceptions: string[];
  /** Services from outside are also handled at XDP on the outer devices. */
  xdp: boolean;
  /** A service without backends is silent; else the client is told at once. */
  noBackendDrop: boolean;
  /** Services are also translated at the sockets of the node and of cgroup endpoints. */
  socketLb: boolean;
  /** VLANs whose tagged frames pass the outer devices. */
  vlanAllow: number[];
  /** `""`: that of the node's label topology.kubernetes.io/zone, if it has one. */
  zone: string;
  /** "key=value": what policies for nodes select by, beside what Kubernetes says. */
  nodeLabels?: string[];
  /** The node itself is an endpoint, for policies that select it; default false. */
  hostEndpoint?: boolean;
  /** What no policy for the node itself cuts off, beside DHCP and the tunnel. */
  failsafes?: NodeFailsafe[];
  /** The node's L7 proxy; absent: there is none. */
  proxy?: Pick<NodeProxy, "port" | "uid" | "prefixV4" | "prefixV6" | "sockets">;
  /** Who gives the node's pod CIDRs: the identity allocator of its pool, or Kubernetes. Default cluster-pool. */
  ipam?: "cluster-pool" | "kubernetes";
  /** CIDR rules of policies mean this node's endpoints too, as Kubernetes' model has it; default false, as Cilium has it. */
  cidrMeansPods?: boolean;
  /** When policies are enforced on endpoints that do not say it themselves; default `DEFAULT`. */
  enforcement?: Enforcement;
  /** What policies deny passes, and is reported, on endpoints that do not say it themselves; default false. */
  audit?: boolean;
  /** What an answer to a query for a name counts for at least, milliseconds; default 60,000. */
  namesMinTtlMs?: number;
  /** How often the node says that it is alive, default 10,000. */
  heartbeatMs?: number;
  /** How long what others wrote stays after a database that had it was lost, default 60,000. */
  holdMs?: number;
}
