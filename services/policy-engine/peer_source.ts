/**
 * Objects that say who is meant where a policy names them: a CiliumCIDRGroup its prefixes, a service its pods, or the addresses that
 * its slices have. A policy selects them by what they are labelled with, their names included, so an object that comes later, or
 * is labelled anew, is found in the same way.
 * @module
 */
import {
  type Label,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LabelError,
  LabelSet,
  makeLabel,
  Prefix,
  type Requirement,
  Selector,
  SOURCE_ANY,
  SOURCE_KUBERNETES,
} from "@weir/common";
import { isLabelText } from "./label_syntax.ts";

/** Source of the labels of CIDR groups, and the key, with the group's name behind it, of the one that names it (both Cilium's). */
export const SOURCE_CIDR_GROUP = "cidrgroup";
const GROUP_NAME_PREFIX = "io.cilium.policy.cidrgroupname/";
/** Source of the labels that say a service's name and namespace; its own labels are Kubernetes'. */
const SOURCE_SERVICE = "service";

/** Most prefixes in one group, and addresses of one service. */
export const GROUP_PREFIXES_MAX = 20_000;

/** What kinds of objects there are. */
export type PeerSourceKind = "group" | "service";

/** One object. */
export interface PeerSource {
  readonly kind: PeerSourceKind;
  /** `NAME`; of a service `NAMESPACE/NAME`. */
  readonly name: string;
  /** What selectors ask for. */
  readonly labels: LabelSet;
  /** Sorted, each once. */
  readonly prefixes: readonly Prefix[];
  /** Pods that it means. */
  readonly pods?: Selector;
}

/** A CIDR group. @param labels of the object itself, without a source. @throws {LabelError} */
export function cidrGroup(
  name: string,
  labels: Iterable<readonly [key: string, value: string]>,
  prefixes: readonly Prefix[],
): PeerSource {
  const own: Label[] = [...labels].map(([key, value]) => makeLabel(SOURCE_CIDR_GROUP, key, value));
  own.push(makeLabel(SOURCE_CIDR_GROUP, GROUP_NAME_PREFIX + name));
  return { kind: "group", name, labels: LabelSet.from(own), prefixes: sorted(prefixes) };
}

/** What is said of a service. */
export interface ServiceFacts {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of its pods; empty: the addresses count. */
  readonly selector: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
}

/** A service. Labels that no policy can name are left out; a selector that asks for such a one selects nobody. @param cluster name of the local cluster, in which its pods are */
export function serviceSource(
  { namespace, name, labels, selector, addresses }: ServiceFacts,
  cluster: string,
): PeerSource {
  const own = [makeLabel(SOURCE_SERVICE, "namespace", namespace), makeLabel(SOURCE_SERVICE, "name", name)];
  for (const [key, value] of Object.entries(labels)) {
    try {
      own.push(makeLabel(SOURCE_KUBERNETES, key, value));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
    }
  }
  const entries = Object.entries(selector);
  const pods: Requirement[] = entries.every(([key, value]) => isLabelText(key, value))
    ? entries.map(([key, value]) => isLabel(SOURCE_ANY, key, value))
    : [];
  const surroundings = [
    isLabel(SOURCE_KUBERNETES, LABEL_NAMESPACE, namespace),
    isLabel(SOURCE_KUBERNETES, LABEL_CLUSTER, cluster),
  ];
  return {
    kind: "service",
    name: `${namespace}/${name}`,
    labels: LabelSet.from(own),
    prefixes: entries.length > 0
      ? []
      : sorted(addresses.flatMap((text) => Prefix.tryParse(text, { bare: true }) ?? [])),
    pods: pods.length > 0 ? Selector.of([...pods, ...surroundings]) : undefined,
  };
}

function sorted(prefixes: readonly Prefix[]): Prefix[] {
  const unique = new Map(prefixes.map((prefix) => [prefix.text, prefix]));
  return [...unique.values()].sort((a, b) => a.compare(b));
}

function isLabel(source: string, key: string, value: string): Requirement {
  return { source, key, operator: "In", values: [value] };
}

/** Selects the group of one name. */
export function groupNamed(name: string): Selector {
  return Selector.of([{
    source: SOURCE_CIDR_GROUP,
    key: GROUP_NAME_PREFIX + name,
    operator: "Exists",
    values: [],
  }]);
}

/** Selects services. @param namespace undefined: of every namespace. @param name undefined: of every name */
export function servicesOf(
  namespace: string | undefined,
  name: string | undefined,
  labels: Selector = Selector.everything,
): Selector {
  return labels.and([
    ...namespace === undefined ? [] : [isLabel(SOURCE_SERVICE, "namespace", namespace)],
    ...name === undefined ? [] : [isLabel(SOURCE_SERVICE, "name", name)],
  ]);
}

/** A selector of objects for people: `CIDR group corp`, `CIDR groups color=red`, `service shop/db`, `services env=prod in shop`. */
export function formatSourceSelector(kind: PeerSourceKind, { requirements }: Selector): string {
  const own = requirements.filter(({ source, key }) =>
    source !== SOURCE_SERVICE && !key.startsWith(GROUP_NAME_PREFIX)
  );
  const words = Selector.of(own).key.replaceAll(/\b(cidrgroup|any|k8s):/g, "") || "of any label";
  if (kind === "group") {
    const named = requirements.find(({ key }) => key.startsWith(GROUP_NAME_PREFIX));
    return named === undefined
      ? `CIDR groups ${words}`
      : `CIDR group ${named.key.slice(GROUP_NAME_PREFIX.length)}`;
  }
  const valueOf = (key: string) =>
    requirements.find((one) => one.source === SOURCE_SERVICE && one.key === key)?.values[0];
  const name = valueOf("name"), namespace = valueOf("namespace");
  if (name !== undefined) {
    return namespace === undefined ? `services named ${name}` : `service ${namespace}/${name}`;
  }
  return `services ${words}${namespace === undefined ? "" : ` in ${namespace}`}`;
}
