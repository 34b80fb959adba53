/**
 * Reading of v1 Service, with Kubernetes' own defaults and checks.
 * @module
 */
import { IpAddress, Prefix } from "@weir/common";
import { describe, type ManifestNode, type ManifestObject, type ManifestReader } from "@weir/common/manifest";
import type { TrafficPolicy } from "@weir/proto/loadbalancer";
import { readAnnotations } from "./annotations.ts";
import {
  type PortSpec,
  type Protocol,
  type ServiceSpec,
  type ServiceType,
  type Topology,
  wantsHealthCheck,
} from "./model.ts";

/** Most ports of one service, source ranges, and addresses of one kind. */
export const PORTS_MAX = 256;
const RANGES_MAX = 1024;
const ADDRESSES_MAX = 64;
/** Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`, three hours, and its maximum, a day. */
const AFFINITY_S_DEFAULT = 10_800;
const AFFINITY_S_MAX = 86_400;

const FIELDS = [
  "type",
  "clusterIP",
  "clusterIPs",
  "ipFamilies",
  "ipFamilyPolicy",
  "ports",
  "selector",
  "externalIPs",
  "loadBalancerIP",
  "loadBalancerClass",
  "loadBalancerSourceRanges",
  "allocateLoadBalancerNodePorts",
  "externalTrafficPolicy",
  "internalTrafficPolicy",
  "sessionAffinity",
  "sessionAffinityConfig",
  "publishNotReadyAddresses",
  "trafficDistribution",
  "externalName",
  "healthCheckNodePort",
];
/** What each `trafficDistribution` means here; PreferClose is PreferSameZone's older name. */
const DISTRIBUTION: Record<string, Topology> = {
  PreferClose: "zone",
  PreferSameZone: "zone",
  PreferSameNode: "node",
};

const TRAFFIC: Record<string, TrafficPolicy> = { Cluster: "CLUSTER", Local: "LOCAL" };

/** Reads the object; undefined after a fault. */
export function readService(context: ManifestObject): ServiceSpec | undefined {
  const { reader, root, metadata, namespace, name, warn } = context;
  const top = reader.map(root, ["apiVersion", "kind", "metadata", "spec", "status"]);
  const node = top?.get("spec");
  if (node === undefined) return reader.invalid(root, "spec is missing");
  const fields = reader.map(node, FIELDS);
  if (fields === undefined) return undefined;
  const field = (key: string) => fields.get(key);
  const choice = <T>(key: string, choices: Record<string, T>, otherwise: T): T => {
    const value = field(key);
    const text = value && reader.string(value, 64);
    if (value === undefined || text === undefined || text === "") return otherwise;
    if (Object.hasOwn(choices, text)) return choices[text];
    reader.invalid(value, `${JSON.stringify(text)}, want ${Object.keys(choices).join(", ")}`);
    return otherwise;
  };
  const type = choice<ServiceType>("type", {
    ClusterIP: "ClusterIP",
    NodePort: "NodePort",
    LoadBalancer: "LoadBalancer",
    ExternalName: "ExternalName",
  }, "ClusterIP");
  const annotated = readAnnotations(reader, metadata?.fields.get("annotations")?.value, warn);
  const selector = field("selector") && reader.texts(field("selector"));
  const spec: ServiceSpec = {
    namespace,
    name,
    labels: reader.texts(metadata?.fields.get("labels")?.value) ?? {},
    type,
    clusterIps: readClusterIps(reader, fields),
    ipFamilies: readFamilies(reader, field("ipFamilies")),
    ipFamilyPolicy: choice("ipFamilyPolicy", {
      SingleStack: "SingleStack" as const,
      PreferDualStack: "PreferDualStack" as const,
      RequireDualStack: "RequireDualStack" as const,
    }, "SingleStack"),
    externalName: type === "ExternalName" ? reader.string(field("externalName"), 253) : undefined,
    ports: readPorts(context, field("ports"), type),
    selector: selector && Object.keys(selector).length > 0 ? selector : undefined,
    externalIps: readAddresses(reader, field("externalIPs")),
    requestedIps: annotated.requestedIps ?? readAddress(reader, field("loadBalancerIP")),
    sharingKey: annotated.sharingKey ?? "",
    ingressIps: readIngress(top?.get("status")),
    loadBalancerClass: reader.string(field("loadBalancerClass"), 253) ?? "",
    allocateNodePorts: reader.boolean(field("allocateLoadBalancerNodePorts")) ?? true,
    sourceRanges: readRanges(reader, field("loadBalancerSourceRanges")),
    sourceRangesDeny: annotated.sourceRangesDeny ?? false,
    externalTrafficPolicy: choice("externalTrafficPolicy", TRAFFIC, "CLUSTER"),
    internalTrafficPolicy: choice("internalTrafficPolicy", TRAFFIC, "CLUSTER"),
    affinityTimeoutS: choice("sessionAffinity", { None: false, ClientIP: true }, false)
      ? readAffinity(reader, field("sessionAffinityConfig"))
      : 0,
    publishNotReady: reader.boolean(field("publishNotReadyAddresses")) ?? false,
    healthCheckNodePort: reader.integer(field("healthCheckNodePort"), 0, 65535) ?? 0,
    topology: choice("trafficDistribution", DISTRIBUTION, annotated.topology ?? "hints"),
    onlyType: annotated.onlyType,
    nodeSelector: annotated.nodeSelector ?? [],
    algorithm: annotated.algorithm,
    tableSize: annotated.tableSize,
    forwarding: annotated.forwarding,
  };
  checkFamilies(reader, node, spec);
  if (spec.healthCheckNodePort !== 0 && !wantsHealthCheck(spec)) {
    warn(field("healthCheckNodePort")!, "used by type LoadBalancer with externalTrafficPolicy Local only");
  }
  if (spec.sourceRanges.length > 0 && type !== "LoadBalancer") {
    warn(field("loadBalancerSourceRanges")!, `used by type LoadBalancer only, this is ${type}`);
  }
  return spec;
}

