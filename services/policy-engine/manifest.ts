/**
 * From a text of manifests to policies: all documents, all faults.
 * @module
 */
import { ProblemError } from "@weir/common";
import { type PolicyContext, readCiliumRules } from "./cilium_policy.ts";
import { readKubernetesRules } from "./kubernetes_policy.ts";
import {
  describe,
  type Fault,
  FaultList,
  formatFault,
  type ManifestNode,
  ManifestReader,
  readDocuments,
} from "@weir/common/manifest";
import { type Policy, type PolicyKind, policyObjectName } from "./policy.ts";

/** Options of {@link readManifests}. */
export interface ReadManifestsOptions {
  /** File of the text, for messages and rule sources. */
  file?: string;
  /** Line of that file on which the text begins; default 1. */
  line?: number;
  /** Namespace of documents that name none; default `default`. */
  namespace?: string;
  /** Name of the local cluster; default `default`. */
  cluster?: string;
}

/** What a text of manifests holds. */
export interface Manifests {
  /** In the order of the text. Documents with faults are not among them. */
  readonly policies: readonly Policy[];
  readonly faults: readonly Fault[];
  /** Faults that are not listed because there are too many. */
  readonly faultsOmitted: number;
}

const API_VERSIONS: Readonly<Record<PolicyKind, readonly string[]>> = {
  CiliumNetworkPolicy: ["cilium.io/v2"],
  CiliumClusterwideNetworkPolicy: ["cilium.io/v2"],
  NetworkPolicy: ["networking.k8s.io/v1"],
};

/** Fields of every Kubernetes object's metadata; all but name and namespace say nothing about policy. */
const METADATA_FIELDS = [
  "name",
  "namespace",
  "labels",
  "annotations",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "managedFields",
  "ownerReferences",
  "finalizers",
  "selfLink",
];

/** A name of Kubernetes objects. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const NAMESPACE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Reads every document. Pure: the same text gives the same result. */
export function readManifests(text: string, options: ReadManifestsOptions = {}): Manifests {
  const faults = new FaultList();
  const reader = new ManifestReader(faults);
  const policies: Policy[] = [];
  const seen = new Map<string, number>();
  for (const document of readDocuments(text, faults, options.line ?? 1)) {
    for (const root of unfoldList(reader, document.root)) {
      const policy = readPolicy(reader, root, options);
      if (!policy) continue;
      const earlier = seen.get(policy.name);
      if (earlier !== undefined) {
        reader.invalid(root, `${policy.name} is already defined at line ${earlier}`);
        continue;
      }
      seen.set(policy.name, root.line);
      const whole = root === document.root;
      policies.push({
        ...policy,
        manifest: whole ? document.text : JSON.stringify(toValue(root)),
        line: whole ? document.line : root.line,
      });
    }
  }
  return {
    policies,
    faults: faults.faults,
    faultsOmitted: faults.omitted,
  };
}

/** The documents of a `List`, or the document itself. */
function unfoldList(reader: ManifestReader, root: ManifestNode): readonly ManifestNode[] {
  const kind = root.fields.get("kind")?.value.scalar;
  if (
    typeof kind !== "string" ||
    !/^(|CiliumNetworkPolicy|CiliumClusterwideNetworkPolicy|NetworkPolicy)List$/.test(kind)
  ) {
    return [root];
  }
  const fields = reader.map(root, ["apiVersion", "kind", "metadata", "items"]);
  return reader.list(fields?.get("items"), 5000) ?? [];
}

