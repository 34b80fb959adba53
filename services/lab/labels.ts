/** What the endpoints of a lab's pods are labelled with. @module */
import { type LabelledPod, podLabels as labelsIn } from "@weir/common";

/** Name of the cluster that every lab is. */
export const CLUSTER = "default";

/** Labels of a pod, `source:key=value`, sorted. `namespaceLabels` are those of its Namespace object. */
export function podLabels(pod: LabelledPod, namespaceLabels: Readonly<Record<string, string>>): string[] {
  return labelsIn(pod, namespaceLabels, CLUSTER);
}
