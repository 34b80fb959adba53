/**
 * One service as the tables keep it: what it is, what it was given, and its backends by port with everybody who names
 * them. The datapath's view of it is computed from here.
 * @module
 */
import { IpAddress, type IpFamily } from "@weir/common";
import {
  type Assignment,
  type Backend,
  type BackendOverride,
  type ExcludedPod,
  type Frontend,
  ServicePort,
} from "@weir/proto/loadbalancer";
import type { Candidates } from "./backend_candidates.ts";
import type { LoadBalancerConfig } from "./config.ts";
import type { Claim } from "./frontend_claims.ts";
import { tableSizeFor } from "./maglev_size.ts";
import {
  ignoredReason,
  portKey,
  type PortSpec,
  type ServiceSpec,
  type ServiceType,
  wantsHealthCheck,
} from "./model.ts";

/** A service as it was given. */
export interface ServiceSource {
  readonly spec: ServiceSpec;
  readonly manifest: string;
  readonly file: string;
  readonly line: number;
  readonly createdUnixS: number;
  /** What the selector is where it is not who serves: of Kubernetes' services, whose slices say that. */
  readonly podSelector?: Readonly<Record<string, string>>;
  /** Set for the host ports of a pod: the pod's node, and the address of each port. */
  readonly hostPorts?: { node: string; addresses: Record<string, string> };
}

/** A frontend that is asked for, with the claim that it needs. */
export interface WantedFrontend {
  readonly frontend: Frontend;
  readonly claim: Claim;
}

/** One port of a service. */
export class PortEntry {
  /** Backend "address/port" -> who names it, best first, with what they say. */
  readonly backends: Map<string, Map<string, Backend>> = new Map();
  /** By family: a pod of two families is one backend to people, and one in each family's table. */
  readonly count: Record<IpFamily, { all: number; active: number }> = {
    4: { all: 0, active: 0 },
    6: { all: 0, active: 0 },
  };
  tableSize = 0;
  /** What readers have; undefined: nothing. */
  published: ServicePort | undefined;

  constructor(public spec: PortSpec, public id: number) {}

  get all(): number {
    return Math.max(this.count[4].all, this.count[6].all);
  }
  get active(): number {
    return Math.max(this.count[4].active, this.count[6].active);
  }
}

/** Family of a backend's key "address/port". */
export function familyOfKey(key: string): IpFamily {
  return key.includes(":") ? 6 : 4;
}

/** One service as the tables keep it. */
export class ServiceEntry {
  source: ServiceSource | undefined;
  assignment: Assignment | undefined;
  readonly ports: Map<string, PortEntry> = new Map();
  /** Source of backends -> what it gave to each port. */
  readonly given: Map<string, Candidates> = new Map();
  /** Names of EndpointSlices and Endpoints of this service. */
  readonly slices: Set<string> = new Set();
  readonly overrides: Map<string, BackendOverride> = new Map();
  /** Pods that the selector means and that are no backend of some port, by name. */
  readonly excluded: Map<string, ExcludedPod> = new Map();

  constructor(readonly name: string) {}

  get spec(): ServiceSpec | undefined {
    return this.source?.spec;
  }

  /** Why the datapath does not serve it; "" if it does. */
  get ignored(): string {
    return this.spec === undefined || this.source?.hostPorts ? "" : ignoredReason(this.spec);
  }

  /** Families of the service's own addresses. */
  get families(): IpFamily[] {
    if (this.source?.hostPorts) return [4, 6];
    return [...new Set((this.assignment?.clusterIps ?? []).map((text) => IpAddress.parse(text).family))];
  }

