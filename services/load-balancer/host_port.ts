/**
 * The host ports of a pod as a service of its own: it has no manifest and no cluster IP, and one backend.
 * @module
 */
import type { Pod } from "@weir/proto/loadbalancer";
import { portKey, type PortSpec, type Protocol, type ServiceSpec } from "./model.ts";
import type { ServiceSource } from "./service_entry.ts";

/** The ports of a pod that are asked for on its node. */
export function hostPortsOf(pod: Pod): PortSpec[] {
  return pod.ports.filter((port) => port.hostPort !== 0).map((port) => ({
    name: port.name,
    protocol: port.protocol as Protocol,
    port: port.hostPort,
    targetPort: port.port,
    nodePort: 0,
  }));
}

/** The service of a pod's host ports; undefined when it has none. */
export function hostPortSource(pod: Pod | undefined): ServiceSource | undefined {
  const ports = pod === undefined ? [] : hostPortsOf(pod);
  if (pod === undefined || ports.length === 0) return undefined;
  const addresses: Record<string, string> = {};
  for (const port of pod.ports) {
    if (port.hostPort === 0 || port.hostIp === "0.0.0.0" || port.hostIp === "::") continue;
    addresses[portKey({ port: port.hostPort, protocol: port.protocol })] = port.hostIp;
  }
  const spec: ServiceSpec = {
    namespace: pod.namespace,
    name: pod.name.slice(pod.name.indexOf("/") + 1),
    labels: pod.labels,
    type: "ClusterIP",
    ipFamilies: [],
    ipFamilyPolicy: "SingleStack",
    ports,
    externalIps: [],
    requestedIps: [],
    sharingKey: "",
    ingressIps: [],
    loadBalancerClass: "",
    allocateNodePorts: false,
    sourceRanges: [],
    sourceRangesDeny: false,
    externalTrafficPolicy: "CLUSTER",
    internalTrafficPolicy: "CLUSTER",
    affinityTimeoutS: 0,
    publishNotReady: true,
    healthCheckNodePort: 0,
    topology: "",
    nodeSelector: [],
  };
  return {
    spec,
    manifest: "",
    file: "",
    line: 0,
    createdUnixS: pod.createdUnixS,
    hostPorts: { node: pod.node, addresses },
  };
}
