/**
 * What the node is told about itself.
 * @module
 */
import type { NodeConfigRoutingMode } from "@weir/proto/datapath";

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
  /** How often the node says that it is alive, default 10,000. */
  heartbeatMs?: number;
  /** How long what others wrote stays after a database that had it was lost, default 60,000. */
  holdMs?: number;
}
