/**
 * From a text of manifests to services, slices and pools: all documents, all faults, and what is said but not honoured.
 * @module
 */
import { ProblemError } from "@weir/common";
import {
  describe,
  type Fault,
  FaultList,
  formatFault,
  type ManifestDocument,
  type ManifestNode,
  ManifestReader,
  readDocuments,
} from "@weir/common/manifest";
import { readJsonDocuments } from "./json_documents.ts";
import type { PoolSpec, ServiceSpec, SliceSpec } from "./model.ts";
import { readPool } from "./pool_manifest.ts";
import { readService } from "./service_manifest.ts";
import { readEndpoints, readEndpointSlice } from "./slice_manifest.ts";

/** Largest text, most documents and values: 10,000 services in one text are welcome. */
export const LB_MANIFEST_LIMITS = { bytesMax: 32 * 1024 * 1024, documentsMax: 20_000, nodesMax: 4_000_000 };

/** Where an object stands. */
interface Placed {
  /** The object's own text. */
  readonly manifest: string;
  readonly line: number;
  readonly warnings: readonly string[];
}

/** One object of a text. */
export type LbObject =
  & Placed
  & (
    | { readonly kind: "Service"; readonly name: string; readonly spec: ServiceSpec }
    | { readonly kind: "EndpointSlice" | "Endpoints"; readonly name: string; readonly spec: SliceSpec }
    | { readonly kind: "AddressPool"; readonly name: string; readonly spec: PoolSpec }
    | { readonly kind: "ignored"; readonly name: string; readonly of: string; readonly spec: undefined }
  );

/** What a text holds. */
export interface LbManifests {
  readonly objects: readonly LbObject[];
  readonly faults: readonly Fault[];
  readonly faultsOmitted: number;
}

/** Options of {@link readManifests}. */
export interface ReadOptions {
  file?: string;
  /** Line of that file on which the text begins; default 1. */
  line?: number;
  /** Namespace of documents that name none; default `default`. */
  namespace?: string;
}

/** What the reader of one kind is given. */
export interface ObjectContext {
  readonly reader: ManifestReader;
  readonly root: ManifestNode;
  readonly metadata: ManifestNode | undefined;
  readonly namespace: string;
  readonly name: string;
  warn(place: { line: number; path: string }, text: string): void;
}

