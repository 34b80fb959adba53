/**
 * Which history a revision belongs to. A database that was restored counts on from an earlier revision, and what it counts
 * then is not what its readers saw: the same number means two things. So each revision has an epoch.
 *
 *     epoch A from 1      1 ──── 300 ──── 500        readers of A hold 300 to 500
 *     restored at 300            └─ B ─── 450        (A, 300) is a position of both; (A, 301) of A alone: it is gone
 *
 * @module
 */

/** A reader's place in a table: everything up to `revision` of `epoch` was seen. */
export interface Position {
  /** 16 hexadecimal digits. */
  readonly epoch: string;
  readonly revision: number;
}

/** An epoch and the revision that it goes on from. */
export interface EpochStart {
  readonly epoch: string;
  readonly fromRevision: number;
}

/** A random epoch: 16 hexadecimal digits. */
export function randomEpoch(): string {
  return crypto.getRandomValues(new Uint8Array(8)).toHex();
}

/** The epochs of one counter, in the order in which they began. At least one. */
export class EpochLine {
  readonly #starts: readonly EpochStart[];

  constructor(starts: readonly EpochStart[]) {
    if (starts.length === 0) throw new Error("A line of epochs has at least one");
    this.#starts = starts;
  }

  /** The epoch that revisions are counted in now. */
  get newest(): string {
    return this.#starts[this.#starts.length - 1].epoch;
  }

  has(epoch: string): boolean {
    return this.#starts.some((start) => start.epoch === epoch);
  }

  /**
   * True when what the position's reader saw is a part of this history: the epoch is known, and no later one goes on
   * from before the revision.
   */
  includes({ epoch, revision }: Position): boolean {
    const at = this.#starts.findLastIndex((start) => start.epoch === epoch);
    if (at < 0) return false;
    return this.#starts.slice(at + 1).every((later) => revision <= later.fromRevision);
  }
}
