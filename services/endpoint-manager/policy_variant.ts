/**
 * From an identity's map state to what the datapath is given: ingress rules on named ports are resolved with the
 * endpoint's own port names, and its enforcement mode says whether there is a policy at all. Endpoints of one identity share one
 * policy unless their names or modes differ.
 * @module
 */
import { enforcedAs, isTiered, replacePortNames, resolvePortNames } from "@weir/common";
import type { Enforcement } from "@weir/proto/common";
import type { NamedPort } from "@weir/proto/identity";
import type { DatapathPolicy } from "@weir/proto/datapath";
import type { ProxyPolicy } from "@weir/proto/proxy";
import type { MapState } from "@weir/proto/policy";
import type { Init } from "@weir/proto";

/** What an endpoint's policy depends on beside its identity. */
export interface PolicyVariant {
  readonly namedPorts: readonly NamedPort[];
  /** In force; unspecified is `DEFAULT`. */
  readonly enforcement: Enforcement;
  /** What the policy denies passes, and is reported. */
  readonly audit: boolean;
}

/** Whether connections may be sent to the L7 proxy: it would end what its rules deny. */
export function mayRedirect({ enforcement, audit }: PolicyVariant): boolean {
  return enforcement !== "NEVER" && !audit;
}

/** The port names that this map state asks for, sorted; empty for most. */
function namesUsed(state: MapState): string[] {
  return [...new Set(state.entries.filter((e) => e.portName !== "").map((e) => e.portName.toLowerCase()))]
    .sort();
}

/**
 * Name of the policy that endpoints like this one share: `<identity>` or `<identity>@name=port/proto,...`, and `!always`,
 * `!never` and `!audit` behind it.
 */
export function policyName(state: MapState, { namedPorts, enforcement, audit }: PolicyVariant): string {
  if (enforcement === "NEVER") return `${state.identity}!never`;
  const mode = `${enforcement === "ALWAYS" ? "!always" : ""}${audit ? "!audit" : ""}`;
  const used = namesUsed(state);
  if (used.length === 0) return `${state.identity}${mode}`;
  const table = namedPorts
    .filter((p) => used.includes(p.name.toLowerCase()))
    .map((p) => `${p.name.toLowerCase()}=${p.port}/${p.protocol || "TCP"}`)
    .sort();
  return `${state.identity}@${table.join(",")}${mode}`;
}

/**
 * Map state for one variant. An entry whose name the endpoint does not define is left out (the direction stays enforced).
 * Where a resolved name meets another entry, higher precedence wins.
 */
export function resolvePolicy(state: MapState, variant: PolicyVariant): Init<DatapathPolicy> {
  const { enforceIngress, enforceEgress, entries: all } = enforcedAs(state, variant.enforcement);
  const given = variant.audit ? all.map((entry) => ({ ...entry, ruleSet: 0 })) : all;
  // A resolved name may cover, or lie under, an entry of higher precedence that the kernel's longest match would hide. So may what
  // tiers say, which the engine leaves for those who put several identities' entries together.
  const isOpen = given.some((entry) => entry.portName !== "" || isTiered(entry));
  return {
    name: policyName(state, variant),
    policyRevision: state.policyRevision,
    enforceIngress,
    enforceEgress,
    ingressDefaultCookie: state.ingressDefaultCookie,
    egressDefaultCookie: state.egressDefaultCookie,
    audit: variant.audit,
    entries: isOpen ? resolvePortNames(given, variant.namedPorts) : given,
  };
}

/** What the L7 proxy judges by, beside what the datapath is given: entries that others hide there say what passes, too. */
export type JudgedParts = Pick<
  Init<ProxyPolicy>,
  "enforceIngress" | "enforceEgress" | "entries" | "ruleSets" | "fqdnSelectors" | "namesTold"
>;

/** The same map state for the L7 proxy. */
export function judgedParts(state: MapState, variant: PolicyVariant): JudgedParts {
  const { ruleSets, fqdnSelectors, selfDescribed } = state;
  // What it holds already goes on, and what it denies there is not told.
  const mode = mayRedirect(variant) ? variant.enforcement : "NEVER";
  const { enforceIngress, enforceEgress, entries } = enforcedAs(state, mode);
  const named = entries.some((entry) => entry.portName !== "");
  return {
    enforceIngress,
    enforceEgress,
    entries: named ? replacePortNames(entries, variant.namedPorts) : entries,
    ruleSets,
    fqdnSelectors,
    // An engine that says which prefixes a map state knows says its selectors too.
    namesTold: selfDescribed,
  };
}
