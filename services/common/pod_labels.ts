/**
 * The labels of a pod's endpoint, as Kubernetes would give them to Cilium.
 * @module
 */
import {
  formatLabel,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LABEL_SERVICE_ACCOUNT,
  SOURCE_KUBERNETES,
} from "./labels.ts";

/** What a pod's labels come from. */
export interface LabelledPod {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccountName: string;
}

/**
 * Labels of a pod, `source:key=value`, sorted.
 * @param namespaceLabels those of its Namespace object
 * @param cluster name of the cluster
 */
export function podLabels(
  pod: LabelledPod,
  namespaceLabels: Readonly<Record<string, string>>,
  cluster: string,
): string[] {
  const labels: Record<string, string> = {
    ...pod.labels,
    [LABEL_NAMESPACE]: pod.namespace,
    [LABEL_CLUSTER]: cluster,
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
