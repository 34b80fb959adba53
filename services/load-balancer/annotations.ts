/**
 * Annotations of services that say how they are balanced: our own, Kubernetes', and Cilium's where it has the same.
 * @module
 */
import { formatRequirement, IpAddress, parseSelector, SelectorError } from "@weir/common";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import { TABLE_SIZES } from "./maglev_size.ts";
import type { ServiceSpec, ServiceType } from "./model.ts";

/** Names of annotations, the first is the one to recommend. */
export const ANNOTATIONS = {
  algorithm: ["weir.io/lb-algorithm", "service.cilium.io/lb-algorithm"],
  tableSize: ["weir.io/maglev-table-size"],
  forwarding: ["weir.io/forwarding-mode", "service.cilium.io/forwarding-mode"],
  requestedIps: ["weir.io/lb-ips", "lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"],
  sharingKey: ["weir.io/lb-sharing-key", "lbipam.cilium.io/sharing-key", "io.cilium/lb-ipam-sharing-key"],
  sourceRanges: ["weir.io/source-ranges-policy", "service.cilium.io/src-ranges-policy"],
  topology: ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"],
  onlyType: ["service.cilium.io/type"],
  nodeSelector: ["service.cilium.io/node-selector"],
  node: ["service.cilium.io/node"],
} as const;

/** Annotations that mean something elsewhere and nothing here yet, with what is so without them. */
const NOT_HONOURED: Readonly<Record<string, string>> = {
  "service.cilium.io/global": "not honoured: services are of this cluster alone",
  "service.cilium.io/shared": "not honoured: services are of this cluster alone",
  "service.cilium.io/affinity": "not honoured: services are of this cluster alone",
  "service.cilium.io/global-sync-endpoint-slices": "not honoured: services are of this cluster alone",
  "service.cilium.io/proxy-delegation": "not honoured: a node's own backends are reached as all others are",
  "service.cilium.io/lb-l7": "not honoured: connections are balanced, not requests",
  "service.cilium.io/lb-l7-algorithm": "not honoured: connections are balanced, not requests",
  "service.cilium.io/loadbalancer-mode": "not honoured: service.cilium.io/forwarding-mode says it",
  "lbipam.cilium.io/sharing-cross-namespace":
    "not honoured: services with one sharing key share in every namespace",
};

/** Annotation of an EndpointSlice: the weight of its endpoints. */
export const ANNOTATION_WEIGHT = "weir.io/weight";

/** What annotations say of a service. */
export type AnnotatedFields = Partial<
  Pick<
    ServiceSpec,
    | "algorithm"
    | "tableSize"
    | "forwarding"
    | "requestedIps"
    | "sharingKey"
    | "sourceRangesDeny"
    | "topology"
    | "onlyType"
    | "nodeSelector"
  >
>;

/**
 * Reads the annotations that are ours to read; the others belong to somebody else and are left alone.
 * @param warn is told of those of which only the name is known
 */
export function readAnnotations(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  warn: (node: ManifestNode, detail: string) => void,
): AnnotatedFields {
  const found: AnnotatedFields = {};
  if (node === undefined || node.kind === "null") return found;
  if (node.kind !== "map") {
    reader.invalid(node, "annotations are no map of texts");
    return found;
  }
  const text = (names: readonly string[]) => {
    for (const name of names) {
      const value = node.fields.get(name)?.value;
      if (value !== undefined) return { value, text: reader.string(value, 4096) ?? "" };
    }
    return undefined;
  };
  const choice = <T>(names: readonly string[], choices: Record<string, T>): T | undefined => {
    const given = text(names);
    if (given === undefined) return undefined;
    if (Object.hasOwn(choices, given.text.toLowerCase())) return choices[given.text.toLowerCase()];
    return reader.invalid(
      given.value,
      `${JSON.stringify(given.text.slice(0, 40))}, want ${Object.keys(choices).join(" or ")}`,
    );
  };
  found.algorithm = choice(ANNOTATIONS.algorithm, { maglev: "MAGLEV" as const, random: "RANDOM" as const });
  found.forwarding = choice(ANNOTATIONS.forwarding, { snat: "SNAT" as const, dsr: "DSR" as const });
  found.sourceRangesDeny = choice(ANNOTATIONS.sourceRanges, { allow: false, deny: true });
  found.topology = choice(ANNOTATIONS.topology, {
    auto: "auto" as const,
    disabled: "" as const,
    "": "" as const,
  });
  const size = text(ANNOTATIONS.tableSize);
  if (size !== undefined) {
    if (TABLE_SIZES.includes(Number(size.text))) found.tableSize = Number(size.text);
    else {
      reader.invalid(
        size.value,
        `${JSON.stringify(size.text.slice(0, 40))}, want one of ${TABLE_SIZES.join(", ")}`,
      );
    }
  }
  const ips = text(ANNOTATIONS.requestedIps);
  if (ips !== undefined) {
    found.requestedIps = [];
    for (const part of ips.text.split(",").map((part) => part.trim()).filter((part) => part !== "")) {
      const address = IpAddress.tryParse(part);
      if (address === undefined) reader.invalid(ips.value, `${JSON.stringify(part)} is no IP address`);
      else found.requestedIps.push(address.text);
    }
  }
  const onlyType = text(ANNOTATIONS.onlyType);
  if (onlyType !== undefined) {
    const type = EXPOSED_TYPES.find((one) => one === onlyType.text);
    if (type !== undefined) found.onlyType = type;
    else {
      reader.invalid(
        onlyType.value,
        `${JSON.stringify(onlyType.text.slice(0, 40))}, want one of ${EXPOSED_TYPES.join(", ")}`,
      );
    }
  }
  const selector = text(ANNOTATIONS.nodeSelector), label = text(ANNOTATIONS.node);
  if (selector !== undefined) found.nodeSelector = readSelector(reader, selector);
  else if (label !== undefined) {
    found.nodeSelector = readSelector(reader, { ...label, text: `${ANNOTATIONS.node[0]}=${label.text}` });
  }
  for (const [name, why] of Object.entries(NOT_HONOURED)) {
    const value = node.fields.get(name)?.value;
    if (value !== undefined) warn(value, `${name} is ${why}`);
  }
  const key = text(ANNOTATIONS.sharingKey);
  if (key !== undefined) found.sharingKey = key.text;
  return found;
}

/** Types that a service may be reduced to. */
const EXPOSED_TYPES: readonly ServiceType[] = ["ClusterIP", "NodePort", "LoadBalancer"];

/** Terms of a label selector of nodes. */
function readSelector(
  reader: ManifestReader,
  { value, text }: { value: ManifestNode; text: string },
): string[] {
  try {
    return parseSelector(text).requirements.map(formatRequirement);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    reader.invalid(value, `${error.found}, want ${error.expected}`);
    return [];
  }
}
