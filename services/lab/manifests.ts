/**
 * Reads Kubernetes manifests into what a lab knows: namespaces, pods, policies, services. A kind or a Pod field that
 * cannot be honoured is refused by name with its place, except where the lab says what it ignores.
 *
 * @module
 */
import {
  type Fault,
  kindsTakenBy,
  type ManifestKindName,
  type ManifestObject,
  type ObjectSyntax,
  readObjects,
  summarizeFaults,
} from "@weir/common/manifest";
import type { Manifest, Source } from "./manifest.ts";
import { readPod } from "./pod_manifest.ts";

/** Largest text, most documents and values of one file. */
const LIMITS = { bytesMax: 16 << 20, documentsMax: 20_000, nodesMax: 2_000_000 };

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
    kinds: [...kindsTakenBy("lab"), ...kindsTakenBy("load-balancer"), ...kindsTakenBy("policy-engine")],
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
    case "AdminNetworkPolicy":
    case "BaselineAdminNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "CiliumCIDRGroup":
    case "ServicePeers":
      return { kind, name, namespace, objectName, text, source };
    default:
      return { kind, name, namespace, text, source };
  }
}

function labelsOf({ reader, metadata }: ManifestObject): Record<string, string> {
  return reader.texts(metadata?.fields.get("labels")?.value) ?? {};
}
