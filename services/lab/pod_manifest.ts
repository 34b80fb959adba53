/**
 * The Pod, as far as a lab honours it. What changes nothing in a lab is taken without a word, what cannot be honoured is
 * refused by name.
 *
 * @module
 */
import { describe, type ManifestNode, type ManifestObject, type ManifestReader } from "@weir/common/manifest";
import type { ContainerPortManifest, PodCommand, PodManifest } from "./manifest.ts";

/** Pod fields that change nothing in a lab and need no word. */
const SPEC_IGNORED = [
  "restartPolicy",
  "automountServiceAccountToken",
  "enableServiceLinks",
  "tolerations",
  "imagePullSecrets",
  "dnsPolicy",
  "serviceAccount",
];
const SPEC_FIELDS = [
  "nodeName",
  "hostNetwork",
  "serviceAccountName",
  "containers",
  "terminationGracePeriodSeconds",
];
const CONTAINER_FIELDS = [
  "name",
  "image",
  "command",
  "args",
  "ports",
  "env",
  "workingDir",
  "readinessProbe",
  "lifecycle",
];
const CONTAINER_IGNORED = [
  "imagePullPolicy",
  "resources",
  "livenessProbe",
  "startupProbe",
  "terminationMessagePath",
  "terminationMessagePolicy",
];

/** Most items of one list. */
const ITEMS_MAX = 1000;

/** Kubernetes' own default of terminationGracePeriodSeconds, and the longest a lab takes. */
const GRACE_S_DEFAULT = 30;
const GRACE_S_MAX = 3600;

const PORT_NAME = /^(?=.*[a-z])[a-z0-9-]{1,15}$/;
const NODE_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** Annotation that names the pool of its addresses. */
const ANNOTATION_POOL = "ipam.cilium.io/ip-pool";

/** What a Pod's spec says. */
export type PodSpec = Omit<PodManifest, "kind" | "name" | "namespace" | "labels" | "source">;

/** Reads the object; undefined after a fault. */
export function readPod(object: ManifestObject): PodSpec | undefined {
  const { reader, root } = object;
  const top = reader.map(root, ["apiVersion", "kind", "metadata", "spec", "status"]);
  const node = top?.get("spec");
  if (node === undefined) return reader.invalid(root, "spec is missing");
  const fields = reader.map(
    node,
    [...SPEC_FIELDS, ...SPEC_IGNORED],
    notInLab(node, SPEC_FIELDS, SPEC_IGNORED),
  );
  const containers = (reader.list(fields?.get("containers"), ITEMS_MAX) ?? [])
    .map((item, index) => readContainer(object, item, index));
  const ports = containers.flatMap((container) => container.ports);
  return {
    nodeName: readName(reader, fields?.get("nodeName")),
    serviceAccountName: readName(reader, fields?.get("serviceAccountName")) ?? "default",
    hostNetwork: reader.boolean(fields?.get("hostNetwork")) ?? false,
    pool: reader.texts(object.metadata?.fields.get("annotations")?.value)?.[ANNOTATION_POOL] ?? "",
    ports: ports.filter((port) => port.name !== "")
      .map(({ name, port, protocol }) => ({ name, port, protocol })),
    containerPorts: ports,
    readyPorts: containers.flatMap((container) => container.readyPorts),
    gracePeriodS: readSeconds(reader, fields?.get("terminationGracePeriodSeconds")) ?? GRACE_S_DEFAULT,
    preStopS: Math.max(0, ...containers.map((container) => container.preStopS)),
    commands: containers.flatMap((container) => container.command ?? []),
  };
}

/** Why fields of a map that are neither known nor ignored are refused, for `ManifestReader.map`. */
function notInLab(
  node: ManifestNode,
  known: readonly string[],
  ignored: readonly string[],
): Record<string, string> {
  const others = [...node.fields.keys()].filter((key) => !known.includes(key) && !ignored.includes(key));
  return Object.fromEntries(others.map((key) => [key, "not supported in a lab"]));
}

interface Container {
  readonly ports: readonly ContainerPortManifest[];
  readonly readyPorts: readonly number[];
  readonly preStopS: number;
  readonly command: PodCommand | undefined;
}

function readContainer(object: ManifestObject, node: ManifestNode, index: number): Container {
  const { reader, warn } = object;
  const fields = reader.map(
    node,
    [...CONTAINER_FIELDS, ...CONTAINER_IGNORED],
    notInLab(node, CONTAINER_FIELDS, CONTAINER_IGNORED),
  );
  const field = (name: string) => fields?.get(name);
  const ports = (reader.list(field("ports"), ITEMS_MAX) ?? []).flatMap((item) =>
    readPort(reader, item) ?? []
  );
  const words = [...readWords(reader, field("command")), ...readWords(reader, field("args"))];
  const runs = field("command") !== undefined;
  if (field("image") !== undefined) {
    const nothing = runs ? "" : ", and without a command the pod runs nothing";
    warn(field("image")!, `image is not used in a lab${nothing}`);
  }
  const command = {
    container: reader.string(field("name"), 253) ?? `container-${index}`,
    words,
    environment: readEnvironment(reader, field("env")),
    directory: reader.string(field("workingDir")),
  };
  return {
    ports,
    readyPorts: readProbe(object, field("readinessProbe"), ports),
    preStopS: readPreStop(object, field("lifecycle")),
    command: runs && words.length > 0 ? command : undefined,
  };
}

