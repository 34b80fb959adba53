/**
 * Reading of discovery.k8s.io EndpointSlice and v1 Endpoints.
 * @module
 */
import { IpAddress } from "@weir/common";
import { describe, type ManifestNode, type ManifestObject } from "@weir/common/manifest";
import type { BackendState } from "@weir/proto/loadbalancer";
import { ANNOTATION_WEIGHT } from "./annotations.ts";
import type { Protocol, SliceEndpoint, SliceGroup, SliceSpec } from "./model.ts";

/** Most endpoints of one slice, as in Kubernetes; an Endpoints object may hold more. */
export const SLICE_ENDPOINTS_MAX = 1000;
const ENDPOINTS_MAX = 20_000;
/** Most zones and most nodes that one endpoint is hinted for, as in Kubernetes. */
const HINTS_MAX = 8;
const LABEL_SERVICE = "kubernetes.io/service-name";
const LABEL_MANAGED_BY = "endpointslice.kubernetes.io/managed-by";

/** Reads an EndpointSlice; undefined after a fault. */
export function readEndpointSlice(context: ManifestObject): SliceSpec | undefined {
  const { reader, root, metadata, namespace, name, warn } = context;
  const fields = reader.map(root, ["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"]);
  if (fields === undefined) return undefined;
  const labels = reader.texts(metadata?.fields.get("labels")?.value) ?? {};
  const type = reader.string(fields.get("addressType"), 16) ?? "IPv4";
  const service = labels[LABEL_SERVICE] ?? "";
  const spec: SliceSpec = {
    kind: "EndpointSlice",
    namespace,
    name,
    service,
    groups: [],
    weight: readWeight(context),
  };
  if (service === "") {
    warn(metadata ?? root, `no label ${LABEL_SERVICE}: the slice belongs to no service`);
  }
  if (type === "FQDN") {
    warn(fields.get("addressType")!, "FQDN endpoints are not balanced");
    return spec;
  }
  if (type !== "IPv4" && type !== "IPv6") {
    return reader.invalid(fields.get("addressType")!, `${JSON.stringify(type)}, want IPv4, IPv6 or FQDN`);
  }
  const ports = readPorts(context, fields.get("ports"));
  const endpoints: SliceEndpoint[] = [];
  for (const item of reader.list(fields.get("endpoints"), SLICE_ENDPOINTS_MAX) ?? []) {
    const endpoint = readEndpoint(context, item, type === "IPv4" ? 4 : 6);
    if (endpoint !== undefined) endpoints.push(endpoint);
  }
  spec.groups.push({ ports, endpoints });
  return spec;
}

function readEndpoint(context: ManifestObject, item: ManifestNode, family: 4 | 6): SliceEndpoint | undefined {
  const { reader } = context;
  const fields = reader.map(item, [
    "addresses",
    "conditions",
    "hostname",
    "targetRef",
    "nodeName",
    "zone",
    "hints",
    "deprecatedTopology",
    "topology",
  ]);
  if (fields === undefined) return undefined;
  const addresses: string[] = [];
  for (const node of reader.list(fields.get("addresses"), 100) ?? []) {
    const address = IpAddress.tryParse(reader.string(node, 64) ?? "");
    if (address?.family === family) addresses.push(address.text);
    else reader.invalid(node, `${describe(node)}, want an IPv${family} address`);
  }
  const conditions = fields.get("conditions") &&
    reader.map(fields.get("conditions")!, ["ready", "serving", "terminating"]);
  // Unset is unknown, which Kubernetes' consumers read as ready and not terminating. One that ends and is ready all the same is
  // of a service that publishes what is not ready.
  const terminating = reader.boolean(conditions?.get("terminating")) ?? false;
  const ready = reader.boolean(conditions?.get("ready")) ?? !terminating;
  const serving = reader.boolean(conditions?.get("serving")) ?? (ready || terminating);
  const state: BackendState = ready ? "ACTIVE" : terminating ? "TERMINATING" : "BACKEND_STATE_UNSPECIFIED";
  const hints = fields.get("hints") && reader.map(fields.get("hints")!, ["forZones", "forNodes"]);
  const hinted = (field: string) =>
    (reader.list(hints?.get(field), HINTS_MAX) ?? []).flatMap((node) => {
      const name = node.fields.get("name")?.value.scalar;
      return typeof name === "string" ? [name] : [];
    });
  const topology = fields.get("topology") ?? fields.get("deprecatedTopology");
  return {
    // All addresses of one endpoint are the same backend; consumers take the first.
    addresses: addresses.slice(0, 1),
    state,
    serving,
    node: reader.string(fields.get("nodeName"), 253) ?? "",
    zone: reader.string(fields.get("zone"), 253) ??
      String(topology?.fields.get("topology.kubernetes.io/zone")?.value.scalar ?? ""),
    hintZones: hinted("forZones"),
    hintNodes: hinted("forNodes"),
    pod: podOf(fields.get("targetRef"), context.namespace),
  };
}

