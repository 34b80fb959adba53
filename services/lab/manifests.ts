/**
 * Reads Kubernetes manifests into what a lab knows: namespaces, pods, policies, services. A kind or a Pod field that
 * cannot be honoured is refused by name with its place, except where the lab says what it ignores.
 *
 * @module
 */
import { isMap, LineCounter, parseAllDocuments, type ParsedNode } from "yaml";

/** Largest manifest that is read, in bytes. */
export const MANIFEST_BYTES_MAX = 16 << 20;

/** Where a document came from. */
export interface Source {
  readonly file: string;
  /** First line of the document in the file, from 1. */
  readonly line: number;
}

/** A Namespace. */
export interface NamespaceManifest {
  readonly kind: "Namespace";
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly source: Source;
}

/** A port of a container that has a name. */
export interface NamedPortManifest {
  readonly name: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
}

/** A port of a container, as services see it. */
export interface ContainerPortManifest {
  /** "" for a port without a name. */
  readonly name: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP" | "SCTP";
  /** 0: not on the node. */
  readonly hostPort: number;
  readonly hostIp: string;
}

/** A Pod, as far as a lab honours it. */
export interface PodManifest {
  readonly kind: "Pod";
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nodeName: string | undefined;
  readonly serviceAccountName: string;
  /** Its commands run in the namespace of its node, with the node's addresses: no endpoint, no policy of its own. */
  readonly hostNetwork: boolean;
  readonly ports: readonly NamedPortManifest[];
  readonly containerPorts: readonly ContainerPortManifest[];
  /** Numbers of ports that must be listened on before services use the pod (readinessProbe). */
  readonly readyPorts: readonly number[];
  /** How long its commands have from SIGTERM to their end. */
  readonly gracePeriodS: number;
  /** How long a deleted pod waits before SIGTERM (lifecycle.preStop.sleep). */
  readonly preStopS: number;
  /** Commands to run in the pod's namespace, one per container that has one. */
  readonly commands: readonly PodCommand[];
  readonly source: Source;
}

/** What one container runs. */
export interface PodCommand {
  readonly container: string;
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string | undefined;
}

/** A policy; the policy engine reads its text itself. */
export interface PolicyManifest {
  readonly kind: "NetworkPolicy" | "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy";
  readonly name: string;
  readonly namespace: string;
  /** Name of the engine's object: "cnp:NAMESPACE/NAME", "ccnp:NAME", "knp:NAMESPACE/NAME". */
  readonly objectName: string;
  readonly text: string;
  readonly source: Source;
}

/** A Service, EndpointSlice or pool; the load balancer reads the text itself. */
export interface ServiceManifest {
  readonly kind: "Service" | "EndpointSlice" | "Endpoints" | "CiliumLoadBalancerIPPool" | "AddressPool";
  readonly name: string;
  readonly namespace: string;
  readonly text: string;
  readonly source: Source;
}

/** One document. */
export type Manifest = NamespaceManifest | PodManifest | PolicyManifest | ServiceManifest;

/** Manifests of some files, and what they ask for that a lab does not do. */
export interface ManifestSet {
  readonly manifests: Manifest[];
  readonly notes: string[];
}

/** A document that is wrong or not supported. */
export class ManifestError extends Error {
  override readonly name = "ManifestError";
  constructor(readonly source: Source, detail: string) {
    super(`${source.file}:${source.line}: ${detail}`);
  }
}

type Fields = Record<string, unknown>;

const KINDS: Record<string, string[]> = {
  Namespace: ["v1"],
  Pod: ["v1"],
  Service: ["v1"],
  EndpointSlice: ["discovery.k8s.io/v1"],
  Endpoints: ["v1"],
  CiliumLoadBalancerIPPool: ["cilium.io/v2", "cilium.io/v2alpha1"],
  AddressPool: ["weir.io/v1"],
  NetworkPolicy: ["networking.k8s.io/v1"],
  CiliumNetworkPolicy: ["cilium.io/v2"],
  CiliumClusterwideNetworkPolicy: ["cilium.io/v2"],
};

const CLUSTER_SCOPED = new Set([
  "Namespace",
  "CiliumClusterwideNetworkPolicy",
  "CiliumLoadBalancerIPPool",
  "AddressPool",
]);

const POLICY_PREFIX = {
  NetworkPolicy: "knp",
  CiliumNetworkPolicy: "cnp",
  CiliumClusterwideNetworkPolicy: "ccnp",
} as const;

