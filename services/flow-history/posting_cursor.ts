/**
 * Blocks in the order of time that have the wanted words, without opening one: the positions of each word come from the database a few at
 * a time; what a group needs is the union of its words, what a filter needs is where all its groups meet.
 *
 *     word ─┐
 *     word ─┴ any ─┐
 *     word ─── any ─┴ all ─▶ next position, then the next
 *
 * @module
 */
import { sql } from "kysely";
import type { Database } from "@weir/common/state";
import type { BlockKind } from "./block.ts";
import { type Groups, OLD_TERM } from "./filter_plan.ts";
import { allItems, intersect, type ItemSet, parseItems, unite } from "./item_set.ts";

/** Where a block stands: by the time of its last item, then by its number. */
export interface Position {
  readonly untilMs: number;
  readonly block: number;
}

/** A stretch of positions, and which way through it. */
export interface Range {
  /** Smallest and largest time of a block's last item. */
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly newestFirst: boolean;
}

/** Goes over positions one way. */
export interface Cursor {
  /** The first position at `from` or behind it; undefined: none. `from` never goes back. */
  seek(from: Position): Promise<Position | undefined>;
  /** The items that are meant of the block that was found last, where that is the one of `position`; else none. */
  itemsAt(position: Position): ItemSet | undefined;
}

/** Positions that are read at once: few first, for most are near. */
const BATCH_MIN = 16, BATCH_MAX = 512;

/** Negative: `a` comes before `b`. */
export function comparePositions(a: Position, b: Position, newestFirst: boolean): number {
  const order = a.untilMs - b.untilMs || a.block - b.block;
  return newestFirst ? -order : order;
}

/** The position where a range begins. */
export function startOf({ sinceMs, untilMs, newestFirst }: Range): Position {
  return newestFirst ? { untilMs, block: Number.MAX_SAFE_INTEGER } : { untilMs: sinceMs, block: -1 };
}

/** The position behind this one. */
export function behind({ untilMs, block }: Position, newestFirst: boolean): Position {
  return { untilMs, block: newestFirst ? block - 1 : block + 1 };
}

/**
 * A part of the time; the words of which blocks must have one there, undefined: none; and the time by which some of their connections must
 * have begun.
 */
export interface Stretch {
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly terms: readonly string[] | undefined;
  readonly beganMs: number;
}

/** Blocks without the words of this version: up to this number and time. */
export interface OldBlocks {
  readonly block: number;
  readonly untilMs: number;
}

/** What is looked for. */
export interface Wanted {
  readonly kind: BlockKind;
  /** One for each filter. */
  readonly alternatives: readonly Groups[];
  readonly range: Range;
  /** The latest first; newest first only. Without them the range is one. */
  readonly stretches?: readonly Stretch[];
  readonly old: OldBlocks | undefined;
}

/** Blocks of a kind that have what one of the alternatives wants. */
export function cursorOf(database: Database, wanted: Wanted): Cursor {
  const { stretches, range, alternatives } = wanted;
  if (stretches === undefined) return rangeCursor(database, wanted);
  const parts = stretches.map(({ sinceMs, untilMs, terms, beganMs }) => ({
    ...{ ...wanted, beganMs },
    alternatives: terms === undefined ? alternatives : alternatives.map((groups) => [...groups, terms]),
    range: {
      ...range,
      sinceMs: Math.max(sinceMs, range.sinceMs),
      untilMs: Math.min(untilMs, range.untilMs),
    },
  })).filter(({ range }) => range.sinceMs <= range.untilMs);
  return oneAfterAnother(parts.map((part) => ({ range: part.range, cursor: rangeCursor(database, part) })));
}

function rangeCursor(
  database: Database,
  { kind, alternatives, range, old, beganMs }: Wanted & { beganMs?: number },
): Cursor {
  const rowsOf = (term: string): Cursor[] => {
    if (term !== OLD_TERM) return [new RowCursor(database, { term }, range)];
    return old === undefined ? [] : [new RowCursor(database, { kind, old }, range)];
  };
  const began = beganMs === undefined ? undefined : { beganMs, block: old?.block ?? 0 };
  return anyOf(
    alternatives.map((groups) => {
      const cursors = groups.map((terms) => anyOf(terms.flatMap(rowsOf), range));
      if (cursors.length === 0 || began !== undefined) {
        cursors.push(new RowCursor(database, { kind, began }, range));
      }
      return allOf(cursors, range);
    }),
    range,
  );
}

/** Cursors of ranges that follow each other, the latest first. */
function oneAfterAnother(parts: readonly { range: Range; cursor: Cursor }[]): Cursor {
  let at = 0;
  return {
    async seek(from) {
      for (; at < parts.length; at++) {
        const { range, cursor } = parts[at], start = startOf(range);
        const found = await cursor.seek(comparePositions(from, start, true) < 0 ? start : from);
        if (found !== undefined) return found;
      }
      return undefined;
    },
    itemsAt: (position) => parts[at]?.cursor.itemsAt(position),
  };
}

