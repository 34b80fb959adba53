/**
 * Whose events were lost: over their share while the ring filled, in a full ring, or on the way to a reader that was too slow.
 * The programs count the first two exactly, `backlog.ts` the third; this looks when something was lost, and keeps who it was.
 * @module
 */
import type { Clock } from "@weir/common";
import { EVENT_OUTSIDE } from "@weir/maps";
import type { Kernel } from "../kernel/kernel.ts";

/** A holder is said to press this long after its last loss. */
const PRESSING_MS = 10_000;

/** What the events of a holder came to since it is there. */
export interface EventHolder {
  /** As in `struct event`: 0 the node, an endpoint's id, EVENT_OUTSIDE + id. */
  holder: number;
  made: number;
  /** Over its share, or with the ring or a reader's backlog full. */
  lost: number;
  /** Wall clock of when the last loss was seen, 0: never by this process. */
  lostUnixS: number;
  /** It lost some in the last seconds because it makes more than its share. */
  pressing: boolean;
}

interface Watched {
  refused: number;
  atMs: number;
  unixS: number;
}

/** Whose events were lost. */
export class EventLosses {
  /** Lost on the way to readers, by holder. */
  readonly #stream = new Map<number, number>();
  readonly #watched = new Map<number, Watched>();
  #seen = -1;
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #endpoints: () => Iterable<number>;

  /** @param endpoints ids that there are */
  constructor(
    kernel: Kernel,
    clock: Clock,
    endpoints: () => Iterable<number>,
  ) {
    this.#kernel = kernel;
    this.#clock = clock;
    this.#endpoints = endpoints;
    // What was lost before this process came is known, but not when.
    for (const [holder, cpus] of kernel.eventCounts.entriesPerCpu()) {
      const refused = Number(cpus.reduce((sum, cpu) => sum + cpu.refused, 0n));
      if (refused > 0) this.#watched.set(holder, { refused, atMs: -PRESSING_MS, unixS: 0 });
    }
  }

  /** A reader's backlog had no room for records of these holders. */
  addStream(lost: ReadonlyMap<number, number>): void {
    for (const [holder, count] of lost) this.#stream.set(holder, (this.#stream.get(holder) ?? 0) + count);
  }

  /** To be called every second with the number of events lost in all: looks who it was when it has grown. @returns whether */
  sample(lostInAll: number): boolean {
    let stream = 0;
    for (const count of this.#stream.values()) stream += count;
    if (lostInAll + stream === this.#seen) return false;
    this.#seen = lostInAll + stream;
    const nowMs = this.#clock.monotonicMs(), unixS = this.#clock.nowMs() / 1000;
    for (const { holder, refused } of this.#counts()) {
      const before = this.#watched.get(holder)?.refused ?? 0;
      if (refused === before) continue;
      this.#watched.set(holder, { refused, atMs: nowMs, unixS });
    }
    return true;
  }

  /** The endpoint is gone: who has its number next begins with nothing to its name. */
  forget(id: number): void {
    for (const holder of [id, EVENT_OUTSIDE + id]) {
      this.#kernel.eventCounts.clear(holder);
      this.#stream.delete(holder);
      this.#watched.delete(holder);
    }
  }

  /** Everybody who has made or lost any. */
  list(): EventHolder[] {
    const nowMs = this.#clock.monotonicMs();
    return this.#counts().filter(({ made, lost }) => made > 0 || lost > 0).map(({ holder, made, lost }) => {
      const watched = this.#watched.get(holder);
      const pressing = watched !== undefined && nowMs - watched.atMs < PRESSING_MS;
      return { holder, made, lost, lostUnixS: watched?.unixS ?? 0, pressing };
    });
  }

  #counts(): { holder: number; made: number; refused: number; lost: number }[] {
    const holders = [0, EVENT_OUTSIDE];
    for (const id of this.#endpoints()) holders.push(id, EVENT_OUTSIDE + id);
    return holders.map((holder) => {
      const stream = this.#stream.get(holder) ?? 0;
      const sum = { holder, made: 0, refused: stream, lost: stream };
      for (const cpu of this.#kernel.eventCounts.getPerCpu(holder)) {
        sum.made += Number(cpu.made);
        sum.refused += Number(cpu.refused);
        sum.lost += Number(cpu.refused + cpu.lost);
      }
      return sum;
    });
  }
}
