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
import { parseSelectorTerms, selectsTexts } from "@weir/common";
import type { Init } from "@weir/proto";
import type { DatapathBackend, DatapathFrontend, DatapathService } from "@weir/proto/datapath";
import type { Backend, BackendState, ServicePort, TrafficPolicy } from "@weir/proto/loadbalancer";

/** Where this node is. */
export interface NodePlace {
  nodeName: string;
  /** `""`: unknown; hints are not honoured then. */
  zone: string;
  /** "key=value", with or without the source that they come from. */
  labels: readonly string[];
}

/** Which of the hints narrow the backends of a node; `""`: none, every backend serves. */
export type HintsInForce = "" | "zone" | "node";

/** `namespace/service:port`, where a port without a name goes by its number. */
export function servicePortName(port: ServicePort): string {
  return `${port.namespace}/${port.service}:${port.portName || port.frontends[0]?.port || port.protocol}`;
}

/** Whether the service is for this node. */
export function isServedHere({ nodeSelector }: ServicePort, { labels }: NodePlace): boolean {
  return nodeSelector.length === 0 || selectsTexts(parseSelectorTerms(nodeSelector), labels);
}

/** The service as this node serves it; undefined when it, or none of its frontends, is for this node. */
export function viewService(port: ServicePort, place: NodePlace): Init<DatapathService> | undefined {
  if (!isServedHere(port, place)) return undefined;
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
 * Which hints narrow the backends of this node: those for nodes when every active backend has some and one of them names this
 * node, else those for zones in the same way. Else all serve, because a place without backends must not be without service.
 */
export function hintsInForce(port: ServicePort, backends: Iterable<Backend>, place: NodePlace): HintsInForce {
  if (!port.topologyHints) return "";
  let all = 0, withNodes = 0, withZones = 0, node = false, zone = false;
  for (const { state, hintZones, hintNodes } of backends) {
    if (state !== "ACTIVE" && state !== "BACKEND_STATE_UNSPECIFIED") continue;
    all++;
    withNodes += Number(hintNodes.length > 0);
    withZones += Number(hintZones.length > 0);
    node ||= hintNodes.includes(place.nodeName);
    zone ||= place.zone !== "" && hintZones.includes(place.zone);
  }
  if (node && withNodes === all) return "node";
  return zone && withZones === all ? "zone" : "";
}

/** A service whose every frontend is a host port serves from this node's pods alone. */
function onlyHostPorts(port: ServicePort): boolean {
  return port.frontends.length > 0 && port.frontends.every((f) => f.kind === "HOST_PORT");
}

/** The backend as this node may use it; undefined when it may not. `hints` is {@link hintsInForce} of the service. */
export function viewBackend(
  port: ServicePort,
  backend: Backend,
  options: { place: NodePlace; hints: HintsInForce },
): Init<DatapathBackend> | undefined {
  const { place, hints } = options;
  const local = backend.node !== "" && backend.node === place.nodeName;
  // Hints are about who gets new connections: one that ends must not lose those that it has.
  const isActive = backend.state === "ACTIVE" || backend.state === "BACKEND_STATE_UNSPECIFIED";
  const near = hints === "" || !isActive ||
    (hints === "node" ? backend.hintNodes.includes(place.nodeName) : backend.hintZones.includes(place.zone));
  const serves = (policy: TrafficPolicy) => policy === "LOCAL" || onlyHostPorts(port) ? local : near;
  const internal = serves(port.internalTrafficPolicy), external = serves(port.externalTrafficPolicy);
  if (!internal && !external) return undefined;
  return {
    service: port.id,
    address: backend.address,
    port: backend.port,
    state: stateHere(backend),
    weight: backend.weight || 1,
    internal,
    external,
  };
}

/** Where nobody is active, those that end take over, but only those that still answer: others keep what they have. */
function stateHere({ state, serving }: Backend): BackendState {
  if (state === "TERMINATING" && !serving) return "QUARANTINED";
  return state === "BACKEND_STATE_UNSPECIFIED" ? "ACTIVE" : state;
}
