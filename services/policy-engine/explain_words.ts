/** How rules and identities are called where something is explained. @module */
import { formatLabel, formatRequirement, LABEL_CLUSTER, type Selector, SOURCE_CIDR } from "@weir/common";
import type { RuleSource } from "@weir/proto/policy";
import { isOutside, type PeerIdentity } from "./policy.ts";

/** `cnp:default/rule1 spec.ingress[0] (rule1.yaml:12)` */
export function formatSource(source: RuleSource): string {
  return `${source.policy} ${source.path} (${placeOf(source, source.line)})`;
}

/** `rule1.yaml:12`, or `line 12` of a text without a name. */
export function placeOf({ file }: { readonly file: string }, line: number): string {
  return file === "" ? `line ${line}` : `${file}:${line}`;
}

/** What a selector asks, without what every one asks: being in this cluster. */
export function requirementWords({ requirements }: Selector): string[] {
  return requirements.filter(({ key }) => key !== LABEL_CLUSTER).map(formatRequirement);
}

/** An identity in few words: its reserved name, prefix, or the labels that people gave it. */
export function describeIdentity(identity: PeerIdentity): string {
  if (identity.askedName !== undefined) return identity.askedName;
  if (isOutside(identity)) return identity.prefixes.join(", ");
  const labels = [...identity.labels];
  const reserved = labels.find((label) => label.source === "reserved");
  if (reserved) return reserved.key;
  const own = labels.filter((label) =>
    !label.key.startsWith("io.cilium.") && !label.key.startsWith("io.kubernetes.") &&
    label.source !== SOURCE_CIDR
  );
  return (own.length > 0 ? own : labels).map(formatLabel).join(", ");
}

/** `a, b and c`; at most four are named. */
export function listOf(items: readonly string[]): string {
  const shown = items.slice(0, 4);
  const more = items.length - shown.length;
  if (more > 0) return `${shown.join(", ")} and ${more} more`;
  return shown.length < 2 ? shown.join() : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}
