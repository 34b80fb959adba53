/**
 * What the node is told about itself.
 * @module
 */
import type { NodeConfigRoutingMode } from "@weir/proto/datapath";

/** See the module comment. */
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
  /** How often the node says that it is alive, default 30,000. */
  heartbeatMs?: number;
}
