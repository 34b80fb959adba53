/**
 * A repository with the pods of a model in it, as the services would fill it.
 * @module
 */
import {
  composeEntries,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  IpAddress,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LabelSet,
  makeLabel,
  MapState,
  Prefix,
} from "@weir/common";
import { compileName, compileNamePattern, type NameMatcher } from "@weir/l7-rules";
import { PolicyRepository, readManifests } from "@weir/policy-engine";
import type { FqdnSelector } from "@weir/proto/policy";
import type { OracleEnd } from "./oracle.ts";
import type { Model, ModelPod } from "./testdata.ts";

/** Number of the first pod's identity; each pod has one of its own, because its port names may differ. */
export const FIRST_POD_IDENTITY = 1000;

/** Which addresses a CIDR means: only those outside the cluster (Weir's way), or pods too (Kubernetes' model). */
export type CidrMode = "world" | "pods";

/** Labels of a pod as the cluster gives them. */
export function podLabels(pod: ModelPod, namespaceLabels: Record<string, string>, mode: CidrMode): LabelSet {
  const labels = [
    ...Object.entries(pod.labels ?? {}).map(([key, value]) => makeLabel("k8s", key, value)),
    ...Object.entries(namespaceLabels).map(([key, value]) =>
      makeLabel("k8s", LABEL_NAMESPACE_META_PREFIX + key, value)
    ),
    makeLabel("k8s", LABEL_NAMESPACE, pod.namespace),
    makeLabel("k8s", LABEL_CLUSTER, "default"),
  ];
  // An identity with a cidr label can be meant by CIDR: that is all that tells the two modes apart.
  if (mode === "pods") labels.push(makeLabel("cidr", Prefix.parse(pod.ip).text));
  return LabelSet.from(labels);
}

/** A pod as the slow evaluator sees it. */
export function endOf(pod: ModelPod, namespaceLabels: Record<string, string>): OracleEnd {
  const labels = [...podLabels(pod, namespaceLabels, "world")];
  return {
    labels: Object.fromEntries(labels.map((label) => [`${label.source}:${label.key}`, label.value])),
    namedPorts: pod.ports,
  };
}

/** An address outside, and the names that DNS gave it for. */
export interface NamedAddress {
  readonly address: string;
  readonly names: readonly string[];
}

function matcherOf({ matchName, matchPattern }: FqdnSelector): NameMatcher {
  return matchName !== "" ? compileName(matchName) : compileNamePattern(matchPattern);
}

/** A repository with the pods of a model in it, as the services would fill it. */
export class ModelCluster {
  readonly repository = new PolicyRepository();

  constructor(readonly model: Model, readonly mode: CidrMode) {
    for (const [index, pod] of model.pods.entries()) {
      const identity = FIRST_POD_IDENTITY + index;
      this.repository.upsertIdentity(identity, podLabels(pod, model.namespaces[pod.namespace] ?? {}, mode));
      this.repository.setNamedPorts(pod.ip, identity, pod.ports.filter((port) => port.name !== ""));
    }
  }

  /** Applies manifests given as values. @throws when one is refused */
  apply(manifests: readonly unknown[]): void {
    for (const manifest of manifests) {
      const { policies, faults } = readManifests(JSON.stringify(manifest), { isStored: true });
      if (faults.length > 0) {
        throw new Error(`${faults[0].path}: ${faults[0].detail} in ${JSON.stringify(manifest)}`);
      }
      for (const policy of policies) this.repository.upsertPolicy(policy);
    }
  }

  /** The map state of a pod as its node has it. @param named Addresses that names mean, by the identities of the node's own */
  podState(index: number, named: ReadonlyMap<number, NamedAddress> = new Map()): MapState {
    const message = this.repository.mapState(FIRST_POD_IDENTITY + index)!, entries = [...message.entries];
    for (const [identity, { address, names }] of named) {
      const members = message.fqdnSelectors.filter((selector) => names.some(matcherOf(selector)));
      const numbers = [this.externalIdentity(address), ...members.map((selector) => selector.identity)];
      entries.push(...composeEntries(message.entries, identity, new Set(numbers)));
    }
    const ports = this.model.pods[index].ports.filter((port) => port.name !== "");
    return MapState.of({ ...message, entries }, ports);
  }

  /** The identity that the ipcache gives an address outside: that of the longest prefix around it. */
  externalIdentity(text: string): number {
    const address = IpAddress.parse(text);
    let best: { length: number; identity: number } | undefined;
    for (const { prefix: prefixText, identity } of this.repository.cidrPairs()) {
      const prefix = Prefix.parse(prefixText);
      if (prefix.contains(address) && (!best || prefix.length > best.length)) {
        best = { length: prefix.length, identity };
      }
    }
    return best?.identity ?? (address.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6);
  }
}
