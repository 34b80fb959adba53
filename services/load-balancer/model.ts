/**
 * What manifests say, as plain values that can be kept as JSON. Nothing here knows where it came from or what becomes
 * of it.
 * @module
 */
import type { Algorithm, BackendState, Forwarding, TrafficPolicy } from "@weir/proto/loadbalancer";

/** Version of the shapes below; a stored one of another version is read from its manifest again. */
export const SPEC_VERSION = 2;

export type Protocol = "TCP" | "UDP" | "SCTP";
export type ServiceType = "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";

/**
 * Which hints count. `""`: none. `hints`: those of slices. `auto`: also each pod's own zone, where pods are put here themselves.
 * `zone`: also the own zone of endpoints of slices without hints. `node`: the same, and their own node.
 */
export type Topology = "" | "hints" | "auto" | "zone" | "node";

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
  /** Port on which every node says how many ready backends it has itself; 0: to be given, where there is to be one. */
  healthCheckNodePort: number;
  sourceRanges: string[];
  sourceRangesDeny: boolean;
  externalTrafficPolicy: TrafficPolicy;
  internalTrafficPolicy: TrafficPolicy;
  /** 0: no affinity. */
  affinityTimeoutS: number;
  publishNotReady: boolean;
  topology: Topology;
  /** Only frontends of this type are served; undefined: of every type that it has. */
  onlyType?: ServiceType;
  /** Label selector terms of the nodes that serve it; empty: every node. */
  nodeSelector: string[];
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
  hintNodes: string[];
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

/** Labels of a service that say that it is another proxy's, or nobody's. Their values count for nothing, as with kube-proxy. */
const LABEL_PROXY = "service.kubernetes.io/service-proxy-name";
const LABEL_HEADLESS = "service.kubernetes.io/headless";

/** Whether every node says on a port of its own how many backends it has. */
export function wantsHealthCheck({ type, externalTrafficPolicy }: ServiceSpec): boolean {
  return type === "LoadBalancer" && externalTrafficPolicy === "LOCAL";
}

/** Whether the datapath serves the service; else why not. */
export function ignoredReason(spec: ServiceSpec): string {
  if (Object.hasOwn(spec.labels, LABEL_PROXY)) {
    return `its label ${LABEL_PROXY} says that ${spec.labels[LABEL_PROXY] || "another proxy"} serves it`;
  }
  if (Object.hasOwn(spec.labels, LABEL_HEADLESS)) {
    return `headless: its label ${LABEL_HEADLESS} says that nobody serves it`;
  }
  if (spec.type === "ExternalName") {
    return `ExternalName: in DNS another name for ${spec.externalName ?? "a host"}, nothing to balance`;
  }
  if (spec.clusterIps?.length === 0) return "headless: DNS answers with the pods' own addresses";
  if (spec.ports.length === 0) return "it has no ports";
  return "";
}
