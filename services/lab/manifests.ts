/**
 * Reads Kubernetes manifests into what a lab knows: namespaces, pods, policies, services. A kind or a Pod field that
 * cannot be honoured is refused by name with its place, except where the lab says what it ignores.
 *
 * @module
 */
import {
  type Fault,
  type KindTakenBy,
  MANIFEST_KINDS,
  type ManifestKindName,
  type ManifestObject,
  type ObjectSyntax,
  readObjects,
  summarizeFaults,
} from "@weir/common/manifest";
import { readPod } from "./pod_manifest.ts";

/** Largest text, most documents and values of one file. */
const LIMITS = { bytesMax: 16 << 20, documentsMax: 20_000, nodesMax: 2_000_000 };

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
  readonly kind: KindTakenBy<"policy-engine">;
  readonly name: string;
  readonly namespace: string;
  /** Name of the engine's object: "cnp:NAMESPACE/NAME", "ccnp:NAME", "knp:NAMESPACE/NAME". */
  readonly objectName: string;
  readonly text: string;
  readonly source: Source;
}

/** A Service, EndpointSlice or pool; the load balancer reads the text itself. */
export interface ServiceManifest {
  readonly kind: KindTakenBy<"load-balancer">;
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

/** A text with faults: the first of them, and how many more there are. */
export class ManifestError extends Error {
  override readonly name = "ManifestError";
  constructor(readonly faults: readonly Fault[], omitted: number, file: string) {
    super(summarizeFaults(faults, omitted, file));
  }
}

/** Reads every document of one file. `file` names it in messages. Throws `ManifestError` with every fault. */
export function parseManifests(text: string, file: string): ManifestSet {
  const syntax: ObjectSyntax<ManifestKindName, Manifest> = {
    kinds: Object.keys(MANIFEST_KINDS) as ManifestKindName[],
    unknownKind: (found) => `kind ${found} is not supported`,
    decode: (object) => decode(object, { file, line: object.line }),
    limits: LIMITS,
  };
  const { objects, faults, faultsOmitted } = readObjects(text, syntax);
  if (faults.length > 0) throw new ManifestError(faults, faultsOmitted, file);
  const notes = objects.flatMap(({ value, line, warnings }) => {
    const name = "namespace" in value ? `${value.namespace}/${value.name}` : value.name;
    return warnings.map(({ detail }) => `${file}:${line}: ${value.kind} ${name}: ${detail}`);
  });
  return { manifests: objects.map(({ value }) => value), notes };
}

function decode(object: ManifestObject, source: Source): Manifest | undefined {
  const { kind, name, namespace, objectName, text } = object;
  switch (kind) {
    case "Namespace":
      return { kind, name, labels: labelsOf(object), source };
    case "Pod": {
      const spec = readPod(object);
      return spec && { kind, name, namespace, labels: labelsOf(object), ...spec, source };
    }
    // The others' services read the text themselves.
    case "NetworkPolicy":
    case "CiliumNetworkPolicy":
    case "CiliumClusterwideNetworkPolicy":
      return { kind, name, namespace, objectName, text, source };
    default:
      return { kind, name, namespace, text, source };
  }
}

function labelsOf({ reader, metadata }: ManifestObject): Record<string, string> {
  return reader.texts(metadata?.fields.get("labels")?.value) ?? {};
}
