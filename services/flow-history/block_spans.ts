/**
 * For a search from the oldest on: blocks come by the time of their last item, and how early the first of those that are still to come is
 * says which items are safe. Read for one bucket at a time, all of whose blocks are within it.
 * @module
 */
import { sql } from "kysely";
import type { Database } from "@weir/common/state";
import { type BlockKind, BUCKET_MS } from "./block.ts";
import { comparePositions, type Position } from "./posting_cursor.ts";

interface Span extends Position {
  readonly sinceMs: number;
}

/** First items of the blocks of a bucket. */
export class BlockSpans {
  readonly #database: Database;
  readonly #kind: BlockKind;
  readonly #memory: readonly Span[];
  #bucket = NaN;
  /** In the order of positions; `sinceMs` is the smallest of this one and all that follow. */
  #spans: Span[] = [];

  constructor(database: Database, kind: BlockKind, memory: readonly Span[]) {
    this.#database = database;
    this.#kind = kind;
    this.#memory = memory;
  }

  /** No block at `position` or behind it has an item before this time. Positions never go back. */
  async earliestMs(position: Position): Promise<number> {
    // The time of a last item was rounded up.
    const bucket = Math.floor((position.untilMs - 1) / BUCKET_MS);
    if (bucket !== this.#bucket) await this.#load(bucket);
    while (this.#spans.length > 0 && comparePositions(this.#spans[0], position, false) < 0) {
      this.#spans.shift();
    }
    return this.#spans[0]?.sinceMs ?? bucket * BUCKET_MS;
  }

  async #load(bucket: number): Promise<void> {
    const sinceMs = bucket * BUCKET_MS, untilMs = sinceMs + BUCKET_MS;
    const rows = await this.#database.query(async (db) =>
      (await sql<{ id: string | number; since_ms: string | number; until_ms: string | number }>`
        select id, since_ms, until_ms from weir_history_block
        where kind = ${this.#kind} and until_ms > ${sinceMs} and until_ms <= ${untilMs}`.execute(db)).rows
    );
    const spans: Span[] = [
      ...rows.map(({ id, since_ms, until_ms }) => ({
        block: Number(id),
        sinceMs: Number(since_ms),
        untilMs: Number(until_ms),
      })),
      ...this.#memory.filter((one) => one.untilMs > sinceMs && one.untilMs <= untilMs),
    ].sort((a, b) => comparePositions(a, b, false));
    for (let at = spans.length - 2; at >= 0; at--) {
      spans[at] = { ...spans[at], sinceMs: Math.min(spans[at].sinceMs, spans[at + 1].sinceMs) };
    }
    this.#bucket = bucket;
    this.#spans = spans;
  }
}
