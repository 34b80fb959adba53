/**
 * From an identity's map state to what the datapath is given: ingress rules on named ports are resolved with the
 * endpoint's own port names. Endpoints of one identity share one policy unless their names differ.
 * @module
 */
import type { NamedPort } from "@weir/proto/identity";
import type { DatapathPolicy } from "@weir/proto/datapath";
import type { MapState, MapStateEntry } from "@weir/proto/policy";
import type { Init } from "@weir/proto";

const PROTOCOL_NUMBERS: Record<string, number> = { TCP: 6, UDP: 17, SCTP: 132 };

/** Port of a name and protocol number in an endpoint's table (names are case-folded), or undefined. */
function portOf(table: readonly NamedPort[], name: string, protocol: number): number | undefined {
  const wanted = name.toLowerCase();
  return table.find((p) =>
    p.name.toLowerCase() === wanted && PROTOCOL_NUMBERS[p.protocol || "TCP"] === protocol
  )
    ?.port;
}

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

const keyOf = (e: MapStateEntry) =>
  `${e.direction}/${e.identity}/${e.protocol}/${e.port}/${e.portPrefixLength}`;

/**
 * Map state for one named-port table. An entry whose name the endpoint does not define is left out (the direction
 * stays enforced). Where a resolved name meets an entry with the same key, higher precedence wins.
 */
export function resolvePolicy(state: MapState, namedPorts: readonly NamedPort[]): Init<DatapathPolicy> {
  const byKey = new Map<string, MapStateEntry>();
  for (const entry of state.entries) {
    let resolved = entry;
    if (entry.portName !== "") {
      const port = portOf(namedPorts, entry.portName, entry.protocol);
      if (port === undefined) continue;
      resolved = { ...entry, port, portPrefixLength: 16, portName: "" };
    }
    const key = keyOf(resolved);
    const other = byKey.get(key);
    if (!other || resolved.precedence > other.precedence) byKey.set(key, resolved);
  }
  return {
    name: policyName(state, namedPorts),
    policyRevision: state.policyRevision,
    enforceIngress: state.enforceIngress,
    enforceEgress: state.enforceEgress,
    ingressDefaultCookie: state.ingressDefaultCookie,
    egressDefaultCookie: state.egressDefaultCookie,
    entries: [...byKey.values()],
  };
}
