/**
 * From a text of manifests to policies: all documents, all faults.
 * @module
 */
import type { ProblemError } from "@weir/common";
import {
  type Fault,
  faultProblem,
  kindsTakenBy,
  type ManifestObject,
  type ObjectSyntax,
  readObjects,
} from "@weir/common/manifest";
import { readCidrGroup } from "./cidr_group_manifest.ts";
import { type PolicyContext, readCiliumRules } from "./cilium_policy.ts";
import { readServicePeers } from "./service_manifest.ts";
import { readKubernetesRules } from "./kubernetes_policy.ts";
import { isAudited } from "./policy_mode.ts";
import type { Policy, PolicyKind, PolicyRule } from "./policy.ts";
import { readTieredRules, type TieredKind } from "./tiered_policy.ts";

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
  /** The engine's own: objects that nobody applies may be among them. */
  isStored?: boolean;
}

/** What a text of manifests holds. */
export interface Manifests {
  /** In the order of the text. Documents with faults are not among them. */
  readonly policies: readonly Policy[];
  readonly faults: readonly Fault[];
  /** Faults that are not listed because there are too many. */
  readonly faultsOmitted: number;
}

type PolicyObject = ManifestObject<PolicyKind>;
type Read = Omit<Policy, "manifest" | "file" | "line" | "warnings">;

/** What an object says: rules, or who is meant where rules name it. */
type Content = Pick<Policy, "rules" | "source">;

/** How each kind is read; the registry's every kind of the policy engine has one. */
const CONTENTS: Readonly<Record<PolicyKind, (object: PolicyObject, cluster: string) => Content>> = {
  CiliumNetworkPolicy: (object, cluster) => ({ rules: readCilium(object, cluster) }),
  CiliumClusterwideNetworkPolicy: (object, cluster) => ({ rules: readCilium(object, cluster) }),
  NetworkPolicy: (object, cluster) => {
    object.reader.map(object.root, FIELDS);
    return { rules: readKubernetesRules(object.reader, object.root, contextOf(object, cluster)) };
  },
  AdminNetworkPolicy: readTiered,
  BaselineAdminNetworkPolicy: readTiered,
  ClusterNetworkPolicy: readTiered,
  CiliumCIDRGroup: (object) => ({ rules: [], source: readCidrGroup(object) }),
  ServicePeers: (object, cluster) => ({ rules: [], source: readServicePeers(object, cluster) }),
};

const KINDS_STORED = Object.keys(CONTENTS) as PolicyKind[];
const FIELDS = ["apiVersion", "kind", "metadata", "spec", "status"];

/** Reads every document. Pure: the same text gives the same result. */
export function readManifests(text: string, options: ReadManifestsOptions = {}): Manifests {
  const { file = "", cluster = "default" } = options;
  const syntax: ObjectSyntax<PolicyKind, Read> = {
    kinds: options.isStored ? KINDS_STORED : kindsTakenBy("policy-engine"),
    unknownKind: (found) => `${found} is no policy`,
    decode: (object) => {
      const content = CONTENTS[object.kind](object, cluster);
      return {
        name: object.objectName,
        kind: object.kind,
        namespace: object.namespace,
        policyName: object.name,
        audit: isAudited(object, content),
        ...content,
      };
    },
  };
  const { objects, faults, faultsOmitted } = readObjects(text, syntax, options);
  const policies = objects.map(({ value, text, line, warnings }) => ({
    ...value,
    manifest: text,
    file,
    line,
    warnings: warnings.map(({ path, detail }) => ({ path, detail })),
  }));
  return { policies, faults, faultsOmitted };
}

function readTiered(object: PolicyObject, cluster: string): Content {
  object.reader.map(object.root, FIELDS);
  const { reader, name, root } = object, kind = object.kind as TieredKind;
  return { rules: readTieredRules(reader, { kind, name, root }, contextOf(object, cluster)) };
}

function readCilium(object: PolicyObject, cluster: string): PolicyRule[] {
  object.reader.map(object.root, [...FIELDS, "specs"]);
  return readCiliumRules(object.reader, object.root, contextOf(object, cluster));
}

function contextOf({ namespace, kind, root, warn }: PolicyObject, cluster: string): PolicyContext {
  return {
    namespace,
    clusterwide: kind === "CiliumClusterwideNetworkPolicy",
    cluster,
    warn: (path, detail) => warn({ line: root.line, path }, detail),
  };
}

/** The faults of a text as the one error that is answered. */
export function manifestProblem(manifests: Manifests, file = ""): ProblemError {
  return faultProblem(manifests, { code: "POLICY_INVALID", title: "Policy refused", what: "policies", file });
}
