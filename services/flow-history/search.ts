/**
 * One page of flows or connections: the blocks that may have some, newest or oldest first, what is in memory still among them. A page has
 * a time; what could not be looked at in it is for the next page.
 *
 *     positions (database) ─┐
 *     blocks in memory ─────┴▶ the next block ─▶ its items that match ─▶ those that no later block can come before ─▶ page
 *
 * @module
 */
import { sql } from "kysely";
import { type Clock, ProblemError } from "@weir/common";
import type { Database } from "@weir/common/state";
import { type BlockKind, BUCKET_MS, type Item, unpackItems } from "./block.ts";
import type { Groups } from "./filter_plan.ts";
import { BlockSpans } from "./block_spans.ts";
import { hasItem, intersect, isEmpty, type ItemSet, itemSetOf, unite } from "./item_set.ts";
import {
  behind,
  comparePositions,
  cursorOf,
  type OldBlocks,
  type Position,
  type Range,
  startOf,
  type Stretch,
} from "./posting_cursor.ts";

/** A block that is not in the database yet; `terms` undefined: it is always looked into, whole. */
export interface MemoryBlock extends Position {
  readonly sinceMs: number;
  readonly terms: ReadonlyMap<string, readonly number[]> | undefined;
  readonly open: () => readonly Item[];
}

/** Where a page ended: an item's place. */
export interface Place {
  readonly unixMs: number;
  readonly block: number;
  readonly index: number;
}

/** What is searched. */
export interface Search<T> {
  readonly kind: BlockKind;
  readonly alternatives: readonly Groups[];
  /** Unix milliseconds, both of them in it. */
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly newestFirst: boolean;
  /** Items of a page. */
  readonly count: number;
  readonly after?: Place;
  /** What is wanted where, the latest first; newest first only. */
  readonly stretches?: readonly Stretch[];
  readonly old: OldBlocks | undefined;
  /** Taken before the search begins. */
  readonly memory: readonly MemoryBlock[];
  /** The item, where it is one that is wanted. @throws {Error} it is damaged */
  readonly read: (item: Item) => T | undefined;
  /** Milliseconds that the page has. */
  readonly budgetMs: number;
  readonly signal?: AbortSignal;
}

/** A page. */
export interface Found<T> {
  readonly values: T[];
  /** undefined: there is nothing more. */
  readonly next: Place | undefined;
  /** Unix milliseconds: all up to here was looked at. */
  readonly reachedMs: number;
  /** Items that were looked at. */
  readonly searched: number;
  /** Blocks and items that are damaged. */
  readonly unreadable: number;
}

interface Held<T> extends Place {
  readonly value: T;
}

/** Searches one page. */
export async function search<T>(database: Database, clock: Clock, request: Search<T>): Promise<Found<T>> {
  const { newestFirst, after, count } = request;
  const endMs = clock.monotonicMs() + request.budgetMs;
  // Items of a block are of one bucket: with an item behind `after`, its last one is at most at that bucket's end.
  const range: Range = {
    newestFirst,
    sinceMs: newestFirst || after === undefined
      ? request.sinceMs
      : Math.max(request.sinceMs, Math.floor(after.unixMs)),
    untilMs: Math.min(
      (Math.floor((newestFirst && after !== undefined ? after.unixMs : request.untilMs) / BUCKET_MS) + 1) *
        BUCKET_MS,
      Number.MAX_SAFE_INTEGER,
    ),
  };
  const blocks = new Blocks(database, request, range);
  const spans = new BlockSpans(database, request.kind, request.memory);
  const beginMs = after?.unixMs ?? (newestFirst ? Infinity : -Infinity);
  const held = new HeldItems<T>(newestFirst, count);
  let searched = 0, unreadable = 0, boundaryMs = newestFirst ? Infinity : -Infinity, isCut = false;
  for (;;) {
    const block = await blocks.next();
    boundaryMs = block === undefined
      ? (newestFirst ? -Infinity : Infinity)
      : newestFirst
      ? block.untilMs
      : await spans.earliestMs(block);
    if (block === undefined || held.isFullBefore(boundaryMs)) break;
    const progress = newestFirst ? boundaryMs < beginMs : boundaryMs > beginMs;
    if (progress && (clock.monotonicMs() >= endMs || request.signal?.aborted) && blocks.count > 1) {
      isCut = true;
      break;
    }
    const wanted = blocks.wanted(block);
    if (wanted !== undefined && isEmpty(wanted)) continue;
    const items = await blocks.open(block);
    if (items === undefined) {
      unreadable++;
      continue;
    }
    for (const [index, item] of items.entries()) {
      if (wanted !== undefined && !hasItem(wanted, index)) continue;
      const { unixMs } = item, place = { unixMs, block: block.block, index };
      if (unixMs < request.sinceMs || unixMs > request.untilMs) continue;
      if (after !== undefined && comparePlaces(place, after, newestFirst) <= 0) continue;
      searched++;
      try {
        const value = request.read(item);
        if (value !== undefined) held.add({ ...place, value });
      } catch {
        unreadable++;
      }
    }
  }
  const { items, isMore } = held.take(boundaryMs);
  const last = items.at(-1);
  const boundary: Place = newestFirst
    ? { unixMs: boundaryMs, block: Number.MAX_SAFE_INTEGER, index: 0 }
    : { unixMs: boundaryMs, block: -1, index: 0 };
  const next = isMore ? last : isCut ? boundary : undefined;
  return {
    values: items.map(({ value }) => value),
    next,
    reachedMs: next === undefined ? (newestFirst ? request.sinceMs : request.untilMs) : next.unixMs,
    searched,
    unreadable,
  };
}

