/**
 * Identities change on one node after the other, and a packet through the tunnel names the one of its sender. So that none is dropped
 * meanwhile, both ends go on with the identity before:
 *
 *     sender     names it in the tunnel for 120 s after its last change     weir_endpoints, wire
 *     receiver   takes it from that address for 180 s after the last         weir_ipcache_exact, moved_from
 *
 * A receiver judges by what the ipcache says, whichever of the two the packet names: the claim can only make it be dropped. One that is
 * behind for longer (its agent is away) drops what it does not know, for the address may be another pod's by then.
 *
 * An identity that changes again: within 120 s of the change before, the sender goes on with the first one, and the time of both begins anew. Later
 * the sender names its own already, so that is the one before for both ends, whatever the receiver has taken until then.
 * @module
 */
import { IDENTITY_ALLOCATED_MIN, isLocalIdentity } from "@weir/common";

/** How long a sender names its identity of before, milliseconds. */
export const WIRE_HOLD_MS = 120_000;
/** How long a receiver takes it: it may hear of a change before the sender's time begins. */
export const MOVED_HOLD_MS = 180_000;

/** Whether a packet through the tunnel may name an identity that changes to the other. */
export function isMove(before: number, now: number): boolean {
  const isPods = (identity: number) => identity >= IDENTITY_ALLOCATED_MIN && !isLocalIdentity(identity);
  return before !== now && isPods(before) && isPods(now);
}

/** Which of them have an identity of before, and since when. */
export class IdentityMoves<K> {
  readonly #sinceMs = new Map<K, number>();

  constructor(readonly holdMs: number) {}

  /** It has moved, or was found so: the time begins (again). */
  note(key: K, nowMs: number): void {
    this.#sinceMs.set(key, nowMs);
  }

  has(key: K): boolean {
    return this.#sinceMs.has(key);
  }

  /** Whether its sender names the identity before still; false for what has none. */
  isNamed(key: K, nowMs: number): boolean {
    const sinceMs = this.#sinceMs.get(key);
    return sinceMs !== undefined && nowMs - sinceMs < WIRE_HOLD_MS;
  }

  delete(key: K): void {
    this.#sinceMs.delete(key);
  }

  /** Takes out whose time is over. */
  takeEnded(nowMs: number): K[] {
    const ended = [...this.#sinceMs].filter(([, sinceMs]) => sinceMs + this.holdMs <= nowMs).map(([key]) =>
      key
    );
    for (const key of ended) this.#sinceMs.delete(key);
    return ended;
  }
}
