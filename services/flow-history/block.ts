/**
 * Flows and connections are kept in blocks: 256 of them packed together take a tenth of what they take one by one, for they say
 * much the same; and one row with its words is written where there would be 256 with six indexes each.
 *
 *     item (bytes, time, words) ─▶ open block of its ten seconds ── full, or ten seconds old ──▶ Block ─▶ database
 *
 * @module
 */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { StoredBlock } from "@weir/proto/history";
import type { OpenConnection } from "./connection_table.ts";
import { ITEMS_MAX } from "./item_set.ts";

/** What a block holds. */
export type BlockKind = "f" | "c";
/** Items of a block. */
export const BLOCK_ITEMS_MAX: number = ITEMS_MAX;
/** Bytes of a block before it is packed. */
export const BLOCK_BYTES_MAX = 1 << 20;
/** All items of a block are of one such stretch of time. */
export const BUCKET_MS = 10_000;
/** Blocks that are open at once: those of late items are others. */
export const OPEN_BLOCKS_MAX = 8;
/** Words of a block; one with more has the word of all questions instead. */
export const BLOCK_TERMS_MAX = 2048;
/** The word that answers every question. */
export const ANY_TERM = "*";
/** A block is closed when it is so old, in milliseconds. */
export const BLOCK_AGE_MS_MAX = 10_000;
/** What most packed blocks unpack to, in one piece: in pieces of zlib's 16 KiB it takes a quarter longer. */
const UNPACKED_BYTES = 128 << 10;
/** What a packed block may unpack to. */
const UNPACKED_BYTES_MAX = 16 << 20;

/** An item with the time by which it is ordered. */
export interface Item {
  readonly bytes: Uint8Array;
  readonly unixMs: number;
  /** When a connection began. */
  readonly startMs?: number;
  /** Whose flow it is; "" of connections, and of what was read from a block. */
  readonly node: string;
  /** One that goes on and was never packed: the bytes are empty then. */
  readonly open?: OpenConnection;
}

/** A block, whole. */
export interface Block {
  readonly id: number;
  readonly kind: BlockKind;
  /** Times of its first and last item, whole milliseconds: rounded down and up. Of connections: of the first begin and the last end. */
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly count: number;
  /** Word -> the items that have it, by their place in the order of time. */
  readonly terms: ReadonlyMap<string, readonly number[]>;
  /** Packed. */
  readonly body: Uint8Array;
  /** Items by node. */
  readonly nodes: ReadonlyMap<string, number>;
}

/** Unpacks a body. @throws {Error} it is damaged */
export function unpackItems(body: Uint8Array): Item[] {
  const bytes = inflateRawSync(body, { maxOutputLength: UNPACKED_BYTES_MAX, chunkSize: UNPACKED_BYTES });
  const { items, unixMs, startMs } = StoredBlock.decode(bytes);
  if (items.length !== unixMs.length) throw new Error("it has other times than items");
  const hasStarts = startMs.length === items.length;
  return items.map((item, index) => ({
    bytes: item,
    unixMs: unixMs[index],
    startMs: hasStarts ? startMs[index] : undefined,
    node: "",
  }));
}

/** Packs items. */
export function packItems(items: readonly Item[]): Uint8Array {
  const whole = StoredBlock.encode({
    items: items.map(({ bytes }) => bytes),
    unixMs: items.map(({ unixMs }) => unixMs),
    startMs: items.every(({ startMs }) => startMs !== undefined) ? items.map(({ startMs }) => startMs!) : [],
  });
  return deflateRawSync(whole, { level: 1 });
}

interface TermedItem extends Item {
  readonly terms: readonly string[];
}

/** A block that is being filled. */
class OpenBlock {
  readonly items: TermedItem[] = [];
  bytes = 0;

  constructor(readonly id: number, readonly bucket: number, readonly openedMs: number) {}
}

/** Items that wait to be a block. One kind. */
export class BlockBuilder {
  readonly #kind: BlockKind;
  readonly #nextId: () => number;
  /** By bucket, the one that was used last at the end. */
  readonly #open = new Map<number, OpenBlock>();

  constructor(kind: BlockKind, nextId: () => number) {
    this.#kind = kind;
    this.#nextId = nextId;
  }

  /** Takes an item; gives the block that became full by it. `nowMs`: monotonic. */
  add(item: Item, terms: Iterable<string>, nowMs: number): Block | undefined {
    const bucket = Math.floor(item.unixMs / BUCKET_MS);
    let full: Block | undefined;
    let open = this.#open.get(bucket);
    if (open === undefined) {
      if (this.#open.size >= OPEN_BLOCKS_MAX) {
        const [oldest] = this.#open.values();
        full = this.#seal(oldest);
      }
      open = new OpenBlock(this.#nextId(), bucket, nowMs);
    } else this.#open.delete(bucket);
    this.#open.set(bucket, open);
    open.items.push({ ...item, terms: [...terms] });
    open.bytes += item.bytes.length;
    return open.items.length >= BLOCK_ITEMS_MAX || open.bytes >= BLOCK_BYTES_MAX ? this.#seal(open) : full;
  }

  /** Blocks that are old enough; all of them with `Infinity`. */
  takeOld(nowMs: number): Block[] {
    const old = [...this.#open.values()].filter(({ openedMs }) => nowMs - openedMs >= BLOCK_AGE_MS_MAX);
    return old.map((open) => this.#seal(open));
  }

  /** What is in no block yet, each as a block's worth of items. */
  tail(): (Omit<Block, "body" | "nodes" | "kind"> & { items: readonly Item[] })[] {
    return [...this.#open.values()].map((open) => {
      const items = open.items.toSorted(byTime);
      return { id: open.id, ...this.#span(open), count: items.length, terms: termsOf(items), items };
    });
  }

  /** Items that wait. */
  get count(): number {
    let count = 0;
    for (const { items } of this.#open.values()) count += items.length;
    return count;
  }

  /** Items that are in no block yet, by node. */
  tailNodes(): { unixMs: number; nodes: ReadonlyMap<string, number> }[] {
    return [...this.#open.values()].map(({ items, bucket }) => ({
      unixMs: bucket * BUCKET_MS,
      nodes: countNodes(items),
    }));
  }

  #span({ items }: OpenBlock): { sinceMs: number; untilMs: number } {
    let since = Infinity, until = -Infinity;
    for (const { unixMs, startMs = unixMs } of items) {
      since = Math.min(since, startMs, unixMs);
      until = Math.max(until, unixMs);
    }
    return { sinceMs: Math.floor(since), untilMs: Math.ceil(until) };
  }

  #seal(open: OpenBlock): Block {
    this.#open.delete(open.bucket);
    const items = open.items.sort(byTime);
    return {
      id: open.id,
      kind: this.#kind,
      ...this.#span(open),
      count: items.length,
      terms: termsOf(items),
      body: packItems(items),
      nodes: countNodes(items),
    };
  }
}

function countNodes(items: readonly Item[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { node } of items) counts.set(node, (counts.get(node) ?? 0) + 1);
  return counts;
}

const byTime = (a: Item, b: Item) => a.unixMs - b.unixMs;

function termsOf(items: readonly TermedItem[]): Map<string, number[]> {
  const all = new Map<string, number[]>();
  for (const [index, { terms }] of items.entries()) {
    for (const term of terms) {
      const known = all.get(term);
      if (known === undefined) all.set(term, [index]);
      else if (known[known.length - 1] !== index) known.push(index);
    }
  }
  return all.size > BLOCK_TERMS_MAX ? new Map([[ANY_TERM, [...items.keys()]]]) : all;
}
