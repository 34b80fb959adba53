/**
 * For how long identities have been without a holder, by this process's own steady clock: a wall clock that jumps, here or on the
 * machine of another replica, must not release a number that nodes may still carry. What time this process did not see does
 * not count: after a start the grace begins anew. Nor is a number released that addresses in the ipcache still have: an endpoint that
 * is to move to another identity runs with the one before until its new policy is there.
 * @module
 */
import type { Clock } from "@weir/common";

/** A row of an identity that nobody holds. */
export interface UnusedRow {
  readonly number: number;
  /** When its last holder went, by the clock of whoever saw it: here it only tells one time from another. */
  readonly releasedUnixS: number;
}

/** Since when each identity has been unused. */
export class UnusedIdentities {
  readonly #clock: Clock;
  readonly #isAnnounced: (number: number) => boolean;
  readonly #seen = new Map<number, { releasedUnixS: number; atMs: number }>();

  /** @param isAnnounced whether the ipcache has entries with the number */
  constructor(clock: Clock, isAnnounced: (number: number) => boolean) {
    this.#clock = clock;
    this.#isAnnounced = isAnnounced;
  }

  /** The last holder of an identity went now. One that is not stored in the end does no harm. */
  note({ number, releasedUnixS }: UnusedRow): void {
    this.#seen.set(number, { releasedUnixS, atMs: this.#clock.monotonicMs() });
  }

  /** Takes note of every row that there is, and answers those that nobody has held for `graceS` and no address has. */
  due(rows: readonly UnusedRow[], graceS: number): UnusedRow[] {
    const stored = new Map(rows.map((row) => [row.number, row]));
    for (const number of this.#seen.keys()) if (!stored.has(number)) this.#seen.delete(number);
    const limitMs = this.#clock.monotonicMs() - graceS * 1000;
    return rows.filter((row) => {
      if (this.#seen.get(row.number)?.releasedUnixS !== row.releasedUnixS) this.note(row);
      return this.#seen.get(row.number)!.atMs <= limitMs && !this.#isAnnounced(row.number);
    });
  }
}
