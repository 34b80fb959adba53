/**
 * What every workload of the cluster is, even when nobody wrote it down: in the local cluster, and in a namespace. A
 * systemd service that was given `app=web` and nothing else is thereby meant by an ordinary policy of namespace `default`.
 * @module
 */
import {
  IDENTITY_ALLOCATED_MIN,
  isLocalIdentity,
  type Label,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  type LabelSet,
  makeLabel,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
} from "@weir/common";

/** Namespace of workloads that have none. */
export const NAMESPACE_IMPLIED = "default";

/** The labels of an identity with those that are implied. Reserved and local identities imply nothing. */
export function withImpliedLabels(number: number, labels: LabelSet, cluster: string): LabelSet {
  if (number < IDENTITY_ALLOCATED_MIN || isLocalIdentity(number)) return labels;
  if ([...labels].some((label) => label.source === SOURCE_RESERVED)) return labels;
  const added: Label[] = [];
  const add = (key: string, value: string) => {
    if (!labels.has(SOURCE_KUBERNETES, key)) added.push(makeLabel(SOURCE_KUBERNETES, key, value));
  };
  const namespace = labels.get(SOURCE_KUBERNETES, LABEL_NAMESPACE) ?? NAMESPACE_IMPLIED;
  add(LABEL_NAMESPACE, namespace);
  add(`${LABEL_NAMESPACE_META_PREFIX}kubernetes.io/metadata.name`, namespace);
  add(LABEL_CLUSTER, cluster);
  return added.length === 0 ? labels : labels.with(added);
}
