/**
 * From an identity's map state to what the datapath is given: ingress rules on named ports are resolved with the
 * endpoint's own port names. Endpoints of one identity share one policy unless their names differ.
 * @module
 */
import { replacePortNames, resolvePortNames } from "@weir/common";
import type { NamedPort } from "@weir/proto/identity";
import type { DatapathPolicy } from "@weir/proto/datapath";
import type { ProxyPolicy } from "@weir/proto/proxy";
import type { MapState } from "@weir/proto/policy";
import type { Init } from "@weir/proto";

/** The port names that this map state asks for, sorted; empty for most. */
function namesUsed(state: MapState): string[] {
  return [...new Set(state.entries.filter((e) => e.portName !== "").map((e) => e.portName.toLowerCase()))]
    .sort();
}

/** Name of the policy that an endpoint with these named ports shares: `<identity>` or `<identity>@name=port/proto,...`. */
export function policyName(state: MapState, namedPorts: readonly NamedPort[]): string {
  const used = namesUsed(state);
  if (used.length === 0) return `${state.identity}`;
  const table = namedPorts
    .filter((p) => used.includes(p.name.toLowerCase()))
    .map((p) => `${p.name.toLowerCase()}=${p.port}/${p.protocol || "TCP"}`)
    .sort();
  return `${state.identity}@${table.join(",")}`;
}

/**
 * Map state for one named-port table. An entry whose name the endpoint does not define is left out (the direction
 * stays enforced). Where a resolved name meets another entry, higher precedence wins.
 */
export function resolvePolicy(state: MapState, namedPorts: readonly NamedPort[]): Init<DatapathPolicy> {
  // A resolved name may cover, or lie under, an entry of higher precedence that the kernel's longest match would hide.
  const named = state.entries.some((entry) => entry.portName !== "");
  const entries = named ? resolvePortNames(state.entries, namedPorts) : state.entries;
  return {
    name: policyName(state, namedPorts),
    policyRevision: state.policyRevision,
    enforceIngress: state.enforceIngress,
    enforceEgress: state.enforceEgress,
    ingressDefaultCookie: state.ingressDefaultCookie,
    egressDefaultCookie: state.egressDefaultCookie,
    entries,
  };
}

/** What the L7 proxy judges by, beside what the datapath is given: entries that others hide there say what passes, too. */
export type JudgedParts = Pick<Init<ProxyPolicy>, "entries" | "ruleSets" | "fqdnSelectors" | "namesTold">;

/** The same map state for the L7 proxy. */
export function judgedParts(state: MapState, namedPorts: readonly NamedPort[]): JudgedParts {
  const { entries, ruleSets, fqdnSelectors, selfDescribed } = state;
  const named = entries.some((entry) => entry.portName !== "");
  return {
    entries: named ? replacePortNames(entries, namedPorts) : entries,
    ruleSets,
    fqdnSelectors,
    // An engine that says which prefixes a map state knows says its selectors too.
    namesTold: selfDescribed,
  };
}
