/**
 * Changes of policies that wait to be confirmed: what was there before stands in the database beside them, with a deadline. Whichever engine
 * is there when it passes puts that back, all or nothing and once, in one transaction. One that was not there does so when it starts, before
 * it hands anything out.
 *
 *     apply ─ deadline D ──▶ waits ── confirm before D ──▶ kept
 *                              └───── D passes, or rollback ──▶ as before
 *
 * @module
 */
import { Backoff, type Clock, type Logger, type WatchedTable } from "@weir/common";
import type { PendingChange } from "@weir/proto/policy";

/** What {@link PendingPolicies} is made of. */
export interface PendingPoliciesParts {
  readonly table: WatchedTable<PendingChange>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Puts back what was before; undefined: another replica has, or it was confirmed. */
  readonly rollBack: (id: string) => Promise<unknown>;
  /** Called when something was put back. */
  readonly onRolledBack: () => Promise<void>;
}

/** Puts back what nobody confirmed. */
export class PendingPolicies {
  readonly #parts: PendingPoliciesParts;
  /** When each was first seen: a wall clock that is set back puts no deadline off. */
  readonly #seenMs = new Map<string, number>();

  constructor(parts: PendingPoliciesParts) {
    this.#parts = parts;
  }

  /**
   * Rolls back all whose time has passed; so an engine begins.
   * @throws {ProblemError} DATABASE_UNAVAILABLE
   */
  async rollBackDue(): Promise<boolean> {
    const { table, rollBack, log } = this.#parts;
    let changed = false;
    for (const change of table.list()) {
      if (this.#leftMs(change) > 0) continue;
      const { id, by, policies } = change;
      if (await rollBack(id) === undefined) continue;
      changed = true;
      log.warn("A change of policies was not confirmed in time and is rolled back", {
        ...{ id, by, policies: policies.map(({ name }) => name).join(", ") },
      });
    }
    return changed;
  }

  /** Rolls back each when its time has passed, until `signal`. */
  async run(signal: AbortSignal): Promise<void> {
    const { table, clock, log, onRolledBack } = this.#parts,
      backoff = new Backoff({ delayMsMin: 50, delayMsMax: 2000 });
    while (!signal.aborted) {
      try {
        const { revision } = table;
        if (await this.rollBackDue()) await onRolledBack();
        backoff.reset();
        await this.#wait(revision, signal);
      } catch (error) {
        log.warn("Cannot roll back a change of policies that was not confirmed", { error });
        await clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  async #wait(revision: number, signal: AbortSignal): Promise<void> {
    const { table, clock } = this.#parts, done = new AbortController();
    const either = AbortSignal.any([signal, done.signal]);
    const left = Math.min(...table.list().map((change) => this.#leftMs(change)));
    const waits = [table.waitBeyond(revision, either)];
    if (left < Infinity) waits.push(clock.sleep(Math.max(1, left), either));
    await Promise.race(waits);
    done.abort();
  }

  #leftMs({ id, deadlineUnixS, withinS }: PendingChange): number {
    const { clock, table } = this.#parts, monotonicMs = clock.monotonicMs();
    for (const known of this.#seenMs.keys()) if (table.get(known) === undefined) this.#seenMs.delete(known);
    const seenMs = this.#seenMs.get(id) ?? monotonicMs;
    this.#seenMs.set(id, seenMs);
    return Math.min(deadlineUnixS * 1000 - clock.nowMs(), seenMs + withinS * 1000 - monotonicMs);
  }
}