/** Reads an Endpoints object; undefined after a fault. */
export function readEndpoints(context: ManifestObject): SliceSpec | undefined {
  const { reader, root, metadata, namespace, name } = context;
  const fields = reader.map(root, ["apiVersion", "kind", "metadata", "subsets"]);
  if (fields === undefined) return undefined;
  const groups: SliceGroup[] = [];
  const labels = reader.texts(metadata?.fields.get("labels")?.value) ?? {};
  for (const subset of reader.list(fields.get("subsets"), 1000) ?? []) {
    const parts = reader.map(subset, ["addresses", "notReadyAddresses", "ports"]);
    if (parts === undefined) continue;
    const endpoints: SliceEndpoint[] = [];
    for (
      const [key, state] of [["addresses", "ACTIVE"], ["notReadyAddresses", "BACKEND_STATE_UNSPECIFIED"]]
    ) {
      for (const item of reader.list(parts.get(key), ENDPOINTS_MAX) ?? []) {
        const about = reader.map(item, ["ip", "hostname", "nodeName", "targetRef"]);
        if (about === undefined) continue;
        const address = IpAddress.tryParse(reader.string(about.get("ip"), 64) ?? "");
        if (address === undefined) {
          reader.invalid(about.get("ip") ?? item, "ip is no address");
          continue;
        }
        endpoints.push({
          addresses: [address.text],
          state: state as BackendState,
          serving: state === "ACTIVE",
          node: reader.string(about.get("nodeName"), 253) ?? "",
          zone: "",
          hintZones: [],
          hintNodes: [],
          pod: podOf(about.get("targetRef"), namespace),
        });
      }
    }
    groups.push({ ports: readPorts(context, parts.get("ports")), endpoints });
  }
  // A slice made from this object is the same again.
  const service = labels[LABEL_MANAGED_BY] === undefined ? name : "";
  return { kind: "Endpoints", namespace, name, service, groups, weight: readWeight(context) };
}

function readPorts(context: ManifestObject, node: ManifestNode | undefined): SliceGroup["ports"] {
  const { reader } = context;
  const ports: SliceGroup["ports"] = [];
  for (const item of reader.list(node, 1000) ?? []) {
    const fields = reader.map(item, ["name", "protocol", "port", "appProtocol"]);
    const protocol = reader.string(fields?.get("protocol"), 16) ?? "TCP";
    if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") {
      reader.invalid(fields!.get("protocol")!, `${JSON.stringify(protocol)}, want TCP, UDP or SCTP`);
      continue;
    }
    const port = reader.integer(fields?.get("port"), 1, 65535);
    if (port === undefined) continue;
    ports.push({ name: reader.string(fields?.get("name"), 63) ?? "", protocol: protocol as Protocol, port });
  }
  return ports;
}

function readWeight(context: ManifestObject): number {
  const node = context.metadata?.fields.get("annotations")?.value.fields.get(ANNOTATION_WEIGHT)?.value;
  if (node === undefined) return 0;
  const weight = Number(node.scalar);
  if (Number.isInteger(weight) && weight >= 1 && weight <= 100) return weight;
  context.reader.invalid(node, `${describe(node)}, want a weight from 1 to 100`);
  return 0;
}

function podOf(node: ManifestNode | undefined, namespace: string): string {
  const text = (key: string) => String(node?.fields.get(key)?.value.scalar ?? "");
  if (node === undefined || text("kind") !== "Pod" || text("name") === "") return "";
  return `${text("namespace") || namespace}/${text("name")}`;
}
