/**
 * Changes of policies that wait to be confirmed: what was there before stands in the database beside them, with a deadline. Whichever engine
 * is there when it passes puts that back, once and in one transaction, but for what was written since. One that was not there does so when it
 * starts, before it hands anything out. One that cannot be put back is tried again, and stands in the way of nothing else.
 *
 *     apply ─ deadline D ──▶ waits ── confirm before D ──▶ kept
 *                              └───── D passes, or rollback ──▶ as before
 *
 * @module
 */
import {
  Backoff,
  type Clock,
  errorText,
  type Logger,
  type ProblemError,
  type WatchedTable,
} from "@weir/common";
import { PendingChange } from "@weir/proto/policy";
import type { RolledBack } from "./pending_rows.ts";

/** What {@link PendingPolicies} is made of. */
export interface PendingPoliciesParts {
  readonly table: WatchedTable<PendingChange>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Puts back what was before; undefined: another replica has, or it was confirmed. */
  readonly rollBack: (id: string) => Promise<RolledBack | undefined>;
  /** Changes whose rows cannot be read, by name, with the reason. */
  readonly unreadable: () => ReadonlyMap<string, string>;
  /** Takes in what the database has, which says whether it is older than what is in force. */
  readonly catchUp: () => Promise<void>;
  /** Called when something was put back. */
  readonly onRolledBack: () => Promise<void>;
}

/** A change that could not be put back. */
interface Failure {
  readonly error: string;
  readonly backoff: Backoff;
  /** When it is tried again. */
  readonly retryMs: number;
}

/** Puts back what nobody confirmed. */
export class PendingPolicies {
  readonly #parts: PendingPoliciesParts;
  /** When each was first seen: a wall clock that is set back puts no deadline off. */
  readonly #seenMs = new Map<string, number>();
  readonly #failures = new Map<string, Failure>();
  /** Changes that cannot be read and were logged. */
  readonly #told = new Set<string>();

  constructor(parts: PendingPoliciesParts) {
    this.#parts = parts;
  }

  /** All that wait, with what is wrong with them. */
  list(): PendingChange[] {
    const { table, unreadable } = this.#parts, broken = unreadable();
    const changes = table.list().filter(({ id }) => !broken.has(id)).map((change) => ({
      ...change,
      error: this.#failures.get(change.id)?.error ?? "",
    }));
    for (const [id, why] of broken) {
      changes.push(PendingChange.create({ id, error: `it cannot be read, and not be rolled back: ${why}` }));
    }
    return changes;
  }

  /**
   * Rolls back all whose time has passed; so an engine begins. Those that fail are tried again later.
   * @throws {ProblemError} DATABASE_UNAVAILABLE
   */
  async rollBackDue(): Promise<boolean> {
    const { table } = this.#parts;
    let changed = false;
    this.#tellUnreadable();
    for (const known of this.#failures.keys()) {
      if (table.get(known) === undefined) this.#failures.delete(known);
    }
    for (const change of table.list()) {
      if (this.#leftMs(change) > 0) continue;
      try {
        if (await this.#rollBack(change)) changed = true;
      } catch (error) {
        // That is no fault of this one.
        if ((error as ProblemError).status === 503) throw error;
        this.#retryLater(change, error);
      }
    }
    return changed;
  }

  async #rollBack({ id, by, policies }: PendingChange): Promise<boolean> {
    const { rollBack, log } = this.#parts, done = await rollBack(id);
    this.#failures.delete(id);
    if (done === undefined) return false;
    const names = policies.map(({ name }) => name), left = [...done.left];
    log.warn("A change of policies was not confirmed in time and is rolled back", {
      ...{ id, by, policies: names.filter((name) => !done.left.has(name)).join(", ") },
      ...(left.length > 0 ? { changedSince: left.join(", ") } : {}),
    });
    return true;
  }

  #retryLater({ id, by }: PendingChange, error: unknown): void {
    const { clock, log } = this.#parts;
    const backoff = this.#failures.get(id)?.backoff ?? new Backoff({ delayMsMin: 200, delayMsMax: 30_000 });
    const retryMs = clock.monotonicMs() + backoff.nextMs();
    this.#failures.set(id, { error: errorText(error), backoff, retryMs });
    log.warn("Cannot roll back a change of policies that was not confirmed, and try again", {
      id,
      by,
      error,
    });
  }

  #tellUnreadable(): void {
    const broken = this.#parts.unreadable();
    for (const id of this.#told) if (!broken.has(id)) this.#told.delete(id);
    for (const [id, why] of broken) {
      if (this.#told.has(id)) continue;
      this.#told.add(id);
      this.#parts.log.error("A change of policies that waits cannot be read, and is not rolled back", {
        id,
        why,
      });
    }
  }

  /** Rolls back each when its time has passed, until `signal`. */
  async run(signal: AbortSignal): Promise<void> {
    const { table, clock, log, onRolledBack, catchUp } = this.#parts,
      backoff = new Backoff({ delayMsMin: 50, delayMsMax: 2000 });
    while (!signal.aborted) {
      try {
        const { revision } = table;
        if (table.list().some((change) => this.#leftMs(change) <= 0)) await catchUp();
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
    const leftMs = Math.min(deadlineUnixS * 1000 - clock.nowMs(), seenMs + withinS * 1000 - monotonicMs);
    const failure = this.#failures.get(id);
    return failure === undefined ? leftMs : Math.max(leftMs, failure.retryMs - monotonicMs);
  }
}
