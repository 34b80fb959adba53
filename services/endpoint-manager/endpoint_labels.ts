/**
 * The labels an endpoint is known by: its own, its namespace and its cluster.
 * @module
 */
import { LABEL_CLUSTER, LABEL_NAMESPACE } from "@weir/common";
import type { Endpoint } from "@weir/proto/endpoint";

/** Endpoints that name no namespace live here, so that a namespaced policy without one selects them. */
export const NAMESPACE_DEFAULT = "default";

/** Labels to allocate an identity for; sorted, each once. */
export function identityLabels(endpoint: Endpoint, cluster: string): string[] {
  const labels = new Set(endpoint.labels);
  const has = (key: string) => endpoint.labels.some((l) => l.slice(l.indexOf(":") + 1).split("=")[0] === key);
  if (!has(LABEL_NAMESPACE)) labels.add(`k8s:${LABEL_NAMESPACE}=${endpoint.namespace || NAMESPACE_DEFAULT}`);
  if (!has(LABEL_CLUSTER)) labels.add(`k8s:${LABEL_CLUSTER}=${cluster}`);
  return [...labels].sort();
}