function readPorts(context: ManifestObject, node: ManifestNode | undefined, type: ServiceType): PortSpec[] {
  const { reader, root } = context;
  const items = reader.list(node, PORTS_MAX) ?? [];
  const ports: PortSpec[] = [];
  const keys = new Set<string>(), names = new Set<string>();
  for (const item of items) {
    const fields = reader.map(item, ["name", "protocol", "port", "targetPort", "nodePort", "appProtocol"]);
    if (fields === undefined) continue;
    const protocol = reader.string(fields.get("protocol"), 16) ?? "TCP";
    if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") {
      reader.invalid(fields.get("protocol")!, `${JSON.stringify(protocol)}, want TCP, UDP or SCTP`);
      continue;
    }
    if (!fields.has("port")) {
      reader.invalid(item, "port is missing");
      continue;
    }
    const port = reader.integer(fields.get("port"), 1, 65535);
    if (port === undefined) continue;
    const targetPort = readTargetPort(reader, fields.get("targetPort"), port);
    if (targetPort === undefined) continue;
    if (protocol === "SCTP" && typeof targetPort === "number" && targetPort !== port) {
      reader.invalid(
        fields.get("targetPort")!,
        `${targetPort} is not ${port}: SCTP ports are not rewritten, targetPort must be the port itself`,
      );
    }
    const name = reader.string(fields.get("name"), 63) ?? "";
    const nodePort = reader.integer(fields.get("nodePort"), 0, 65535) ?? 0;
    if (nodePort !== 0 && type !== "NodePort" && type !== "LoadBalancer") {
      context.warn(fields.get("nodePort")!, `used by types NodePort and LoadBalancer, this is ${type}`);
    }
    if (keys.has(`${port}/${protocol}`)) {
      reader.invalid(item, `port ${port}/${protocol} is there twice`);
    }
    keys.add(`${port}/${protocol}`);
    if (items.length > 1 && name === "") {
      reader.invalid(item, "name is missing: a service of several ports names each");
    }
    if (names.has(name)) reader.invalid(item, `name ${JSON.stringify(name)} is there twice`);
    names.add(name);
    ports.push({ name, protocol: protocol as Protocol, port, targetPort, nodePort });
  }
  if (items.length === 0 && type !== "ExternalName") {
    const headless = String(root.fields.get("spec")?.value.fields.get("clusterIP")?.value.scalar) === "None";
    if (!headless) reader.invalid(node ?? root, "ports are missing, want at least one");
  }
  return ports;
}

function readTargetPort(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  port: number,
): number | string | undefined {
  if (node === undefined) return port;
  if (node.kind === "string") {
    const text = node.scalar as string;
    if (/^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/.test(text)) return text;
    return reader.invalid(node, `${describe(node)} is no port name, want 1 to 15 of a-z, 0-9 and -`);
  }
  return reader.integer(node, 1, 65535);
}

