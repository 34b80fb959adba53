/**
 * The labels an endpoint is known by: its own, its namespace and its cluster; its addresses too where CIDR rules mean pods.
 * @module
 */
import {
  formatLabel,
  IpAddress,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  makeLabel,
  Prefix,
  SOURCE_CIDR,
} from "@weir/common";
import type { Endpoint, EndpointStatus } from "@weir/proto/endpoint";
import type { EndpointManagerConfig } from "./config.ts";

/** Endpoints that name no namespace live here, so that a namespaced policy without one selects them. */
export const NAMESPACE_DEFAULT = "default";

/** What of the node's settings makes labels. */
export type LabelConfig = Pick<EndpointManagerConfig, "cluster" | "cidrMeansPods">;

/** An endpoint with the addresses that it was given. */
export interface Addressed {
  readonly spec: Endpoint;
  readonly status: Pick<EndpointStatus, "ipv4" | "ipv6">;
}

/**
 * Labels to allocate an identity for; sorted, each once. With `cidrMeansPods` each address is one, `cidr:10.0.1.5/32`:
 * the endpoint has an identity of its own then, which a CIDR rule selects or does not.
 */
export function identityLabels(endpoint: Addressed, { cluster, cidrMeansPods }: LabelConfig): string[] {
  const { spec } = endpoint;
  const labels = new Set(spec.labels);
  // A node lives in no namespace.
  if (spec.host) return [...labels].sort();
  const has = (key: string) => spec.labels.some((l) => l.slice(l.indexOf(":") + 1).split("=")[0] === key);
  if (!has(LABEL_NAMESPACE)) labels.add(`k8s:${LABEL_NAMESPACE}=${spec.namespace || NAMESPACE_DEFAULT}`);
  if (!has(LABEL_CLUSTER)) labels.add(`k8s:${LABEL_CLUSTER}=${cluster}`);
  if (cidrMeansPods) {
    for (const prefix of prefixesOf(endpoint)) labels.add(formatLabel(makeLabel(SOURCE_CIDR, prefix)));
  }
  return [...labels].sort();
}

/** The prefixes that belong to an endpoint; none for a cgroup, which speaks with the host's address, nor for the host. */
export function prefixesOf({ spec, status }: Addressed): string[] {
  if (hasNoAddress(spec)) return [];
  return [status.ipv4, status.ipv6].filter((a) => a !== "").map((a) => Prefix.host(IpAddress.parse(a)).text);
}

/** Whether it speaks with the host's addresses and has none of its own. */
export function hasNoAddress({ cgroup, host }: Endpoint): boolean {
  return host || cgroup !== "";
}