function readPolicy(
  reader: ManifestReader,
  root: ManifestNode,
  options: ReadManifestsOptions,
): Policy | undefined {
  if (root.kind !== "map") return reader.invalid(root, `${describe(root)}, want a policy`);
  const kindNode = root.fields.get("kind")?.value;
  const kind = kindNode?.scalar;
  if (!kindNode) return reader.invalid(root, `kind is missing, want ${Object.keys(API_VERSIONS).join(", ")}`);
  if (typeof kind !== "string" || !Object.hasOwn(API_VERSIONS, kind)) {
    return reader.invalid(
      kindNode,
      `${describe(kindNode)} is no policy, want ${Object.keys(API_VERSIONS).join(", ")}`,
    );
  }
  const before = reader.faults.faults.length + reader.faults.omitted;
  const policyKind = kind as PolicyKind;
  const known = ["apiVersion", "kind", "metadata", "spec", "status"];
  if (policyKind !== "NetworkPolicy") known.push("specs");
  const fields = reader.map(root, known);
  const versionNode = fields?.get("apiVersion");
  const version = reader.string(versionNode, 64);
  if (!versionNode) reader.invalid(root, `apiVersion is missing, want ${API_VERSIONS[policyKind][0]}`);
  else if (version !== undefined && !API_VERSIONS[policyKind].includes(version)) {
    reader.invalid(versionNode, `${JSON.stringify(version)}, want ${API_VERSIONS[policyKind].join(" or ")}`);
  }
  const metadata = fields?.get("metadata");
  const about = metadata && reader.map(metadata, METADATA_FIELDS);
  const clusterwide = policyKind === "CiliumClusterwideNetworkPolicy";
  const policyName = readName(reader, about?.get("name"), metadata ?? root);
  const namespace = readNamespace(
    reader,
    about?.get("namespace"),
    clusterwide,
    options.namespace ?? "default",
  );
  const warnings: { path: string; detail: string }[] = [];
  const context: PolicyContext = {
    namespace,
    clusterwide,
    cluster: options.cluster ?? "default",
    warn: (path, detail) => void warnings.push({ path, detail }),
  };
  const rules = policyKind === "NetworkPolicy"
    ? readKubernetesRules(reader, root, context)
    : readCiliumRules(reader, root, context);
  if (reader.faults.faults.length + reader.faults.omitted > before || policyName === undefined) {
    return undefined;
  }
  return {
    name: policyObjectName(policyKind, namespace, policyName),
    kind: policyKind,
    namespace: clusterwide ? "" : namespace,
    policyName,
    rules,
    manifest: "",
    file: options.file ?? "",
    line: root.line,
    warnings,
  };
}

function readName(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  parent: ManifestNode,
): string | undefined {
  if (!node) return reader.invalid(parent, "metadata.name is missing");
  const name = reader.string(node, 253);
  if (name === undefined || OBJECT_NAME.test(name)) return name;
  return reader.invalid(
    node,
    `${JSON.stringify(name)} is no object name, want lower case letters, digits, - and .`,
  );
}

function readNamespace(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  clusterwide: boolean,
  otherwise: string,
): string {
  if (!node) return otherwise;
  if (clusterwide) {
    reader.invalid(node, "a CiliumClusterwideNetworkPolicy has no namespace");
    return otherwise;
  }
  const namespace = reader.string(node, 63);
  if (namespace !== undefined && !NAMESPACE_NAME.test(namespace)) {
    reader.invalid(
      node,
      `${JSON.stringify(namespace)} is no namespace, want lower case letters, digits and -`,
    );
  }
  return namespace ?? otherwise;
}

function toValue(node: ManifestNode): unknown {
  if (node.kind === "map") {
    return Object.fromEntries([...node.fields].map(([key, field]) => [key, toValue(field.value)]));
  }
  return node.kind === "list" ? node.items.map(toValue) : node.scalar;
}

/** The faults of a text as the one error that is answered. */
export function manifestProblem(manifests: Manifests, file = ""): ProblemError {
  const { faults, faultsOmitted } = manifests;
  const more = faults.length + faultsOmitted - 1;
  const first = faults[0] ? formatFault(faults[0], file) : "";
  return new ProblemError("POLICY_INVALID", {
    status: 422,
    title: "Policy refused",
    detail: `Cannot take policies: ${first}${
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