/** Pod fields that change nothing in a lab and need no word; `image` gets one. */
const POD_SPEC_IGNORED = new Set([
  "restartPolicy",
  "automountServiceAccountToken",
  "enableServiceLinks",
  "tolerations",
  "imagePullSecrets",
  "dnsPolicy",
  "serviceAccount",
]);
const POD_SPEC_KNOWN = new Set([
  "nodeName",
  "hostNetwork",
  "serviceAccountName",
  "containers",
  "terminationGracePeriodSeconds",
]);
const CONTAINER_KNOWN = new Set([
  "name",
  "image",
  "command",
  "args",
  "ports",
  "env",
  "workingDir",
  "readinessProbe",
  "lifecycle",
]);
const CONTAINER_IGNORED = new Set([
  "imagePullPolicy",
  "resources",
  "livenessProbe",
  "startupProbe",
  "terminationMessagePath",
  "terminationMessagePolicy",
]);

/** Kubernetes' own default of terminationGracePeriodSeconds, and the longest a lab takes. */
const GRACE_S_DEFAULT = 30;
const GRACE_S_MAX = 3600;

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** Reads every document of one file. `file` names it in messages. Throws `ManifestError` at the first fault. */
export function parseManifests(text: string, file: string): ManifestSet {
  if (text.length > MANIFEST_BYTES_MAX) {
    throw new ManifestError(
      { file, line: 1 },
      `file has ${text.length} bytes: expected at most ${MANIFEST_BYTES_MAX}`,
    );
  }
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, maxAliasCount: 100 } as never);
  const set: ManifestSet = { manifests: [], notes: [] };
  for (const document of Array.isArray(documents) ? documents : []) {
    const contents = document.contents as ParsedNode | null;
    const start = contents?.range?.[0] ?? document.range?.[0] ?? 0;
    const source = { file, line: lines.linePos(start).line };
    const fault = document.errors[0];
    if (fault !== undefined) {
      throw new ManifestError({ file, line: lines.linePos(fault.pos[0]).line }, fault.message.split("\n")[0]);
    }
    if (contents === null) continue;
    if (!isMap(contents)) {
      throw new ManifestError(source, "expected an object with apiVersion, kind and metadata");
    }
    const whole = text.slice(start, contents.range?.[2] ?? text.length);
    addDocument(document.toJS({ maxAliasCount: 100 }) as Fields, whole, source, set);
  }
  return set;
}

function addDocument(fields: Fields, text: string, source: Source, set: ManifestSet): void {
  const kind = fields.kind;
  if (kind === "List" || (typeof kind === "string" && kind.endsWith("List"))) {
    for (const item of arrayOf(fields.items, "items", source)) {
      addDocument(objectOf(item, "items", source), JSON.stringify(item), source, set);
    }
    return;
  }
  const versions = typeof kind === "string" ? KINDS[kind] : undefined;
  if (typeof kind !== "string" || versions === undefined) {
    throw new ManifestError(
      source,
      `kind ${JSON.stringify(kind)} is not supported: expected ${Object.keys(KINDS).join(", ")}`,
    );
  }
  if (!versions.includes(String(fields.apiVersion))) {
    throw new ManifestError(
      source,
      `${kind} has apiVersion ${JSON.stringify(fields.apiVersion)}: expected ${versions.join(" or ")}`,
    );
  }
  const metadata = objectOf(fields.metadata, "metadata", source);
  const name = nameOf(
    metadata.name,
    "metadata.name",
    source,
    kind === "Namespace" ? DNS_LABEL : DNS_SUBDOMAIN,
  );
  const labels = stringMap(metadata.labels, "metadata.labels", source);
  const clusterScoped = CLUSTER_SCOPED.has(kind);
  const namespace = clusterScoped
    ? ""
    : metadata.namespace === undefined
    ? "default"
    : nameOf(metadata.namespace, "metadata.namespace", source, DNS_LABEL);
  switch (kind) {
    case "Namespace":
      set.manifests.push({ kind, name, labels, source });
      break;
    case "Pod":
      set.manifests.push(readPod(fields, { name, namespace, labels, source }, set.notes));
      break;
    case "Service":
    case "EndpointSlice":
    case "Endpoints":
    case "CiliumLoadBalancerIPPool":
    case "AddressPool":
      set.manifests.push({ kind, name, namespace, text, source });
      break;
    default: {
      const policyKind = kind as PolicyManifest["kind"];
      const objectName = clusterScoped ? `ccnp:${name}` : `${POLICY_PREFIX[policyKind]}:${namespace}/${name}`;
      set.manifests.push({ kind: policyKind, name, namespace, objectName, text, source });
    }
  }
}