/** A word, or all blocks of a kind, or the old ones of them, or those in which something began by a time (of old ones, up to `block`, any may). */
type RowsOf = { term: string } | {
  kind: BlockKind;
  old?: OldBlocks;
  began?: { beganMs: number; block: number };
};

/** Positions of one word, or of all blocks of a kind. */
class RowCursor implements Cursor {
  readonly #database: Database;
  readonly #of: RowsOf;
  readonly #range: Range;
  #rows: Posting[] = [];
  #at = 0;
  #isEnd = false;
  #batch = BATCH_MIN;

  constructor(database: Database, of: RowsOf, range: Range) {
    this.#database = database;
    this.#of = of;
    this.#range = range;
  }

  async seek(from: Position): Promise<Position | undefined> {
    const { newestFirst } = this.#range;
    for (;;) {
      while (this.#at < this.#rows.length && comparePositions(this.#rows[this.#at], from, newestFirst) < 0) {
        this.#at++;
      }
      if (this.#at < this.#rows.length) return this.#rows[this.#at];
      if (this.#isEnd) return undefined;
      this.#rows = await this.#read(from);
      this.#at = 0;
      this.#isEnd = this.#rows.length < this.#batch;
      this.#batch = Math.min(this.#batch * 2, BATCH_MAX);
    }
  }

  itemsAt({ untilMs, block }: Position): ItemSet | undefined {
    const row = this.#rows[this.#at];
    if (row === undefined || row.block !== block || row.untilMs !== untilMs) return undefined;
    return row.items === undefined ? allItems() : parseItems(row.items);
  }

  async #read({ untilMs, block }: Position): Promise<Posting[]> {
    const { newestFirst, sinceMs } = this.#range, of = this.#of;
    const [table, which, id, items] = "term" in of
      ? [sql.raw("weir_history_posting"), sql`term = ${of.term}`, sql.raw("block"), sql.raw(", items")]
      : [sql.raw("weir_history_block"), whichBlocks(of), sql.raw("id"), sql.raw("")];
    const rows = await this.#database.query(async (db) => {
      const select = sql`select until_ms, ${id} as block ${items} from ${table} where ${which}`;
      const { rows } = newestFirst
        ? await sql<
          Row
        >`${select} and (until_ms, ${id}) <= (${untilMs}, ${block}) and until_ms >= ${sinceMs}
            order by until_ms desc, ${id} desc limit ${this.#batch}`.execute(db)
        : await sql<
          Row
        >`${select} and (until_ms, ${id}) >= (${untilMs}, ${block}) and until_ms <= ${this.#range.untilMs}
            order by until_ms, ${id} limit ${this.#batch}`.execute(db);
      return rows;
    });
    return rows.map(({ until_ms, block, items }) => ({
      untilMs: Number(until_ms),
      block: Number(block),
      items,
    }));
  }
}

function whichBlocks({ kind, old, began }: Exclude<RowsOf, { term: string }>) {
  if (old !== undefined) return sql`kind = ${kind} and until_ms <= ${old.untilMs} and id <= ${old.block}`;
  if (began === undefined) return sql`kind = ${kind}`;
  return sql`kind = ${kind} and (since_ms <= ${Math.floor(began.beganMs)} or id <= ${began.block})`;
}

/** As both drivers give it: PostgreSQL has 64-bit integers as texts. */
interface Row {
  until_ms: string | number;
  block: string | number;
  items?: string;
}

interface Posting extends Position {
  /** undefined: all. */
  readonly items: string | undefined;
}

function anyOf(cursors: readonly Cursor[], { newestFirst }: Range): Cursor {
  if (cursors.length === 1) return cursors[0];
  return {
    async seek(from) {
      let first: Position | undefined;
      for (const found of await Promise.all(cursors.map((cursor) => cursor.seek(from)))) {
        if (found !== undefined && (first === undefined || comparePositions(found, first, newestFirst) < 0)) {
          first = found;
        }
      }
      return first;
    },
    itemsAt(position) {
      let all: ItemSet | undefined;
      for (const cursor of cursors) {
        const items = cursor.itemsAt(position);
        if (items !== undefined) all = all === undefined ? items : unite(all, items);
      }
      return all;
    },
  };
}

function allOf(cursors: readonly Cursor[], { newestFirst }: Range): Cursor {
  if (cursors.length === 1) return cursors[0];
  return {
    async seek(from) {
      for (let target = from;;) {
        let furthest = target, isMet = true, first: Position | undefined;
        for (const cursor of cursors) {
          const found = await cursor.seek(target);
          if (found === undefined) return undefined;
          first ??= found;
          if (comparePositions(found, first, newestFirst) !== 0) isMet = false;
          if (comparePositions(found, furthest, newestFirst) > 0) furthest = found;
        }
        if (isMet) return first;
        target = furthest;
      }
    },
    itemsAt(position) {
      let all: ItemSet | undefined;
      for (const cursor of cursors) {
        const items = cursor.itemsAt(position);
        if (items === undefined) return undefined;
        all = all === undefined ? items : intersect(all, items);
      }
      return all;
    },
  };
}