  /** Everything that the port asks for, whether it gets it or not. */
  wantedFrontends(port: PortSpec): WantedFrontend[] {
    const { spec, assignment, source } = this;
    if (spec === undefined || assignment === undefined || this.ignored !== "") return [];
    const { protocol } = port;
    const found = new Map<string, WantedFrontend>();
    const add = (kind: Frontend["kind"], address: string, number: number, closes = false, node = "") => {
      const claim = { address: node === "" ? address : `${node}/${address}`, port: number, protocol, closes };
      const key = `${claim.address}|${number}`;
      if (found.has(key)) return;
      found.set(key, { claim, frontend: { kind, address, port: number, node, closed: false } });
    };
    const key = portKey(port);
    if (source?.hostPorts) {
      add("HOST_PORT", source.hostPorts.addresses[key] ?? "", port.port, false, source.hostPorts.node);
      return [...found.values()];
    }
    const families = this.families;
    const shows = (type: ServiceType) => spec.onlyType === undefined || spec.onlyType === type;
    const reachable = (text: string) => families.includes(IpAddress.parse(text).family);
    if (shows("ClusterIP")) {
      for (const address of assignment.clusterIps) add("CLUSTER_IP", address, port.port, true);
    }
    if (spec.type === "LoadBalancer" && shows("LoadBalancer")) {
      const addresses = [...assignment.loadBalancerIps, ...spec.ingressIps].filter(reachable);
      for (const address of addresses) add("LOAD_BALANCER", address, port.port, true);
    }
    // An external IP may be a node's own address: its other ports stay as they are.
    if (shows("ClusterIP")) {
      for (const address of spec.externalIps.filter(reachable)) add("EXTERNAL_IP", address, port.port);
    }
    const nodePort = assignment.ports.find((one) => one.key === key)?.nodePort ?? 0;
    if (nodePort !== 0 && shows("NodePort") && servesNodePort(port, nodePort)) add("NODE_PORT", "", nodePort);
    return [...found.values()];
  }

  /** The port as the nodes are told, with the frontends that it has. */
  servicePort(port: PortEntry, frontends: Frontend[], config: LoadBalancerConfig): ServicePort {
    const spec = this.spec!;
    const algorithm = spec.algorithm ?? config.algorithm;
    const maglev = algorithm === "MAGLEV";
    if (maglev) {
      const fixed = spec.tableSize ?? 0;
      port.tableSize = fixed >= Math.max(1, port.all) ? fixed : tableSizeFor(
        port.all,
        Math.max(fixed, port.tableSize),
      );
    }
    const external = spec.type === "LoadBalancer" && spec.sourceRanges.length > 0;
    return ServicePort.create({
      name: String(port.id),
      id: port.id,
      namespace: spec.namespace,
      service: spec.name,
      portName: port.spec.name,
      protocol: port.spec.protocol,
      frontends,
      algorithm,
      tableSize: maglev ? port.tableSize : 0,
      seed: maglev ? config.seed : 0,
      affinityTimeoutS: spec.affinityTimeoutS,
      sourceRanges: external ? spec.sourceRanges : [],
      sourceRangesDeny: external && spec.sourceRangesDeny,
      forwarding: spec.forwarding ?? config.forwarding,
      externalTrafficPolicy: spec.externalTrafficPolicy,
      internalTrafficPolicy: spec.internalTrafficPolicy,
      topologyHints: spec.topology !== "",
      healthCheckNodePort: wantsHealthCheck(spec) ? this.assignment?.healthCheckNodePort ?? 0 : 0,
      nodeSelector: spec.nodeSelector,
    });
  }

  /** What readers see of a backend: the best of those who name it, and what a person says of it. */
  backend(port: PortEntry, key: string): Backend | undefined {
    const named = port.backends.get(key);
    if (named === undefined) return undefined;
    let best: string | undefined;
    for (const source of named.keys()) if (best === undefined || source < best) best = source;
    const found = named.get(best!)!;
    const override = this.overrides.get(found.address);
    const state = override !== undefined && found.state === "ACTIVE" && isHeld(override.state)
      ? override.state
      : found.state;
    return {
      ...found,
      name: `${port.id}/${key}`,
      service: port.id,
      state,
      weight: override?.weight || found.weight,
    };
  }
}

/** Sources of backends in order of trust: an EndpointSlice says more than a pod, a pod more than an endpoint. */
export const SOURCE_SLICE = "1 slice ";
export const SOURCE_POD = "2 pod ";

/** SCTP's ports are not rewritten, so only a node port that is the target port itself could work. */
export function servesNodePort(port: PortSpec, nodePort: number): boolean {
  return port.protocol !== "SCTP" || port.targetPort === nodePort;
}

/** Whether another spec may mean other backends. */
export function backendsDiffer(a: ServiceSpec | undefined, b: ServiceSpec | undefined): boolean {
  const relevant = (spec: ServiceSpec | undefined) =>
    spec && [spec.ports, spec.selector, spec.publishNotReady, spec.topology];
  return JSON.stringify(relevant(a)) !== JSON.stringify(relevant(b));
}

function isHeld(state: Backend["state"]): boolean {
  return state === "MAINTENANCE" || state === "QUARANTINED";
}
