/**
 * Exact counts of what came from the nodes, of what was kept of it and of what never came, by minute and node; and the times in which
 * a node was not followed. From these every answer says how complete it is.
 * @module
 */

const MINUTE_MS = 60_000;
/** Minutes and nodes that wait to be written; beyond it those of all nodes are one, then those of an hour. */
export const COUNTS_WAITING_MAX = 10_000;

/** Of one minute and node. */
export interface MinuteCount {
  seen: number;
  stored: number;
  sampledOut: number;
}

/** A time in which a node was not followed. */
export interface GapChange {
  readonly node: string;
  readonly sinceMs: number;
  /** undefined: still. */
  readonly untilMs: number | undefined;
}

/** What is to be added to what is written. */
export interface CountChanges {
  /** "minute in seconds, space, node" -> what is to be added. */
  readonly minutes: ReadonlyMap<string, MinuteCount>;
  /** "minute space source space node" -> lost. */
  readonly losses: ReadonlyMap<string, number>;
  readonly gaps: readonly GapChange[];
}

/** Counts that are not written yet. */
export class Counts {
  #minutes = new Map<string, MinuteCount>();
  #losses = new Map<string, number>();
  #gaps: GapChange[] = [];

  /** Flows came that were left out. */
  sampledOut(node: string, unixMs: number): void {
    const count = this.#of(unixMs, node);
    count.seen++;
    count.sampledOut++;
  }

  /** Flows came and are in a block that is to be stored; `sign` -1: it could not be, after all. */
  stored(unixMs: number, nodes: ReadonlyMap<string, number>, sign: 1 | -1 = 1): void {
    for (const [node, number] of nodes) {
      const count = this.#of(unixMs, node);
      if (sign === 1) count.seen += number;
      else this.lost(node, "HISTORY", unixMs, number);
      count.stored += sign * number;
    }
  }

  /** Something never came. */
  lost(node: string, source: string, unixMs: number, count: number): void {
    const key = `${minuteS(unixMs)} ${source} ${node}`;
    this.#losses.set(key, (this.#losses.get(key) ?? 0) + count);
    if (this.#losses.size > COUNTS_WAITING_MAX) this.#losses = foldKeys(this.#losses, true, (a, b) => a + b);
  }

  gap(change: GapChange): void {
    // Only the last word on one gap counts.
    const at = this.#gaps.findIndex(({ node, sinceMs }) =>
      node === change.node && sinceMs === change.sinceMs
    );
    if (at >= 0) this.#gaps[at] = change;
    else if (this.#gaps.length < COUNTS_WAITING_MAX) this.#gaps.push(change);
  }

  #of(unixMs: number, node: string): MinuteCount {
    const key = `${minuteS(unixMs)} ${node}`;
    let count = this.#minutes.get(key);
    if (count === undefined && this.#minutes.size >= COUNTS_WAITING_MAX) {
      this.#minutes = foldKeys(this.#minutes, false, (a, b) => ({
        seen: a.seen + b.seen,
        stored: a.stored + b.stored,
        sampledOut: a.sampledOut + b.sampledOut,
      }));
      count = this.#minutes.get(key);
    }
    if (count === undefined) this.#minutes.set(key, count = { seen: 0, stored: 0, sampledOut: 0 });
    return count;
  }

  /** What is to be written; it is not here any more. */
  take(): CountChanges {
    const changes = { minutes: this.#minutes, losses: this.#losses, gaps: this.#gaps };
    this.#minutes = new Map();
    this.#losses = new Map();
    this.#gaps = [];
    return changes;
  }

  /** What is not written yet. */
  peek(): CountChanges {
    return { minutes: this.#minutes, losses: this.#losses, gaps: this.#gaps };
  }
}

/** Half as many keys, and the same sum: those of all nodes are one, and where that is not enough those of an hour. */
function foldKeys<V>(
  map: ReadonlyMap<string, V>,
  hasSource: boolean,
  add: (a: V, b: V) => V,
): Map<string, V> {
  const foldBy = (widthS: number) => {
    const folded = new Map<string, V>();
    for (const [key, value] of map) {
      const [second, source] = key.split(" ", 2);
      const coarse = `${Number(second) - Number(second) % widthS} ${hasSource ? `${source} ` : ""}`;
      const known = folded.get(coarse);
      folded.set(coarse, known === undefined ? value : add(known, value));
    }
    return folded;
  };
  const minutes = foldBy(60);
  return minutes.size <= COUNTS_WAITING_MAX / 2 ? minutes : foldBy(3600);
}

/** Begin of the minute in Unix seconds. */
export function minuteS(unixMs: number): number {
  return Math.floor(unixMs / MINUTE_MS) * 60;
}