function readPod(
  fields: Fields,
  identity: Pick<PodManifest, "name" | "namespace" | "labels" | "source">,
  notes: string[],
): PodManifest {
  const { source } = identity;
  const spec = objectOf(fields.spec, "spec", source);
  for (const field of Object.keys(spec)) {
    if (!POD_SPEC_KNOWN.has(field) && !POD_SPEC_IGNORED.has(field)) {
      throw new ManifestError(source, `Pod ${identity.name}: spec.${field} is not supported in a lab`);
    }
  }
  const containers = arrayOf(spec.containers ?? [], "spec.containers", source);
  const ports: ContainerPortManifest[] = [];
  const readyPorts: number[] = [];
  let preStopS = 0;
  const commands: PodCommand[] = [];
  containers.forEach((item, index) => {
    const path = `spec.containers[${index}]`;
    const container = objectOf(item, path, source);
    for (const field of Object.keys(container)) {
      if (!CONTAINER_KNOWN.has(field) && !CONTAINER_IGNORED.has(field)) {
        throw new ManifestError(source, `Pod ${identity.name}: ${path}.${field} is not supported in a lab`);
      }
    }
    const own = readPorts(container.ports, `${path}.ports`, source);
    ports.push(...own);
    const say = (text: string) =>
      notes.push(`${source.file}:${source.line}: Pod ${identity.namespace}/${identity.name}: ${text}`);
    readyPorts.push(...readProbe(container.readinessProbe, own, `${path}.readinessProbe`, source, say));
    preStopS = Math.max(preStopS, readPreStop(container.lifecycle, `${path}.lifecycle`, source, say));
    const words = [
      ...stringArray(container.command, `${path}.command`, source),
      ...stringArray(container.args, `${path}.args`, source),
    ];
    const hasCommand = container.command !== undefined;
    if (container.image !== undefined) {
      notes.push(
        `${source.file}:${source.line}: Pod ${identity.namespace}/${identity.name}: image is not used in a lab` +
          (hasCommand ? "" : ", and without a command the pod runs nothing"),
      );
    }
    if (!hasCommand || words.length === 0) return;
    commands.push({
      container: String(container.name ?? `container-${index}`),
      words,
      environment: readEnvironment(container.env, `${path}.env`, source),
      directory: container.workingDir === undefined ? undefined : String(container.workingDir),
    });
  });
  return {
    kind: "Pod",
    ...identity,
    nodeName: spec.nodeName === undefined
      ? undefined
      : nameOf(spec.nodeName, "spec.nodeName", source, DNS_SUBDOMAIN),
    serviceAccountName: spec.serviceAccountName === undefined
      ? "default"
      : nameOf(spec.serviceAccountName, "spec.serviceAccountName", source, DNS_SUBDOMAIN),
    hostNetwork: readHostNetwork(spec.hostNetwork, source),
    ports: ports.filter((port) => port.name !== "")
      .map(({ name, port, protocol }) => ({ name, port, protocol })),
    containerPorts: ports,
    readyPorts,
    gracePeriodS: seconds(
      spec.terminationGracePeriodSeconds ?? GRACE_S_DEFAULT,
      "spec.terminationGracePeriodSeconds",
      source,
    ),
    preStopS,
    commands,
  };
}

function readHostNetwork(value: unknown, source: Source): boolean {
  if (value === undefined || typeof value === "boolean") return value === true;
  throw new ManifestError(source, `spec.hostNetwork is ${JSON.stringify(value)}: expected true or false`);
}

/** The port that a probe of TCP or HTTP asks: being listened on is what a lab looks at. */
function readProbe(
  value: unknown,
  ports: readonly ContainerPortManifest[],
  path: string,
  source: Source,
  say: (text: string) => void,
): number[] {
  if (value === undefined) return [];
  const probe = objectOf(value, path, source);
  const target = probe.tcpSocket ?? probe.httpGet;
  if (target === undefined) {
    say("readinessProbe: a lab looks whether a port is listened on (tcpSocket, httpGet), nothing else");
    return [];
  }
  const { port } = objectOf(target, path, source);
  const number = typeof port === "number" ? port : ports.find(({ name }) => name === port)?.port;
  if (number !== undefined && Number.isInteger(number) && number > 0 && number < 65536) return [number];
  throw new ManifestError(
    source,
    `${path}: port is ${JSON.stringify(port)}: expected a number or a port's name`,
  );
}

