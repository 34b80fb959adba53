/**
 * The bars of the strip of time: what is live where the page has it, what the history has before that. Pure.
 * @module
 */
import type { TimeBucket } from "../../api.ts";

/** Bars, and the seconds of one. */
export interface Bars {
  readonly stepS: number;
  readonly buckets: readonly TimeBucket[];
}

/** The history's bars up to the first whole step that the live ones fill, and from there those, added up to the same steps. */
export function joinBars(history: Bars, live: readonly TimeBucket[]): Bars {
  const { stepS } = history, first = live.at(0);
  if (first === undefined) return history;
  const fromS = Math.ceil(first.atUnixS / stepS) * stepS, sums = new Map<number, TimeBucket>();
  for (const bucket of live) {
    const atUnixS = Math.floor(bucket.atUnixS / stepS) * stepS, sum = sums.get(atUnixS);
    if (atUnixS < fromS) continue;
    sums.set(atUnixS, sum === undefined ? { ...bucket, atUnixS } : added(sum, bucket));
  }
  return { stepS, buckets: [...history.buckets.filter(({ atUnixS }) => atUnixS < fromS), ...sums.values()] };
}

function added(a: TimeBucket, b: TimeBucket): TimeBucket {
  return {
    atUnixS: a.atUnixS,
    flows: a.flows + b.flows,
    dropped: a.dropped + b.dropped,
    audited: a.audited + b.audited,
    trouble: a.trouble + b.trouble,
    lost: a.lost + b.lost,
  };
}