const KINDS: Readonly<Record<string, { versions: readonly string[]; as: string; clusterwide?: boolean }>> = {
  Service: { versions: ["v1"], as: "Service" },
  EndpointSlice: { versions: ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"], as: "EndpointSlice" },
  Endpoints: { versions: ["v1"], as: "Endpoints" },
  CiliumLoadBalancerIPPool: {
    versions: ["cilium.io/v2", "cilium.io/v2alpha1"],
    as: "AddressPool",
    clusterwide: true,
  },
  AddressPool: { versions: ["weir.io/v1"], as: "AddressPool", clusterwide: true },
};

const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const NAMESPACE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Reads every document. Pure: the same text gives the same result. */
export function readManifests(text: string, options: ReadOptions = {}): LbManifests {
  const line = options.line ?? 1;
  const quick = text.length > LB_MANIFEST_LIMITS.bytesMax ? undefined : readJsonDocuments(text, line);
  if (quick !== undefined && quick.length <= LB_MANIFEST_LIMITS.documentsMax) {
    const found = readObjects(quick, new FaultList(), options);
    const silent = found.faults.length === 0 && found.objects.every(({ warnings }) => warnings.length === 0);
    if (silent) return found;
  }
  const faults = new FaultList();
  return readObjects(readDocuments(text, faults, line, LB_MANIFEST_LIMITS), faults, options);
}

function readObjects(
  documents: readonly ManifestDocument[],
  faults: FaultList,
  options: ReadOptions,
): LbManifests {
  const objects: LbObject[] = [];
  const seen = new Map<string, number>();
  for (const document of documents) {
    for (const root of unfoldList(document.root, faults)) {
      const whole = root === document.root;
      const place = {
        manifest: whole ? document.text.trimEnd() : JSON.stringify(toValue(root)),
        line: whole ? document.line : root.line,
      };
      const object = readObject(root, place, faults, options);
      if (object === undefined) continue;
      const key = `${object.kind} ${object.name}`;
      const earlier = seen.get(key);
      if (object.kind !== "ignored" && earlier !== undefined) {
        faults.add("invalid", root, `${key} is already defined at line ${earlier}`);
        continue;
      }
      seen.set(key, root.line);
      objects.push(object);
    }
  }
  return { objects, faults: faults.faults, faultsOmitted: faults.omitted };
}

/** The items of a `List`, or the document itself. */
function unfoldList(root: ManifestNode, faults: FaultList): readonly ManifestNode[] {
  const kind = root.fields.get("kind")?.value.scalar;
  if (typeof kind !== "string" || !kind.endsWith("List")) return [root];
  const items = root.fields.get("items")?.value;
  if (items?.kind === "list") return items.items;
  faults.add("invalid", root, `${kind} has no list of items`);
  return [];
}

function readObject(
  root: ManifestNode,
  place: { manifest: string; line: number },
  faults: FaultList,
  options: ReadOptions,
): LbObject | undefined {
  // Faults of this object alone: unknown fields among them are said, not refused.
  const own = new FaultList();
  const reader = new ManifestReader(own);
  const warnings: string[] = [];
  const object = readKind(reader, root, options, (at, text) => warnings.push(warning(at, text)));
  let refused = false;
  for (const fault of own.faults) {
    if (fault.code === "unknown-field" || fault.code === "unsupported") {
      warnings.push(warning(fault, fault.detail));
    } else {
      refused = true;
      faults.add(fault.code, fault, fault.detail);
    }
  }
  return object === undefined || refused ? undefined : { ...object, ...place, warnings } as LbObject;

  function warning(at: { line: number; path: string }, text: string): string {
    return `line ${at.line}${at.path === "" ? "" : ` ${at.path}`}: ${text}`;
  }
}

type WithoutPlace<T> = T extends unknown ? Omit<T, keyof Placed> : never;

function readKind(
  reader: ManifestReader,
  root: ManifestNode,
  options: ReadOptions,
  warn: ObjectContext["warn"],
): WithoutPlace<LbObject> | undefined {
  if (root.kind !== "map") return reader.invalid(root, `${describe(root)}, want an object with a kind`);
  const kindNode = root.fields.get("kind")?.value;
  const kind = kindNode?.scalar;
  if (kindNode === undefined || typeof kind !== "string") {
    return reader.invalid(kindNode ?? root, `kind is missing, want ${Object.keys(KINDS).join(", ")}`);
  }
  const known = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  const metadata = root.fields.get("metadata")?.value;
  const nameNode = metadata?.fields.get("name")?.value;
  if (known === undefined) {
    warn(kindNode, `${kind} is not for the load balancer, which reads ${Object.keys(KINDS).join(", ")}`);
    return { kind: "ignored", name: String(nameNode?.scalar ?? "?"), of: kind, spec: undefined };
  }
  const versionNode = root.fields.get("apiVersion")?.value;
  if (!known.versions.includes(String(versionNode?.scalar))) {
    return reader.invalid(
      versionNode ?? root,
      `apiVersion is ${versionNode ? describe(versionNode) : "missing"}, want ${known.versions.join(" or ")}`,
    );
  }
  if (!nameNode) return reader.invalid(metadata ?? root, "metadata.name is missing");
  const name = reader.string(nameNode, 253);
  if (name === undefined) return undefined;
  if (!OBJECT_NAME.test(name)) {
    return reader.invalid(
      nameNode,
      `${JSON.stringify(name)} is no object name, want lower case letters, digits, - and .`,
    );
  }
  const namespaceNode = metadata?.fields.get("namespace")?.value;
  const given = namespaceNode?.kind === "null" ? undefined : reader.string(namespaceNode, 63);
  const namespace = known.clusterwide ? "" : given ?? options.namespace ?? "default";
  if (!known.clusterwide && !NAMESPACE_NAME.test(namespace)) {
    return reader.invalid(namespaceNode ?? root, `${JSON.stringify(namespace)} is no namespace`);
  }
  const context: ObjectContext = { reader, root, metadata, namespace, name, warn };
  switch (known.as) {
    case "Service": {
      const spec = readService(context);
      return spec && { kind: "Service", name: `${namespace}/${name}`, spec };
    }
    case "EndpointSlice": {
      const spec = readEndpointSlice(context);
      return spec && { kind: "EndpointSlice", name: `${namespace}/${name}`, spec };
    }
    case "Endpoints": {
      const spec = readEndpoints(context);
      return spec && { kind: "Endpoints", name: `${namespace}/${name}`, spec };
    }
    default: {
      const spec = readPool(context, kind);
      return spec && { kind: "AddressPool", name, spec };
    }
  }
}

/** A map of texts, e.g. labels; undefined after a fault, empty when absent. */
export function readTexts(
  reader: ManifestReader,
  node: ManifestNode | undefined,
): Record<string, string> | undefined {
  const found: Record<string, string> = {};
  if (node === undefined || node.kind === "null") return found;
  if (node.kind !== "map") return reader.invalid(node, `${describe(node)}, want a map of texts`);
  for (const [key, field] of node.fields) {
    const value = reader.string(field.value, 4096);
    if (value === undefined) return undefined;
    found[key] = value;
  }
  return found;
}

/** The plain value of a node. */
export function toValue(node: ManifestNode): unknown {
  if (node.kind === "map") {
    return Object.fromEntries([...node.fields].map(([key, field]) => [key, toValue(field.value)]));
  }
  return node.kind === "list" ? node.items.map(toValue) : node.scalar;
}

/** The faults of a text as the one error that is answered. */
export function manifestProblem(manifests: LbManifests, file = ""): ProblemError {
  const { faults, faultsOmitted } = manifests;
  const more = faults.length + faultsOmitted - 1;
  const first = faults[0] ? formatFault(faults[0], file) : "";
  return new ProblemError("SERVICE_INVALID", {
    status: 422,
    title: "Service refused",
    detail: `Cannot take services: ${first}${
      more > 0 ? ` (and ${more} more fault${more > 1 ? "s" : ""})` : ""
    }`,
    found: first,
    expected: "manifests without a fault",
    action: "Correct what is named and apply again; nothing was changed",
    causes: faults.map((fault) => ({
      path: `${file === "" ? "" : `${file}:`}${fault.line}:${fault.column}${
        fault.path === "" ? "" : ` ${fault.path}`
      }`,
      detail: fault.detail,
    })),
  });
}
