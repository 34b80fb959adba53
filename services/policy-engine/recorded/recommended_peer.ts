/**
 * How a policy names the other end of a connection: by the labels of its workload, by what it is (a node, the API server), by DNS name, by
 * address. Labels that say nothing of the workload, or that differ from replica to replica, are no part of it.
 * @module
 */
import {
  formatLabel,
  identityOfMany,
  type Label,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LABEL_SERVICE_ACCOUNT,
  LabelFilter,
  type LabelSet,
  reservedIdentityName,
  SOURCE_CIDR,
  SOURCE_KUBERNETES,
} from "@weir/common";
import { fqdnName } from "../fqdn_selector.ts";
import type { RecordedEnd } from "./recorded_end.ts";

/** One peer of a rule. */
export type RecommendedPeer =
  | { readonly type: "endpoints"; readonly key: string; readonly end: RecordedEnd }
  | { readonly type: "entity"; readonly key: string; readonly entity: string }
  | { readonly type: "name"; readonly key: string; readonly name: string }
  | { readonly type: "address"; readonly key: string; readonly prefix: string };

/** Entities that policies have a word for. */
const ENTITIES: ReadonlySet<string> = new Set([
  ...["host", "remote-node", "kube-apiserver", "ingress", "health", "init", "unmanaged"],
  // Ours: Cilium has none.
  ...["multicast", "broadcast"],
]);
const FILTER = new LabelFilter();

/** @param byName DNS names count: the pods' DNS goes through the proxy. Undefined: no policy can name the end. */
export function peerOf(end: RecordedEnd, byName: boolean): RecommendedPeer | undefined {
  const entity = (name: string | undefined): RecommendedPeer | undefined =>
    name !== undefined && ENTITIES.has(name)
      ? { type: "entity", key: `entity ${name}`, entity: name }
      : undefined;
  switch (end.kind) {
    case "pod":
      return { type: "endpoints", key: `pod ${end.namespace} ${end.labels.key}`, end };
    case "reserved":
      return entity(reservedIdentityName(end.identity));
    case "labelled":
      return entity("kube-apiserver");
    case "unknown":
      return undefined;
    case "address": {
      const { address, names } = end, many = identityOfMany(address!);
      if (many !== undefined) return entity(reservedIdentityName(many));
      const name = byName ? [...names].find(isName) : undefined;
      if (name !== undefined) {
        return { type: "name", key: `name ${name}`, name: name.toLowerCase().replace(/\.$/, "") };
      }
      const prefix = `${address!.text}/${address!.bits}`;
      return { type: "address", key: prefix, prefix };
    }
  }
}

function isName(name: string): boolean {
  try {
    return fqdnName({ matchName: name, matchPattern: "" }).matchName !== "";
  } catch {
    return false;
  }
}

/** Labels that say which workload it is. */
export function ownLabels(labels: LabelSet): Label[] {
  return [...labels].filter((label) =>
    label.key !== LABEL_NAMESPACE && label.key !== LABEL_CLUSTER && label.key !== LABEL_SERVICE_ACCOUNT &&
    !label.key.startsWith(LABEL_NAMESPACE_META_PREFIX) && label.source !== SOURCE_CIDR &&
    FILTER.accepts(label)
  );
}

/** A selector of a workload: the labels that it has, and keys that others have whom these mean too. */
export interface WorkloadSelector {
  readonly labels: readonly Label[];
  readonly absent: readonly string[];
}

/**
 * @param others ends of the same namespace that are not to be meant
 */
export function workloadSelector(end: RecordedEnd, others: Iterable<RecordedEnd>): WorkloadSelector {
  let labels = ownLabels(end.labels);
  // Without labels of its own it is meant by who it runs as.
  if (labels.length === 0) labels = [...end.labels].filter(({ key }) => key === LABEL_SERVICE_ACCOUNT);
  const texts = new Set(labels.map(formatLabel)), keys = new Set(labels.map(({ key }) => key));
  const absent = new Set<string>();
  for (const other of others) {
    const own = ownLabels(other.labels), has = new Set([...other.labels].map(formatLabel));
    if (
      ![...texts].every((text) => has.has(text)) ||
      own.some(({ source, key }) => absent.has(keyText(source, key)))
    ) continue;
    const more = own.find(({ key }) => !keys.has(key) && end.labels.withKey(key).length === 0);
    // What tells them apart is no part of a workload's labels: they are one.
    if (more !== undefined) absent.add(keyText(more.source, more.key));
  }
  return { labels, absent: [...absent].sort() };
}

/** A key as selectors have it: with its source where that is not Kubernetes. */
export function keyText(source: string, key: string): string {
  return source === SOURCE_KUBERNETES ? key : `${source}:${key}`;
}
