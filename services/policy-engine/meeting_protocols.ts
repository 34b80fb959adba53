/**
 * L7 rules of two protocols that meet on an address. What is said of an address with a name comes together at the node: of the prefix or world around
 * it, and of the selectors that mean its names. Two protocols for one port of it cannot both be judged, and no policy alone shows that.
 * @module
 */
import { type LabelSet, protocolName } from "@weir/common";
import { fqdnMatcher, type FqdnName } from "./fqdn_selector.ts";
import { formatPeerSelector, type PeerSelector, type PolicyRule, type PortMatch } from "./policy.ts";

/** One L7 rule's place. */
interface Place {
  readonly selector: PeerSelector;
  readonly path: string;
  readonly port: PortMatch;
}

/**
 * Selectors of names of a rule, with what they may meet of another protocol: path and words. One for each selector.
 * @param rules all that select somebody whom `own` selects too, itself among them
 * @param world labels of what is outside
 */
export function meetingProtocols(
  own: PolicyRule,
  rules: Iterable<PolicyRule>,
  world: LabelSet,
): { path: string; detail: string }[] {
  const names = placesOf(own).filter(({ selector }) => selector.type === "fqdn");
  if (names.length === 0) return [];
  const found = new Map<string, string>();
  const others = [...new Set(rules)].flatMap(placesOf).filter(({ selector }) => isOutside(selector, world));
  for (const { selector, path, port } of names) {
    const other = others.find((one) =>
      one.port.rules!.kind !== port.rules!.kind && mayShare(selector, one.selector) && meets(port, one.port)
    );
    if (other === undefined) continue;
    const at = `${Math.max(port.first, other.port.first)}/${
      protocolName(port.protocol || other.port.protocol)
    }`;
    found.set(
      path,
      `${formatPeerSelector(selector)} has ${port.rules!.kind} rules for ${at} and ${
        formatPeerSelector(other.selector)
      } ${
        other.port.rules!.kind
      } rules: on an address that both mean those of one protocol alone count, want one protocol for both`,
    );
  }
  return Array.from(found, ([path, detail]) => ({ path, detail }));
}

function placesOf({ directions: { EGRESS } }: PolicyRule): Place[] {
  return EGRESS.sections.filter(({ deny }) => !deny).flatMap(({ peers, ports }) =>
    ports.filter(({ rules }) => rules !== undefined).flatMap((port) =>
      peers.map(({ selector, path }) => ({ selector, path, port }))
    )
  );
}

/** Whether it may mean an address outside, which may have a name. */
function isOutside(selector: PeerSelector, world: LabelSet): boolean {
  return selector.type !== "labels" || selector.selector.matches(world);
}

/** Two names share an address by chance, and that is not warned of: only where one means the other's name too. One selector twice is refused elsewhere. */
function mayShare(a: PeerSelector, b: PeerSelector): boolean {
  if (a.key === b.key) return false;
  if (a.type !== "fqdn" || b.type !== "fqdn") return true;
  return fqdnMatcher(a.name)(sampleOf(b.name)) || fqdnMatcher(b.name)(sampleOf(a.name));
}

/** A name that it means. */
function sampleOf({ matchName, matchPattern }: FqdnName): string {
  return matchName || matchPattern.replaceAll(/\*+/g, "x");
}

function meets(a: PortMatch, b: PortMatch): boolean {
  if (a.name !== "" || b.name !== "") return false;
  if (a.protocol !== b.protocol && a.protocol !== 0 && b.protocol !== 0) return false;
  return a.first <= b.last && b.first <= a.last;
}
