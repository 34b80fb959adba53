/**
 * Services as text: the columns of the list, and everything about one.
 *
 * @module
 */
import type { Backend, Frontend, Service, ServicePort } from "@weir/proto/loadbalancer";
import { age, type Column, table } from "./output.ts";
import { nowS } from "./now.ts";

/** Columns of `weir service list`, as kubectl has them. */
export const SERVICE_COLUMNS: Column<Service>[] = [
  { title: "NAMESPACE", cell: (service) => service.namespace },
  { title: "NAME", cell: (service) => service.serviceName },
  { title: "TYPE", cell: (service) => service.type },
  { title: "CLUSTER-IP", cell: (service) => clusterIpText(service) },
  { title: "EXTERNAL-IP", cell: (service) => externalIpText(service) },
  { title: "PORT(S)", cell: (service) => service.ports.map(portText).join(",") },
  {
    title: "BACKENDS",
    cell: (service) =>
      service.ignored === "" ? `${service.activeBackends}/${service.backends + service.excludedPods}` : "",
  },
  { title: "AGE", cell: (service) => age(service.createdUnixS, nowS()) },
  { title: "IDS", cell: (service) => service.ports.map(({ id }) => id).join(","), wide: true },
  { title: "ALGORITHM", cell: (service) => distinct(service.ports.map(algorithmText)), wide: true },
  {
    title: "FORWARDING",
    cell: (service) => distinct(service.ports.map((port) => port.forwarding.toLowerCase())),
    wide: true,
  },
  { title: "TRAFFIC", cell: (service) => distinct(service.ports.map(policyText)), wide: true },
  { title: "AFFINITY", cell: (service) => distinct(service.ports.map(affinityText)), wide: true },
  {
    title: "MESSAGE",
    cell: (service) =>
      service.ignored ||
      service.conditions.filter((condition) => !condition.ok).map(({ message }) => message).join("; "),
    wide: true,
  },
];

/** Everything about one service, for people. */
export function describeService(service: Service, backends: readonly Backend[], nowUnixS: number): string {
  const lines: [string, string][] = [
    ["Name", `${service.namespace}/${service.serviceName}`],
    ["Type", service.type],
    ["Cluster IPs", clusterIpText(service)],
    ["External IPs", externalIpText(service) || "-"],
    ["Age", age(service.createdUnixS, nowUnixS)],
  ];
  if (service.file !== "") lines.push(["Manifest", `${service.file}:${service.line}`]);
  if (service.ignored !== "") lines.push(["Not served", service.ignored]);
  const parts = [lines.map(([name, value]) => `${`${name}:`.padEnd(14)}${value}`).join("\n")];
  if (service.ports.length > 0) parts.push(`Frontends\n${frontendTable(service)}`);
  for (const port of service.ports) {
    const own = backends.filter((backend) => backend.service === port.id);
    parts.push(`Backends of ${portName(port)} (id ${port.id})\n${settings(port)}\n${backendTable(own)}`);
  }
  if (service.excluded.length > 0) {
    const rows = service.excluded.map(({ pod, node, reason }) => [pod, node || "-", reason]);
    const more = service.excludedPods - rows.length;
    parts.push(
      `Selected, and no backend\n${indent(table(["POD", "NODE", "WHY"], rows))}${
        more > 0 ? `  and ${more} more\n` : ""
      }`,
    );
  }
  if (service.conditions.length > 0) {
    parts.push(
      `Conditions\n${
        indent(table(
          ["TYPE", "OK", "REASON", "MESSAGE"],
          service.conditions.map((
            { type, ok, reason, message },
          ) => [type, ok ? "yes" : "no", reason, message]),
        ))
      }`,
    );
  }
  return parts.map((part) => part.trimEnd()).join("\n\n") + "\n";
}