/** Negative: `a` comes before `b`. */
function comparePlaces(a: Place, b: Place, newestFirst: boolean): number {
  const order = a.unixMs - b.unixMs || a.block - b.block || a.index - b.index;
  return newestFirst ? -order : order;
}

/** The place as a word of an address. */
export function formatPlace({ unixMs, block, index }: Place): string {
  return `${unixMs}_${block}_${index}`;
}

/** Reads it. @throws {ProblemError} QUERY_INVALID */
export function parsePlace(text: string): Place {
  const [, unixMs, block, index] = /^(\d{1,15}(?:\.\d{1,10})?)_(-1|\d{1,16})_(\d{1,5})$/.exec(text) ?? [];
  if (unixMs === undefined) {
    throw new ProblemError("QUERY_INVALID", {
      status: 400,
      detail: `Cannot take after=${text.slice(0, 80)}: expected the "next" of a page before`,
      found: text.slice(0, 80),
      expected: "the next of a page",
    });
  }
  return {
    unixMs: Number(unixMs),
    block: Math.min(Number(block), Number.MAX_SAFE_INTEGER),
    index: Number(index),
  };
}

/** Matches that wait until no block can have one that comes before them. */
class HeldItems<T> {
  #items: Held<T>[] = [];
  #isCut = false;
  readonly #newestFirst: boolean;
  readonly #count: number;

  constructor(newestFirst: boolean, count: number) {
    this.#newestFirst = newestFirst;
    this.#count = count;
  }

  add(item: Held<T>): void {
    this.#items.push(item);
    if (this.#items.length < 2 * this.#count + 256) return;
    this.#trim();
  }

  /** A page's worth is safe: no block from here on has anything before it. */
  isFullBefore(boundaryMs: number): boolean {
    let safe = 0;
    for (const { unixMs } of this.#items) if (this.#isSafe(unixMs, boundaryMs)) safe++;
    return safe >= this.#count;
  }

  take(boundaryMs: number): { items: Held<T>[]; isMore: boolean } {
    this.#trim();
    const safe = this.#items.filter(({ unixMs }) => this.#isSafe(unixMs, boundaryMs));
    // What is beyond a full page: the page ends at its last item.
    const isMore = safe.length >= this.#count && (this.#isCut || Number.isFinite(boundaryMs));
    return { items: safe, isMore };
  }

  #isSafe(unixMs: number, boundaryMs: number): boolean {
    return this.#newestFirst ? unixMs > boundaryMs : unixMs < boundaryMs;
  }

  #trim(): void {
    this.#items.sort((a, b) => comparePlaces(a, b, this.#newestFirst));
    if (this.#items.length <= this.#count) return;
    this.#items.length = this.#count;
    this.#isCut = true;
  }
}

/** Blocks in their order, those of the database and those in memory, each once. */
class Blocks {
  readonly #database: Database;
  readonly #range: Range;
  readonly #cursor;
  readonly #alternatives: readonly Groups[];
  readonly #memory: MemoryBlock[];
  #at: Position;

  constructor(database: Database, request: Search<unknown>, range: Range) {
    this.#database = database;
    this.#range = range;
    this.#alternatives = request.alternatives;
    this.#cursor = cursorOf(database, { ...request, range });
    this.#at = startOf(range);
    this.#memory = request.memory.filter(({ untilMs }) =>
      untilMs >= range.sinceMs && untilMs <= range.untilMs
    ).sort((a, b) => comparePositions(a, b, range.newestFirst));
  }

  async next(): Promise<Position | undefined> {
    const { newestFirst } = this.#range;
    const stored = await this.#cursor.seek(this.#at);
    while (this.#memory.length > 0 && comparePositions(this.#memory[0], this.#at, newestFirst) < 0) {
      this.#memory.shift();
    }
    const [memory] = this.#memory;
    const next =
      stored === undefined || (memory !== undefined && comparePositions(memory, stored, newestFirst) <= 0)
        ? memory
        : stored;
    if (next === undefined) return undefined;
    this.count++;
    this.#at = behind(next, newestFirst);
    return next;
  }

  /** Blocks that were found. */
  count = 0;

  /** Items of the block that was found last that may match; undefined: all. */
  wanted(position: Position): ItemSet | undefined {
    if (!("open" in position)) return this.#cursor.itemsAt(position);
    const { terms } = position as MemoryBlock;
    return terms === undefined ? undefined : wantedItems(terms, this.#alternatives);
  }

  /** Items of a block; undefined: it is damaged. */
  async open(position: Position): Promise<readonly Item[] | undefined> {
    if ("open" in position) return (position as MemoryBlock).open();
    const body = await this.#database.query(async (db) => {
      const { rows } = await sql<{ body: Uint8Array }>`
        select body from weir_history_block where id = ${position.block}`.execute(db);
      return rows[0]?.body;
    });
    try {
      return body === undefined ? [] : unpackItems(body);
    } catch {
      return undefined;
    }
  }
}

/** Items that meet all groups of an alternative; undefined: all. */
function wantedItems(
  terms: ReadonlyMap<string, readonly number[]>,
  alternatives: readonly Groups[],
): ItemSet | undefined {
  let all = itemSetOf([]);
  for (const groups of alternatives) {
    if (groups.length === 0) return undefined;
    const sets = groups.map((group) => itemSetOf(group.flatMap((term) => terms.get(term) ?? [])));
    all = unite(all, sets.reduce(intersect));
  }
  return all;
}
