/**
 * An endpoint and what is known of it beyond its API object.
 * @module
 */
import type { Init } from "@weir/proto";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import type { Endpoint, EndpointConditionKind, EndpointStatus } from "@weir/proto/endpoint";
import type { Identity, IpcacheEntry } from "@weir/proto/identity";
import type { MapState } from "@weir/proto/policy";
import type { EndpointManagerConfig } from "./config.ts";
import { type Addressed, identityLabels, type LabelConfig } from "./endpoint_labels.ts";
import type { PolicyVariant } from "./policy_variant.ts";

export { prefixesOf } from "./endpoint_labels.ts";

/** What the directory gave for a set of labels. */
export interface GivenIdentity {
  readonly number: number;
  /** Those that count, as the directory filtered them. */
  readonly labels: readonly string[];
  /** What was asked for, as `askedLabels` has it. */
  readonly askedFor: string;
  /** False: it is remembered, and the directory must be asked whether it still holds. */
  confirmed: boolean;
}

/** How far a deletion is. */
export interface Deletion {
  /** Resolves when the kernel has let go of it. */
  readonly kernel: PromiseWithResolvers<void>;
  /** Resolves when the cluster has too, and nothing is left. */
  readonly whole: PromiseWithResolvers<void>;
  kernelGone: boolean;
}

/** One endpoint. Its owner is the endpoint table; each reconciler writes its own part. */
export interface Workload {
  spec: Endpoint;
  /** As people see it: `identity` and `policy` are those in force. */
  status: EndpointStatus;
  /** What it is to be. Undefined: the directory has not answered yet. */
  given?: GivenIdentity;
  /** What the datapath was given last; undefined when it must be given again. */
  applied?: Init<DatapathEndpoint>;
  /** The map state whose policy it has; undefined when that must be given again. */
  mapState?: MapState;
  /** Found at the start: the kernel may hold it, and keeps it as it is until it is given again. */
  restored: boolean;
  /** Its PUT is not on disk yet: nothing is done for it. */
  unwritten?: boolean;
  /** The cluster has been told of it once. */
  announced: boolean;
  conditions: Map<EndpointConditionKind, { message: string; sinceMs: number }>;
  deleting?: Deletion;
}

/** Labels to ask the directory for, as one text. */
export function askedLabels(endpoint: Addressed, config: LabelConfig): string {
  return identityLabels(endpoint, config).join(";");
}

/** The identity that the endpoint's labels of now have; undefined while that is in doubt. */
export function settledIdentity(workload: Workload, config: LabelConfig): GivenIdentity | undefined {
  const { given } = workload;
  return given?.askedFor === askedLabels(workload, config) ? given : undefined;
}

/** What its policy depends on beside its identity. */
export function variantOf(
  { spec: { namedPorts, enforcement, audit } }: Workload,
  config: Pick<EndpointManagerConfig, "enforcement" | "audit">,
): PolicyVariant {
  const own = enforcement === "ENFORCEMENT_UNSPECIFIED" ? config.enforcement : enforcement;
  const audits = audit === "AUDIT_UNSPECIFIED" ? config.audit ?? false : audit === "ON";
  return { namedPorts, enforcement: own ?? "DEFAULT", audit: audits && own !== "NEVER" };
}

/** What the directory gave. */
export function givenIdentity(identity: Identity, askedFor: string): GivenIdentity {
  return { number: identity.number, labels: identity.labels, askedFor, confirmed: true };
}

/** What the cluster is to be told of one of an endpoint's prefixes. */
export function announcementOf(
  workload: Workload,
  prefix: string,
  config: EndpointManagerConfig,
): IpcacheEntry {
  const { spec, status } = workload;
  return {
    prefix,
    identity: status.identity,
    node: config.nodeName,
    nodeIpv4: config.nodeIpv4,
    nodeIpv6: config.nodeIpv6,
    endpoint: spec.name,
    namespace: spec.namespace,
    podName: spec.podName,
    namedPorts: spec.namedPorts,
    labels: status.identityLabels,
    flags: 0,
  };
}
