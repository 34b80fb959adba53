/**
 * Objects that say who is meant where a policy names them: a CiliumCIDRGroup its prefixes. A policy selects them by what they are
 * labelled with, their names included, so an object that comes later, or is labelled anew, is found in the same way.
 * @module
 */
import { type Label, LabelSet, makeLabel, type Prefix, Selector, SOURCE_ANY } from "@weir/common";

/** Source of the labels of CIDR groups, and the key, with the group's name behind it, of the one that names it (both Cilium's). */
export const SOURCE_CIDR_GROUP = "cidrgroup";
const GROUP_NAME_PREFIX = "io.cilium.policy.cidrgroupname/";

/** Most prefixes in one group. */
export const GROUP_PREFIXES_MAX = 20_000;

/** What kinds of objects there are. */
export type PeerSourceKind = "group";

/** One object. */
export interface PeerSource {
  readonly kind: PeerSourceKind;
  readonly name: string;
  /** What selectors ask for. */
  readonly labels: LabelSet;
  /** Sorted, each once. */
  readonly prefixes: readonly Prefix[];
}

/** A CIDR group. @param labels of the object itself, without a source */
export function cidrGroup(
  name: string,
  labels: Iterable<readonly [key: string, value: string]>,
  prefixes: readonly Prefix[],
): PeerSource {
  const own: Label[] = [...labels].map(([key, value]) => makeLabel(SOURCE_CIDR_GROUP, key, value));
  own.push(makeLabel(SOURCE_CIDR_GROUP, GROUP_NAME_PREFIX + name));
  const unique = new Map(prefixes.map((prefix) => [prefix.text, prefix]));
  return {
    kind: "group",
    name,
    labels: LabelSet.from(own),
    prefixes: [...unique.values()].sort((a, b) => a.compare(b)),
  };
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

/** A selector of sources for people: `CIDR group corp`, `CIDR groups color=red`. */
export function formatSourceSelector(kind: PeerSourceKind, selector: Selector): string {
  const named = selector.requirements.length === 1 ? selector.requirements[0] : undefined;
  if (kind === "group" && named?.operator === "Exists" && named.key.startsWith(GROUP_NAME_PREFIX)) {
    return `CIDR group ${named.key.slice(GROUP_NAME_PREFIX.length)}`;
  }
  const words = selector.key.replaceAll(`${SOURCE_CIDR_GROUP}:`, "").replaceAll(`${SOURCE_ANY}:`, "");
  return `CIDR groups ${words === "" ? "of any label" : words}`;
}