function readPreStop(value: unknown, path: string, source: Source, say: (text: string) => void): number {
  if (value === undefined) return 0;
  const { preStop, ...others } = objectOf(value, path, source);
  const sleep = preStop === undefined ? undefined : objectOf(preStop, `${path}.preStop`, source).sleep;
  if (Object.keys(others).length > 0 || (preStop !== undefined && sleep === undefined)) {
    say("lifecycle: a lab knows preStop.sleep, nothing else");
  }
  if (sleep === undefined) return 0;
  return seconds(objectOf(sleep, `${path}.preStop.sleep`, source).seconds, `${path}.preStop.sleep`, source);
}

function seconds(value: unknown, path: string, source: Source): number {
  if (typeof value === "number" && value >= 0 && value <= GRACE_S_MAX) return value;
  throw new ManifestError(
    source,
    `${path} is ${JSON.stringify(value)}: expected 0 to ${GRACE_S_MAX} seconds`,
  );
}

function readPorts(value: unknown, path: string, source: Source): ContainerPortManifest[] {
  return arrayOf(value ?? [], path, source).map((item, index): ContainerPortManifest => {
    const port = objectOf(item, `${path}[${index}]`, source);
    const number = port.containerPort;
    if (typeof number !== "number" || !Number.isInteger(number) || number < 1 || number > 65535) {
      throw new ManifestError(
        source,
        `${path}[${index}].containerPort is ${JSON.stringify(number)}: expected 1 to 65535`,
      );
    }
    const protocol = port.protocol ?? "TCP";
    if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") {
      throw new ManifestError(
        source,
        `${path}[${index}].protocol is ${JSON.stringify(protocol)}: expected TCP, UDP or SCTP`,
      );
    }
    const { name = "", hostPort = 0, hostIP = "" } = port;
    if (typeof hostPort !== "number" || !Number.isInteger(hostPort) || hostPort < 0 || hostPort > 65535) {
      throw new ManifestError(
        source,
        `${path}[${index}].hostPort is ${JSON.stringify(hostPort)}: expected 1 to 65535`,
      );
    }
    if (typeof hostIP !== "string") {
      throw new ManifestError(source, `${path}[${index}].hostIP is ${describe(hostIP)}: expected an address`);
    }
    if (typeof name !== "string" || (name !== "" && !/^(?=.*[a-z])[a-z0-9-]{1,15}$/.test(name))) {
      throw new ManifestError(
        source,
        `${path}[${index}].name is ${JSON.stringify(port.name)}: expected 1 to 15 of a-z, 0-9 and -`,
      );
    }
    return { name, port: number, protocol, hostPort, hostIp: hostIP };
  });
}

function readEnvironment(value: unknown, path: string, source: Source): Record<string, string> {
  const environment: Record<string, string> = {};
  arrayOf(value ?? [], path, source).forEach((item, index) => {
    const variable = objectOf(item, `${path}[${index}]`, source);
    if (typeof variable.name !== "string" || variable.valueFrom !== undefined) {
      throw new ManifestError(
        source,
        `${path}[${index}]: expected name and value (valueFrom is not supported in a lab)`,
      );
    }
    environment[variable.name] = String(variable.value ?? "");
  });
  return environment;
}

function nameOf(value: unknown, path: string, source: Source, pattern: RegExp): string {
  if (typeof value !== "string" || !pattern.test(value)) {
    throw new ManifestError(
      source,
      `${path} is ${JSON.stringify(value)}: expected a name of a-z, 0-9, - ${
        pattern === DNS_LABEL ? "" : "and ."
      }`
        .trimEnd(),
    );
  }
  return value;
}

function objectOf(value: unknown, path: string, source: Source): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ManifestError(source, `${path} is ${describe(value)}: expected an object`);
  }
  return value as Fields;
}

function arrayOf(value: unknown, path: string, source: Source): unknown[] {
  if (!Array.isArray(value)) {
    throw new ManifestError(source, `${path} is ${describe(value)}: expected a list`);
  }
  return value;
}

function stringArray(value: unknown, path: string, source: Source): string[] {
  return arrayOf(value ?? [], path, source).map((item, index) => {
    if (typeof item !== "string" && typeof item !== "number") {
      throw new ManifestError(source, `${path}[${index}] is ${describe(item)}: expected a string`);
    }
    return String(item);
  });
}

function stringMap(value: unknown, path: string, source: Source): Record<string, string> {
  const map = objectOf(value ?? {}, path, source);
  for (const [key, item] of Object.entries(map)) {
    if (typeof item !== "string") {
      throw new ManifestError(source, `${path}.${key} is ${describe(item)}: expected a string`);
    }
  }
  return map as Record<string, string>;
}

function describe(value: unknown): string {
  if (value === undefined) return "missing";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