/** The port that a probe of TCP or HTTP asks: being listened on is what a lab looks at. */
function readProbe(
  { reader, warn }: ManifestObject,
  node: ManifestNode | undefined,
  ports: readonly ContainerPortManifest[],
): number[] {
  if (node === undefined) return [];
  const target = node.fields.get("tcpSocket")?.value ?? node.fields.get("httpGet")?.value;
  if (target === undefined) {
    warn(
      node,
      "readinessProbe: a lab looks whether a port is listened on (tcpSocket, httpGet), nothing else",
    );
    return [];
  }
  const place = target.fields.get("port")?.value;
  const port = place?.scalar;
  const number = typeof port === "number" ? port : ports.find(({ name }) => name === port)?.port;
  if (number !== undefined && Number.isInteger(number) && number > 0 && number < 65536) return [number];
  reader.invalid(
    place ?? target,
    `port is ${place ? describe(place) : "missing"}, want a number or a port's name`,
  );
  return [];
}

function readPreStop({ reader, warn }: ManifestObject, node: ManifestNode | undefined): number {
  if (node === undefined) return 0;
  const preStop = node.fields.get("preStop")?.value;
  const sleep = preStop?.fields.get("sleep")?.value;
  if (node.fields.size > (preStop ? 1 : 0) || (preStop !== undefined && sleep === undefined)) {
    warn(node, "lifecycle: a lab knows preStop.sleep, nothing else");
  }
  return readSeconds(reader, sleep && reader.map(sleep, ["seconds"])?.get("seconds")) ?? 0;
}

function readSeconds(reader: ManifestReader, node: ManifestNode | undefined): number | undefined {
  const value = node?.scalar;
  if (node === undefined || (typeof value === "number" && value >= 0 && value <= GRACE_S_MAX)) {
    return value as number | undefined;
  }
  return reader.invalid(node, `${describe(node)}, want 0 to ${GRACE_S_MAX} seconds`);
}

function readPort(reader: ManifestReader, node: ManifestNode): ContainerPortManifest | undefined {
  const fields = reader.map(node, ["name", "containerPort", "protocol", "hostPort", "hostIP"]);
  const port = reader.integer(fields?.get("containerPort"), 1, 65535);
  if (fields !== undefined && !fields.has("containerPort")) reader.invalid(node, "containerPort is missing");
  const protocol = reader.string(fields?.get("protocol"), 16) ?? "TCP";
  if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") {
    return reader.invalid(fields!.get("protocol")!, `${JSON.stringify(protocol)}, want TCP, UDP or SCTP`);
  }
  const name = reader.string(fields?.get("name"), 63) ?? "";
  if (name !== "" && !PORT_NAME.test(name)) {
    reader.invalid(fields!.get("name")!, `${JSON.stringify(name)}, want 1 to 15 of a-z, 0-9 and -`);
  }
  return port === undefined ? undefined : {
    name,
    port,
    protocol,
    hostPort: reader.integer(fields?.get("hostPort"), 0, 65535) ?? 0,
    hostIp: reader.string(fields?.get("hostIP"), 64) ?? "",
  };
}

function readEnvironment(reader: ManifestReader, node: ManifestNode | undefined): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const item of reader.list(node, ITEMS_MAX) ?? []) {
    const fields = reader.map(item, ["name", "value"], { valueFrom: "not supported in a lab" });
    const name = reader.string(fields?.get("name"));
    if (name === undefined) reader.invalid(item, "name is missing, want name and value");
    else environment[name] = String(fields?.get("value")?.scalar ?? "");
  }
  return environment;
}

/** Words of a command; numbers that nobody quoted are taken as they stand. */
function readWords(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  return (reader.list(node, ITEMS_MAX) ?? []).flatMap((item) => {
    if (item.kind === "string" || item.kind === "number") return [String(item.scalar)];
    return reader.invalid(item, `${describe(item)}, want a text`) ?? [];
  });
}

function readName(reader: ManifestReader, node: ManifestNode | undefined): string | undefined {
  const name = reader.string(node, 253);
  if (node === undefined || name === undefined || NODE_NAME.test(name)) return name;
  return reader.invalid(node, `${JSON.stringify(name)} is no name, want a-z, 0-9, - and .`);
}
