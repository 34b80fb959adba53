/**
 * What goes so that the rest has room: what is older than the age, and the oldest while all of it takes more than the size. A clock that
 * jumps ahead makes nothing old: what it says counts when it has stood for ten minutes.
 * @module
 */
import type { Clock, Health, Logger } from "@weir/common";
import { sql } from "kysely";
import type { EndTable } from "./end_table.ts";
import type { HistoryStore, WriteBatch } from "./history_store.ts";

/** How much is kept. Milliseconds and bytes. */
export interface RetentionLimits {
  /** Of flows and connections. */
  readonly ageMsMax: number;
  /** Of sums, counts, and what held. */
  readonly rollupAgeMsMax: number;
  readonly bytesMax: number;
}

/** Between two looks. */
const EVERY_MS = 10_000;
/** Rows that go in one transaction. */
const BLOCKS_AT_ONCE = 64, ROWS_AT_ONCE = 500;
/** Transactions of one turn: writing goes on between turns. */
const STEPS_MAX = 20;
/** The wall clock may be off the steady one by so much between two turns. */
const JUMP_MS = 60_000;
/** A jump is believed when it has stood so long. */
export const BELIEVE_MS = 600_000;
/** Sums and the like may take this share of all; the rest is flows and connections. */
const ROLLUP_SHARE = 0.5;

/** What it is made of. */
interface RetentionParts {
  readonly store: HistoryStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly health: Health;
  readonly limits: RetentionLimits;
  readonly ends: EndTable;
}

/** What goes so that the rest has room. */
export class Retention {
  /** What is stored takes, as of the last look. */
  bytes = 0;
  flows = 0;
  oldestMs = 0;
  newestMs = 0;
  /** Of sums. */
  rollupOldestMs = 0;
  readonly #parts: RetentionParts;
  #lookedMs = -Infinity;
  /** Wall minus steady clock at the last turn; since when it stands. */
  #offsetMs: number | undefined;
  #steadySinceMs = -Infinity;
  #isFirst = true;

  constructor(parts: RetentionParts) {
    this.#parts = parts;
  }

  /** This was written since the last look: what is earlier or later than all before is not hidden until the next. */
  note({ blocks, rollups }: Pick<WriteBatch, "blocks" | "rollups">): void {
    for (const { sinceMs, untilMs } of blocks) {
      if (this.oldestMs > 0) this.oldestMs = Math.min(this.oldestMs, sinceMs);
      this.newestMs = Math.max(this.newestMs, untilMs);
    }
    for (const { startS } of rollups) {
      if (this.rollupOldestMs > 0) this.rollupOldestMs = Math.min(this.rollupOldestMs, startS * 1000);
    }
  }

  /** One look, when it is due: adds up, compacts sums, and drops what has to go. @throws {ProblemError} */
  async turn(signal: AbortSignal): Promise<void> {
    const { clock, store, limits, health } = this.#parts, steadyMs = clock.monotonicMs();
    this.#watchClock();
    if (steadyMs - this.#lookedMs < EVERY_MS) return;
    const nowMs = clock.nowMs();
    for (let step = 0; step < STEPS_MAX && !signal.aborted && await store.compact(nowMs); step++);
    const usage = await store.usage();
    // After a long time without a word: either it was so long, or the clock is wrong.
    if (this.#isFirst && usage.newestMs > 0 && nowMs - usage.newestMs > limits.ageMsMax / 2) {
      this.#steadySinceMs = steadyMs;
    }
    this.#isFirst = false;
    const isSteady = steadyMs - this.#steadySinceMs >= BELIEVE_MS || this.#steadySinceMs === -Infinity;
    if (isSteady) health.ok("retention");
    else health.ok("retention", "the clock has jumped: nothing goes by its age for ten minutes");
    let { blocks } = usage, steps = 0;
    const more = () => steps++ < STEPS_MAX && !signal.aborted;
    if (isSteady) {
      const beforeMs = nowMs - limits.ageMsMax;
      for (let gone = BLOCKS_AT_ONCE; gone === BLOCKS_AT_ONCE && more();) {
        const dropped = await store.dropOldestBlocks(BLOCKS_AT_ONCE, beforeMs);
        gone = dropped.count;
        blocks -= dropped.bytes;
      }
      await store.dropOldRows(nowMs - limits.rollupAgeMsMax);
      if (usage.newestMs > 0) {
        await this.#forgetEnds(Math.min(usage.rollupOldestMs, usage.oldestMs || Infinity));
      }
    }
    let { others } = usage;
    while (others > limits.bytesMax * ROLLUP_SHARE && more()) {
      const dropped = await store.dropOldestRollups(ROWS_AT_ONCE);
      if (dropped === 0) break;
      others -= dropped;
    }
    while (blocks + others > limits.bytesMax && more()) {
      const dropped = await store.dropOldestBlocks(BLOCKS_AT_ONCE, Infinity);
      if (dropped.count === 0) break;
      blocks -= dropped.bytes;
    }
    this.bytes = blocks + others;
    this.flows = usage.flows;
    this.oldestMs = usage.oldestMs;
    this.newestMs = usage.newestMs;
    this.rollupOldestMs = Number.isFinite(usage.rollupOldestMs) ? usage.rollupOldestMs : 0;
    // More has to go: without a rest, but for the writes between.
    this.#lookedMs = steps > STEPS_MAX ? -Infinity : steadyMs;
  }

  async #forgetEnds(beforeMs: number): Promise<void> {
    if (!Number.isFinite(beforeMs) || beforeMs <= 0) return;
    const gone = this.#parts.ends.forgetBefore(beforeMs);
    for (let i = 0; i < gone.length; i += ROWS_AT_ONCE) {
      const numbers = gone.slice(i, i + ROWS_AT_ONCE);
      await this.#parts.store.database.query((db) =>
        sql`delete from weir_history_end where id in (${sql.join(numbers)})`.execute(db)
      );
    }
  }

  #watchClock(): void {
    const { clock, log } = this.#parts, offsetMs = clock.nowMs() - clock.monotonicMs();
    if (this.#offsetMs !== undefined && offsetMs - this.#offsetMs > JUMP_MS) {
      this.#steadySinceMs = clock.monotonicMs();
      log.warn("The clock has jumped ahead", { seconds: Math.round((offsetMs - this.#offsetMs) / 1000) });
    }
    this.#offsetMs = offsetMs;
  }
}
