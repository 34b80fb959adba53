/**
 * What manifests say, as plain values that can be kept as JSON. Nothing here knows where it came from or what becomes
 * of it.
 * @module
 */
import type { Algorithm, BackendState, Forwarding, TrafficPolicy } from "@weir/proto/loadbalancer";

/** Version of the shapes below; a stored one of another version is read from its manifest again. */
export const SPEC_VERSION = 1;

export type Protocol = "TCP" | "UDP" | "SCTP";
export type ServiceType = "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";

/** One port of a service. */
export interface PortSpec {
  /** `""` for the only, nameless port. */
  name: string;
  protocol: Protocol;
  port: number;
  /** A number, or the name of a container port that each pod resolves for itself. */
  targetPort: number | string;
  /** 0: to be given. */
  nodePort: number;
}

/** A v1 Service. */
export interface ServiceSpec {
  namespace: string;
  name: string;
  labels: Record<string, string>;
  type: ServiceType;
  /** Undefined: to be given. Empty: headless. */
  clusterIps?: string[];
  ipFamilies: (4 | 6)[];
  ipFamilyPolicy: "SingleStack" | "PreferDualStack" | "RequireDualStack";
  ports: PortSpec[];
  /** The DNS name that an ExternalName service stands for. */
  externalName?: string;
  /** Undefined: backends come from EndpointSlices and Endpoints only. */
  selector?: Record<string, string>;
  externalIps: string[];
  /** Addresses asked for, of a pool. */
  requestedIps: string[];
  /** Services with one key may share an address. */
  sharingKey: string;
  /** Addresses that somebody else gave it (status.loadBalancer). */
  ingressIps: string[];
  loadBalancerClass: string;
  allocateNodePorts: boolean;
  sourceRanges: string[];
  sourceRangesDeny: boolean;
  externalTrafficPolicy: TrafficPolicy;
  internalTrafficPolicy: TrafficPolicy;
  /** 0: no affinity. */
  affinityTimeoutS: number;
  publishNotReady: boolean;
  /** `hints`: those of slices; `zone`: also each pod's own zone. */
  topology: "" | "hints" | "zone";
  algorithm?: Algorithm;
  tableSize?: number;
  forwarding?: Forwarding;
}

/** One endpoint of a slice. */
export interface SliceEndpoint {
  addresses: string[];
  state: BackendState;
  serving: boolean;
  node: string;
  zone: string;
  hintZones: string[];
  /** "NAMESPACE/NAME", or "". */
  pod: string;
}

/** Endpoints that share their ports: an EndpointSlice, or one subset of an Endpoints object. */
export interface SliceGroup {
  ports: { name: string; protocol: Protocol; port: number }[];
  endpoints: SliceEndpoint[];
}

/** An EndpointSlice or an Endpoints object. */
export interface SliceSpec {
  kind: "EndpointSlice" | "Endpoints";
  namespace: string;
  name: string;
  /** Name of its service; "" for a slice of none. */
  service: string;
  groups: SliceGroup[];
  /** 0: not said. */
  weight: number;
}

/** A pool of addresses for services of type LoadBalancer. */
export interface PoolSpec {
  name: string;
  /** Prefixes or "first-last". */
  ranges: string[];
  /** Label selector terms. */
  serviceSelector: string[];
  disabled: boolean;
}

/** Key of a port within its service. */
export function portKey(port: { port: number; protocol: string }): string {
  return `${port.port}/${port.protocol}`;
}

/** Whether the datapath serves the service; else why not. */
export function ignoredReason(spec: ServiceSpec): string {
  if (spec.type === "ExternalName") {
    return `ExternalName: in DNS another name for ${spec.externalName ?? "a host"}, nothing to balance`;
  }
  if (spec.clusterIps?.length === 0) return "headless: DNS answers with the pods' own addresses";
  if (spec.ports.length === 0) return "it has no ports";
  return "";
}