function readClusterIps(
  reader: ManifestReader,
  fields: ReadonlyMap<string, ManifestNode>,
): string[] | undefined {
  const one = fields.get("clusterIP"), many = fields.get("clusterIPs");
  const nodes = [...(reader.list(many, 2) ?? [])];
  if (one !== undefined) {
    const text = reader.string(one, 64);
    if (text === "None") return [];
    if (nodes.length === 0 && text !== "") nodes.push(one);
  }
  const found: string[] = [];
  for (const node of nodes) {
    if (node.scalar === "None") return [];
    if (node.scalar === "") continue;
    found.push(...readAddress(reader, node));
  }
  return found.length === 0 ? undefined : found;
}

function readFamilies(reader: ManifestReader, node: ManifestNode | undefined): (4 | 6)[] {
  const families: (4 | 6)[] = [];
  for (const item of reader.list(node, 2) ?? []) {
    const text = reader.string(item, 8);
    if (text === "IPv4" || text === "IPv6") families.push(text === "IPv4" ? 4 : 6);
    else reader.invalid(item, `${describe(item)}, want IPv4 or IPv6`);
  }
  return families;
}

function checkFamilies(reader: ManifestReader, node: ManifestNode, spec: ServiceSpec): void {
  const families = (spec.clusterIps ?? []).map((text) => IpAddress.parse(text).family);
  if (new Set(families).size < families.length || new Set(spec.ipFamilies).size < spec.ipFamilies.length) {
    reader.invalid(node, "two addresses of one family, want one of each");
  }
  const place = node.fields.get("ipFamilies")?.value ?? node;
  for (const [index, family] of spec.ipFamilies.entries()) {
    if (index < families.length && families[index] !== family) {
      reader.invalid(
        place,
        `ipFamilies[${index}] is IPv${family}, but clusterIPs[${index}] is IPv${families[index]}`,
      );
    }
  }
  if (spec.ipFamilyPolicy === "SingleStack" && Math.max(families.length, spec.ipFamilies.length) > 1) {
    reader.invalid(
      place,
      "two families with ipFamilyPolicy SingleStack, want PreferDualStack or RequireDualStack",
    );
  }
}

function readAddress(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  const text = node && reader.string(node, 64);
  if (node === undefined || text === undefined || text === "") return [];
  const address = IpAddress.tryParse(text);
  const why = address === undefined ? "is no IP address" : unusable(address);
  if (why === "") return [address!.text];
  reader.invalid(node, `${JSON.stringify(text)} ${why}`);
  return [];
}

function readAddresses(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  return (reader.list(node, ADDRESSES_MAX) ?? []).flatMap((item) => readAddress(reader, item));
}

/** Why no service may have this address; "" if it may. */
function unusable(address: IpAddress): string {
  const first = address.byteAt(0);
  if (address.family === 4) {
    if (first === 0) return "is unspecified";
    if (first === 127) return "is a loopback address";
    if (first >= 224) return "is a multicast or reserved address";
    if (first === 169 && address.byteAt(1) === 254) return "is a link-local address";
    return "";
  }
  if (address.text === "::") return "is unspecified";
  if (address.text === "::1") return "is a loopback address";
  if (first === 0xff) return "is a multicast address";
  if (first === 0xfe && (address.byteAt(1) & 0xc0) === 0x80) return "is a link-local address";
  return "";
}

function readRanges(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  const ranges: string[] = [];
  for (const item of reader.list(node, RANGES_MAX) ?? []) {
    const text = reader.string(item, 64)?.trim();
    const prefix = text === undefined ? undefined : Prefix.tryParse(text, { bare: false });
    if (prefix === undefined) reader.invalid(item, `${describe(item)}, want a prefix such as 192.0.2.0/24`);
    else ranges.push(prefix.text);
  }
  return ranges;
}

function readAffinity(reader: ManifestReader, node: ManifestNode | undefined): number {
  const clientIp = node && reader.map(node, ["clientIP"])?.get("clientIP");
  const seconds = clientIp && reader.map(clientIp, ["timeoutSeconds"])?.get("timeoutSeconds");
  return reader.integer(seconds, 1, AFFINITY_S_MAX) ?? AFFINITY_S_DEFAULT;
}

/** Addresses in `status.loadBalancer.ingress` that are the service's own; those of a proxy in front are not. */
function readIngress(status: ManifestNode | undefined): string[] {
  const ingress = status?.fields.get("loadBalancer")?.value.fields.get("ingress")?.value;
  return (ingress?.items ?? []).flatMap((item) => {
    const address = IpAddress.tryParse(String(item.fields.get("ip")?.value.scalar ?? ""));
    return address === undefined || item.fields.get("ipMode")?.value.scalar === "Proxy" ? [] : [address.text];
  });
}
