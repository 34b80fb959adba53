/**
 * The labels of a pod's endpoint, as Kubernetes would give them to Cilium.
 *
 * @module
 */
import {
  formatLabel,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LABEL_SERVICE_ACCOUNT,
  SOURCE_KUBERNETES,
} from "@weir/common";

/** Name of the cluster that every lab is. */
export const CLUSTER = "default";

/** Labels of a pod, `source:key=value`, sorted. `namespaceLabels` are those of its Namespace object. */
export function podLabels(
  pod: { namespace: string; labels: Readonly<Record<string, string>>; serviceAccountName: string },
  namespaceLabels: Readonly<Record<string, string>>,
): string[] {
  const labels: Record<string, string> = {
    ...pod.labels,
    [LABEL_NAMESPACE]: pod.namespace,
    [LABEL_CLUSTER]: CLUSTER,
    [LABEL_SERVICE_ACCOUNT]: pod.serviceAccountName,
  };
  // Kubernetes itself labels every namespace with its name.
  const ofNamespace = { ...namespaceLabels, "kubernetes.io/metadata.name": pod.namespace };
  for (const [key, value] of Object.entries(ofNamespace)) {
    labels[`${LABEL_NAMESPACE_META_PREFIX}${key}`] = value;
  }
  return Object.entries(labels).map(([key, value]) => formatLabel({ source: SOURCE_KUBERNETES, key, value }))
    .sort();
}
