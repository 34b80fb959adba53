/**
 * Fair shares of the ipcache: who is told of more prefixes than there is room for is cut, and nobody else.
 *
 * A source is what an entry comes from: a node (its pods), this node, or the CIDRs that policies name. Where all do not fit, those
 * who want least get all they want, and the rest is divided evenly (max-min): one source with a million prefixes takes
 * nothing from the others.
 * @module
 */
import type { IpcacheEntry } from "@weir/maps";
import { isFqdnIdentity } from "@weir/common";
import { unmapped } from "../kernel/addresses.ts";

/** First identity that is local to a cluster's CIDRs. */
const CIDR_IDENTITIES = 1 << 24;

/** What an entry comes from: "policies", "names", "this node", "node 192.0.2.2". */
export function sourceOf(entry: Pick<IpcacheEntry, "identity" | "node">): string {
  if (entry.node.some((byte) => byte !== 0)) return `node ${unmapped(entry.node)}`;
  if (isFqdnIdentity(entry.identity)) return "names";
  return entry.identity >= CIDR_IDENTITIES ? "policies" : "this node";
}

/** How many each may have of `room`, by how many each wants. Pure. */
export function fairShares(wanted: ReadonlyMap<string, number>, room: number): Map<string, number> {
  const shares = new Map<string, number>();
  let left = room, sources = wanted.size;
  for (const [source, count] of [...wanted].sort(([, a], [, b]) => a - b)) {
    const share = Math.min(count, Math.floor(left / sources--));
    shares.set(source, share);
    left -= share;
  }
  return shares;
}
