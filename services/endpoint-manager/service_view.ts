/**
 * What this node serves of a service port, and which backends it may use: traffic policies, zones, and host ports that
 * are another node's are decided here, so that the datapath gets two plain flags per backend.
 *
 *     scope internal: endpoints and the node's sockets ask     internal traffic policy, zones
 *     scope external: asked from outside the cluster           external traffic policy, zones
 *
 * Pure.
 * @module
 */
import type { Init } from "@weir/proto";
import type { DatapathBackend, DatapathFrontend, DatapathService } from "@weir/proto/datapath";
import type { Backend, ServicePort, TrafficPolicy } from "@weir/proto/loadbalancer";

/** Where this node is. */
export interface NodePlace {
  nodeName: string;
  /** `""`: unknown; hints are not honoured then. */
  zone: string;
}

/** `namespace/service:port`, where a port without a name goes by its number. */
export function servicePortName(port: ServicePort): string {
  return `${port.namespace}/${port.service}:${port.portName || port.frontends[0]?.port || port.protocol}`;
}

/** The service as this node serves it; undefined when none of its frontends is for this node. */
export function viewService(port: ServicePort, place: NodePlace): Init<DatapathService> | undefined {
  const frontends: Init<DatapathFrontend>[] = [];
  for (const { kind, address, port: number, node, closed } of port.frontends) {
    if (kind === "HOST_PORT" && node !== place.nodeName) continue;
    frontends.push({
      // A NodePort is the same on every address of the node, whatever was written down for it.
      address: kind === "NODE_PORT" ? "" : address,
      port: number,
      external: kind !== "CLUSTER_IP",
      nodePort: kind === "NODE_PORT" || kind === "HOST_PORT",
      everyNode: kind === "NODE_PORT",
      closed,
    });
  }
  if (frontends.length === 0) return undefined;
  return {
    id: port.id,
    name: servicePortName(port),
    protocol: port.protocol,
    frontends,
    algorithm: port.algorithm,
    tableSize: port.tableSize,
    seed: port.seed,
    affinityTimeoutS: port.affinityTimeoutS,
    sourceRanges: port.sourceRanges,
    sourceRangesDeny: port.sourceRangesDeny,
    forwarding: port.forwarding,
    externalLocal: port.externalTrafficPolicy === "LOCAL",
  };
}

/**
 * True when hints narrow the backends of this node: the service asks for it, every active backend has hints, and at
 * least one of them names this node's zone. Else all serve, because a zone without backends must not be without service.
 */
export function hintsInForce(port: ServicePort, backends: Iterable<Backend>, place: NodePlace): boolean {
  if (!port.topologyHints || place.zone === "") return false;
  let mine = false;
  for (const { state, hintZones } of backends) {
    if (state !== "ACTIVE" && state !== "BACKEND_STATE_UNSPECIFIED") continue;
    if (hintZones.length === 0) return false;
    mine ||= hintZones.includes(place.zone);
  }
  return mine;
}

/** A service whose every frontend is a host port serves from this node's pods alone. */
function onlyHostPorts(port: ServicePort): boolean {
  return port.frontends.length > 0 && port.frontends.every((f) => f.kind === "HOST_PORT");
}

/** The backend as this node may use it; undefined when it may not. `hints` is {@link hintsInForce} of the service. */
export function viewBackend(
  port: ServicePort,
  backend: Backend,
  options: { place: NodePlace; hints: boolean },
): Init<DatapathBackend> | undefined {
  const { place, hints } = options;
  const local = backend.node !== "" && backend.node === place.nodeName;
  // Hints are given to ready backends only: one that ends must not lose its connections with its hint.
  const near = !hints || backend.hintZones.includes(place.zone) ||
    (backend.state !== "ACTIVE" && backend.hintZones.length === 0);
  const serves = (policy: TrafficPolicy) => policy === "LOCAL" || onlyHostPorts(port) ? local : near;
  const internal = serves(port.internalTrafficPolicy), external = serves(port.externalTrafficPolicy);
  if (!internal && !external) return undefined;
  return {
    service: port.id,
    address: backend.address,
    port: backend.port,
    state: backend.state === "BACKEND_STATE_UNSPECIFIED" ? "ACTIVE" : backend.state,
    weight: backend.weight || 1,
    internal,
    external,
  };
}