function frontendTable(service: Service): string {
  const rows = service.ports.flatMap((port) =>
    port.frontends.map((frontend) => [
      KINDS[frontend.kind] ?? frontend.kind,
      addressText(frontend),
      String(frontend.port),
      port.protocol,
      portName(port),
      frontend.node || "every",
    ])
  );
  return indent(table(["KIND", "ADDRESS", "PORT", "PROTOCOL", "OF", "NODE"], rows));
}

function backendTable(backends: readonly Backend[]): string {
  if (backends.length === 0) return "  none\n";
  const rows = [...backends].sort((a, b) => a.name < b.name ? -1 : 1).map((backend) => [
    backend.address,
    String(backend.port),
    backend.state.toLowerCase() +
    (backend.state === "TERMINATING" && !backend.serving ? " (no longer serving)" : ""),
    String(backend.weight || 1),
    backend.node || "-",
    backend.zone || "-",
    backend.pod || "-",
  ]);
  return indent(table(["ADDRESS", "PORT", "STATE", "WEIGHT", "NODE", "ZONE", "POD"], rows));
}

function settings(port: ServicePort): string {
  const parts = [algorithmText(port), port.forwarding.toLowerCase(), `traffic ${policyText(port)}`];
  if (port.affinityTimeoutS > 0) parts.push(`affinity ${affinityText(port)}`);
  if (port.topologyHints) parts.push("topology hints");
  if (port.healthCheckNodePort > 0) parts.push(`health check node port ${port.healthCheckNodePort}`);
  if (port.nodeSelector.length > 0) parts.push(`on nodes with ${port.nodeSelector.join(",")}`);
  if (port.sourceRanges.length > 0) {
    parts.push(`${port.sourceRangesDeny ? "not from" : "from"} ${port.sourceRanges.join(", ")}`);
  }
  return `  ${parts.join("; ")}`;
}

const KINDS: Readonly<Record<string, string>> = {
  CLUSTER_IP: "ClusterIP",
  NODE_PORT: "NodePort",
  LOAD_BALANCER: "LoadBalancer",
  EXTERNAL_IP: "ExternalIP",
  HOST_PORT: "HostPort",
};

function clusterIpText(service: Service): string {
  if (service.clusterIps.length > 0) return service.clusterIps.join(",");
  return service.ignored.startsWith("headless") ? "None" : "";
}

function externalIpText(service: Service): string {
  if (service.externalIps.length > 0) return service.externalIps.join(",");
  const waits = service.conditions.some(({ type, ok }) => type === "AddressPool" && !ok);
  return waits ? "<pending>" : "";
}

/** "80/TCP", with its node port "80:30080/TCP", as kubectl writes it. */
function portText(port: ServicePort): string {
  const main = port.frontends.find(({ kind }) => kind !== "NODE_PORT")?.port;
  const node = port.frontends.find(({ kind }) => kind === "NODE_PORT")?.port;
  return `${
    [main, node].filter((part) => part !== undefined).join(":") || port.portName || "?"
  }/${port.protocol}`;
}

function portName(port: ServicePort): string {
  return port.portName || `${port.frontends[0]?.port ?? "?"}/${port.protocol}`;
}

function addressText({ address, kind }: Frontend): string {
  if (address !== "") return address;
  return kind === "HOST_PORT" ? "every of the node" : "every of the nodes";
}

function algorithmText(port: ServicePort): string {
  return port.algorithm === "MAGLEV" ? `maglev/${port.tableSize}` : "random";
}

function policyText(port: ServicePort): string {
  const text = (policy: string) => policy === "LOCAL" ? "Local" : "Cluster";
  return `external ${text(port.externalTrafficPolicy)}, internal ${text(port.internalTrafficPolicy)}`;
}

function affinityText(port: ServicePort): string {
  return port.affinityTimeoutS === 0 ? "none" : `ClientIP ${port.affinityTimeoutS}s`;
}

function distinct(values: readonly string[]): string {
  return [...new Set(values)].join(",");
}

function indent(text: string): string {
  return text.trimEnd().split("\n").map((line) => `  ${line}`).join("\n") + "\n";
}
