/**
 * Records that wait for one reader of the stream. While they are few everybody's are kept; beyond an eighth of the limit
 * nobody's may take more than twice what is still free, as in the kernel's ring (`bpf/lib/events.h`): a reader that is too
 * slow for one endpoint's flood still hears of all the others.
 * @module
 */

/** Offset of `struct event`'s holder in a record, behind the record's length. */
const HOLDER_AT = 4 + 56;
const FACTOR = 2;

/** What was kept of a batch. */
export interface Kept {
  records: Uint8Array;
  count: number;
}

/** Records that wait for one reader of the stream. */
export class Backlog {
  /** Records that did not fit, in all. */
  lost = 0;
  #bytes = 0;
  readonly #held = new Map<number, number>();
  readonly #bytesMax: number;
  readonly #onLost: (lost: ReadonlyMap<number, number>) => void;

  /** @param onLost told of each batch's losses by holder */
  constructor(
    bytesMax: number,
    onLost: (lost: ReadonlyMap<number, number>) => void = () => {},
  ) {
    this.#bytesMax = bytesMax;
    this.#onLost = onLost;
  }

  /** Takes a batch of records (u32 length, bytes, padding to 8); gives what may be kept of it. */
  admit(records: Uint8Array, count: number): Kept {
    // Nobody is asked while the reader keeps up: a batch is passed on as it came.
    if (this.#bytes + records.length <= this.#bytesMax >>> 3) {
      this.#bytes += records.length;
      return { records, count };
    }
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    const kept = new Uint8Array(records.length), lost = new Map<number, number>();
    let out = 0, keptCount = 0;
    for (let at = 0; at < records.length;) {
      const length = view.getUint32(at, true), bytes = (4 + length + 7) & ~7;
      const holder = length >= HOLDER_AT - 2 ? view.getUint16(at + HOLDER_AT, true) : 0;
      const held = this.#held.get(holder) ?? 0, free = this.#bytesMax - this.#bytes;
      if (held < FACTOR * free && bytes <= free) {
        kept.set(records.subarray(at, at + bytes), out);
        out += bytes;
        keptCount++;
        this.#bytes += bytes;
        this.#held.set(holder, held + bytes);
      } else lost.set(holder, (lost.get(holder) ?? 0) + 1);
      at += bytes;
    }
    if (lost.size > 0) {
      this.lost += count - keptCount;
      this.#onLost(lost);
    }
    return { records: kept.slice(0, out), count: keptCount };
  }

  /** The reader has taken everything. */
  clear(): void {
    this.#bytes = 0;
    this.#held.clear();
  }
}
