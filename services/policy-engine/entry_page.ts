/**
 * Entries towards remote identities in pages of neighbouring numbers. A page never changes: what changes in a layer is a
 * few pages of it, all others are shared with the layer as it was before and with the layers above. Each is encoded once.
 *
 *     layer below   [ page 1: 256 257 258 ]  [ page 2: 512 600 ]
 *     layer above   [ page 1:     257     ]
 *     runs                    256 | 257' | 258   512 600
 *
 * @module
 */
import { SharedPart } from "@weir/common";
import { MapState, type MapStateEntry } from "@weir/proto/policy";

/** Entries by remote identity. */
export type EntryRows = ReadonlyMap<number, readonly MapStateEntry[]>;

/** The page of an identity; pages are in the order of their identities. Numbers of prefixes are spread over 24 bits. */
export function pageOf(identity: number): number {
  return identity < 0x1_0000 ? identity >>> 8 : 0x100 + (identity >>> 16);
}

/** The only page of a layer that has few rows. */
export const ONE_PAGE = -1;
/** More rows than this are kept in pages. */
export const ONE_PAGE_ROWS_MAX = 256;

/** Some neighbouring identities of one page: rows `from` to before `to`. */
export interface EntryRun {
  readonly page: EntryPage;
  readonly from: number;
  to: number;
}

/** Pages of fewer bytes are not worth a reference. */
const PART_BYTES_MIN = 2048;

/** A page as it stands in a MapState message, and where each row begins in it: by bytes and by entries. */
interface EncodedPage {
  readonly part: SharedPart;
  readonly offsets: Uint32Array;
  readonly elements: Uint32Array;
}

/** The rows of one page. */
export class EntryPage {
  readonly rows: EntryRows;
  /** The identities in their order. */
  readonly identities: readonly number[];
  #made: EncodedPage | undefined;

  constructor(rows: EntryRows) {
    this.rows = rows;
    this.identities = [...rows.keys()].sort((a, b) => a - b);
  }

  /** Rows `from` to before `to` as they stand in a MapState message; made once for all who read them. */
  encoded(from: number, to: number): Uint8Array {
    const { part, offsets } = this.#encoded();
    return part.bytes.subarray(offsets[from], offsets[to]);
  }

  /** The same rows as entries of a part that readers have once; undefined where that is not worth it. */
  shared(from: number, to: number): { part: SharedPart; from: number; to: number } | undefined {
    const { part, elements } = this.#encoded();
    if (part.bytes.length < PART_BYTES_MIN) return undefined;
    return { part, from: elements[from], to: elements[to] };
  }

  #encoded(): EncodedPage {
    if (this.#made) return this.#made;
    const rows = this.identities.map((identity) => this.rows.get(identity)!);
    const bytes = encodeEntries(rows.flat());
    const offsets = new Uint32Array(rows.length + 1), elements = new Uint32Array(rows.length + 1);
    let at = 0;
    for (const [row, entries] of rows.entries()) {
      for (let i = 0; i < entries.length; i++) at = endOfField(bytes, at);
      offsets[row + 1] = at;
      elements[row + 1] = elements[row] + entries.length;
    }
    return this.#made = { part: new SharedPart(bytes), offsets, elements };
  }
}

/** Where a field with a length, a tag of one byte before it, ends. */
function endOfField(bytes: Uint8Array, at: number): number {
  let length = 0, shift = 0, byte: number;
  do {
    byte = bytes[++at];
    length |= (byte & 0x7f) << shift;
    shift += 7;
  } while (byte >= 0x80);
  return at + 1 + length;
}

/** Entries as a MapState message has them: protobuf's repeated fields may be put one after the other. */
export function encodeEntries(entries: readonly MapStateEntry[]): Uint8Array {
  return MapState.encode({ entries: entries as MapStateEntry[] });
}

/** All runs of `pages` (in order) laid over `below`: an identity of `pages` hides the one below. */
export function overlay(below: readonly EntryRun[], pages: Iterable<EntryPage>): EntryRun[] {
  const runs: EntryRun[] = [];
  const push = (page: EntryPage, from: number, to: number) => {
    const last = runs.at(-1);
    if (from >= to) return;
    if (last?.page === page && last.to === from) last.to = to;
    else runs.push({ page, from, to });
  };
  let run = 0, at = below[0]?.from ?? 0;
  for (const page of pages) {
    for (let row = 0; row < page.identities.length; row++) {
      const identity = page.identities[row];
      for (; run < below.length; at = below[++run]?.from ?? 0) {
        const under = below[run], { identities } = under.page;
        if (identities[under.to - 1] >= identity) {
          const next = firstNotBelow(identities, at, under.to, identity);
          push(under.page, at, next);
          at = identities[next] === identity ? next + 1 : next;
          break;
        }
        push(under.page, at, under.to);
      }
      push(page, row, row + 1);
    }
  }
  for (; run < below.length; at = below[++run]?.from ?? 0) push(below[run].page, at, below[run].to);
  return runs;
}

function firstNotBelow(identities: readonly number[], from: number, to: number, identity: number): number {
  let low = from, high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (identities[middle] < identity) low = middle + 1;
    else high = middle;
  }
  return low;
}
