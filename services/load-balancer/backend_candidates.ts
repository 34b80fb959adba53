/**
 * Which backends a slice or a pod gives to the ports of a service. Pure.
 * @module
 */
import { IpAddress, type IpFamily } from "@weir/common";
import { Backend, type BackendState, type Pod } from "@weir/proto/loadbalancer";
import {
  portKey,
  type PortSpec,
  type ServiceSpec,
  type SliceEndpoint,
  type SliceSpec,
  type Topology,
} from "./model.ts";

/** Backends by port of the service, without service id and name, which the port gives them. */
export type Candidates = Map<string, Backend[]>;

/** What decides about backends of a service. */
export interface CandidateContext {
  readonly spec: ServiceSpec;
  /** Families of the service's own addresses: a backend of another one cannot be reached through them. */
  readonly families: readonly IpFamily[];
}

/** Weight that a backend has when nobody says. */
const WEIGHT_DEFAULT = 1;

/** Backends of an EndpointSlice or Endpoints object. */
export function candidatesOfSlice(slice: SliceSpec, context: CandidateContext): Candidates {
  const { spec } = context;
  const found: Candidates = new Map();
  for (const port of spec.ports) {
    const backends: Backend[] = [];
    for (const group of slice.groups) {
      for (const number of portsOf(group.ports, port)) {
        for (const endpoint of group.endpoints) {
          const state = stateOf(endpoint.state, spec);
          if (state === undefined) continue;
          for (const address of endpoint.addresses) {
            add(backends, context, port, {
              address,
              port: number,
              state,
              weight: slice.weight || WEIGHT_DEFAULT,
              node: endpoint.node,
              zone: endpoint.zone,
              ...hintsOfEndpoint(endpoint, spec.topology),
              pod: endpoint.pod,
              serving: endpoint.serving,
            });
          }
        }
      }
    }
    found.set(portKey(port), backends);
  }
  return found;
}

/** Numbers of a slice's ports of this name; a nameless port has the empty name on both sides. */
function portsOf(
  ports: SliceSpec["groups"][number]["ports"],
  { name, protocol }: PortSpec,
): number[] {
  return ports.filter((port) => port.name === name && port.protocol === protocol).map((port) => port.port);
}

/** Backends of a pod that the service's selector means. */
export function candidatesOfPod(pod: Pod, context: CandidateContext): Candidates {
  const { spec } = context;
  const found: Candidates = new Map();
  const state = stateOf(pod.state, spec);
  for (const port of spec.ports) {
    const backends: Backend[] = [];
    found.set(portKey(port), backends);
    if (state === undefined) continue;
    const number = typeof port.targetPort === "number"
      ? port.targetPort
      : pod.ports.find((one) => one.name === port.targetPort && one.protocol === port.protocol)?.port;
    if (number === undefined) continue;
    for (const address of pod.addresses) {
      add(backends, context, port, {
        address,
        port: number,
        state,
        weight: pod.weight || WEIGHT_DEFAULT,
        node: pod.node,
        zone: pod.zone,
        // Kubernetes' slice controller gives hints; for pods that come here themselves we do: to each its own place.
        ...ownPlace(pod, spec.topology === "auto" ? "zone" : spec.topology),
        pod: pod.name,
        serving: true,
      });
    }
  }
  return found;
}

/** Hints of an endpoint: those that its slice gives, else its own place where the service asks for nearness. */
function hintsOfEndpoint(
  endpoint: SliceEndpoint,
  topology: Topology,
): Pick<Backend, "hintZones" | "hintNodes"> {
  const { hintZones, hintNodes } = endpoint;
  if (hintZones.length > 0 || hintNodes.length > 0) return { hintZones, hintNodes };
  return ownPlace(endpoint, topology);
}

function ownPlace(
  { node, zone }: { node: string; zone: string },
  topology: Topology,
): Pick<Backend, "hintZones" | "hintNodes"> {
  const near = topology === "zone" || topology === "node";
  return {
    hintZones: near && zone !== "" ? [zone] : [],
    hintNodes: topology === "node" && node !== "" ? [node] : [],
  };
}

/** The one backend of a pod's host port. It need not be ready: a host port is the pod's own. */
export function candidateOfHostPort(pod: Pod, port: number): Backend[] {
  const state: BackendState = pod.state === "TERMINATING" ? "TERMINATING" : "ACTIVE";
  return pod.addresses.map((address) =>
    Backend.create({
      address,
      port,
      state,
      weight: WEIGHT_DEFAULT,
      node: pod.node,
      zone: pod.zone,
      pod: pod.name,
      serving: true,
    })
  );
}

/** Undefined: not a backend. */
function stateOf(state: BackendState, spec: ServiceSpec): BackendState | undefined {
  if (state !== "BACKEND_STATE_UNSPECIFIED") return state;
  return spec.publishNotReady ? "ACTIVE" : undefined;
}

function add(
  backends: Backend[],
  { families }: CandidateContext,
  port: PortSpec,
  fields: Partial<Backend> & { address: string; port: number },
): void {
  // SCTP's ports are not rewritten: a backend with another one would never see the packet.
  if (port.protocol === "SCTP" && fields.port !== port.port) return;
  const address = IpAddress.tryParse(fields.address);
  if (address === undefined || !families.includes(address.family)) return;
  backends.push({ ...EMPTY, ...fields, address: address.text });
}

/** A backend with nothing said; spread, because thousands are made for one slice. */
const EMPTY: Backend = Backend.create({});

/** Whether two backends say the same. */
export function sameBackend(a: Backend | undefined, b: Backend): boolean {
  return a !== undefined && a.address === b.address && a.port === b.port && a.state === b.state &&
    a.weight === b.weight && a.node === b.node && a.zone === b.zone && a.pod === b.pod &&
    a.serving === b.serving && a.service === b.service && a.name === b.name &&
    sameNames(a.hintZones, b.hintZones) && sameNames(a.hintNodes, b.hintNodes);
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}
