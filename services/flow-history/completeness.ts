/**
 * How complete an answer about a window is: from the counts that are stored and those in memory.
 * @module
 */
import { sql } from "kysely";
import type { Database } from "@weir/common/state";
import { Completeness, type Gap, type LossCount } from "@weir/proto/history";
import type { Init } from "@weir/proto";
import type { CountChanges } from "./counts.ts";

/** Minutes that are told one by one. */
export const MINUTES_MAX = 1440;
/** Gaps and losses that are named; of more the largest. */
const NAMED_MAX = 100;

/** Unix milliseconds. */
export interface Window {
  readonly sinceMs: number;
  readonly untilMs: number;
}

interface Sum {
  seen: number;
  stored: number;
  sampledOut: number;
  losses: Map<string, LossCount>;
}

const emptySum = (): Sum => ({ seen: 0, stored: 0, sampledOut: 0, losses: new Map() });

/** Of a window; whole minutes are counted. `tails`: what is not written yet. */
export async function completenessOf(
  database: Database,
  window: Window,
  tails: readonly CountChanges[],
): Promise<Completeness> {
  const { total } = await sumsOf(database, window, tails, false);
  return completeness(total, window, await gapsOf(database, window, tails));
}

/** Of a window and each of its minutes, where there are no more than {@link MINUTES_MAX}. */
export async function completenessByMinute(
  database: Database,
  window: Window,
  tails: readonly CountChanges[],
): Promise<{ total: Completeness; minutes: Completeness[] }> {
  const first = minute(window.sinceMs), isFine = (window.untilMs / 1000 - first) / 60 <= MINUTES_MAX;
  const { total, minutes } = await sumsOf(database, window, tails, isFine);
  const gaps = await gapsOf(database, window, tails);
  return {
    total: completeness(total, window, gaps),
    minutes: [...minutes].sort(([a], [b]) => a - b).map(([startS, sum]) => {
      const own = { sinceMs: startS * 1000, untilMs: (startS + 60) * 1000 };
      return completeness(
        sum,
        own,
        gaps.filter(({ sinceUnixS, untilUnixS }) =>
          (sinceUnixS ?? 0) * 1000 < own.untilMs && (untilUnixS || Infinity) * 1000 > own.sinceMs
        ),
      );
    }),
  };
}

const minute = (unixMs: number) => Math.floor(unixMs / 60_000) * 60;

async function sumsOf(
  database: Database,
  { sinceMs, untilMs }: Window,
  tails: readonly CountChanges[],
  isFine: boolean,
): Promise<{ total: Sum; minutes: Map<number, Sum> }> {
  const total = emptySum(),
    minutes = new Map<number, Sum>(),
    first = minute(sinceMs),
    last = Math.floor(untilMs / 1000);
  const sumsAt = (minuteS: number): Sum[] => {
    if (!isFine) return [total];
    let own = minutes.get(minuteS);
    if (own === undefined) minutes.set(minuteS, own = emptySum());
    return [total, own];
  };
  const add = (minuteS: number, seen: number, stored: number, sampledOut: number) => {
    for (const sum of sumsAt(minuteS)) {
      sum.seen += seen;
      sum.stored += stored;
      sum.sampledOut += sampledOut;
    }
  };
  const lose = (minuteS: number, source: string, node: string, lost: number) => {
    for (const { losses } of sumsAt(minuteS)) {
      const key = `${source} ${node}`, known = losses.get(key);
      if (known === undefined) losses.set(key, { source, node, lost });
      else known.lost += lost;
    }
  };
  const by = isFine ? sql`minute_s` : sql`cast(0 as bigint)`;
  await database.query(async (db) => {
    const counts = await sql<Record<string, string | number>>`
      select ${by} as minute_s, sum(cast(seen as double precision)) as seen, sum(cast(stored as double precision)) as stored, sum(cast(sampled_out as double precision)) as sampled_out
      from weir_history_minute where minute_s >= ${first} and minute_s <= ${last} group by 1`.execute(db);
    for (const row of counts.rows) {
      add(Number(row.minute_s), Number(row.seen ?? 0), Number(row.stored ?? 0), Number(row.sampled_out ?? 0));
    }
    const losses = await sql<Record<string, string | number>>`
      select ${by} as minute_s, source, node, sum(cast(lost as double precision)) as lost
      from weir_history_loss where minute_s >= ${first} and minute_s <= ${last} group by 1, 2, 3`.execute(db);
    for (const row of losses.rows) {
      lose(Number(row.minute_s), `${row.source}`, `${row.node}`, Number(row.lost));
    }
  });
  for (const tail of tails) {
    for (const [key, { seen, stored, sampledOut }] of tail.minutes) {
      const minuteS = Number(key.slice(0, key.indexOf(" ")));
      if (minuteS >= first && minuteS <= last) add(minuteS, seen, stored, sampledOut);
    }
    for (const [key, lost] of tail.losses) {
      const [text, source, ...node] = key.split(" "), minuteS = Number(text);
      if (minuteS >= first && minuteS <= last) lose(minuteS, source, node.join(" "), lost);
    }
  }
  return { total, minutes };
}

async function gapsOf(
  database: Database,
  { sinceMs, untilMs }: Window,
  tails: readonly CountChanges[],
): Promise<Init<Gap>[]> {
  const { rows } = await database.query((db) =>
    sql<{ node: string; since_ms: string | number; until_ms: string | number | null }>`
      select node, since_ms, until_ms from weir_history_gap
      where since_ms <= ${Math.floor(untilMs)} and (until_ms is null or until_ms >= ${Math.floor(sinceMs)})
      order by since_ms limit ${NAMED_MAX}`.execute(db)
  );
  const all = new Map(rows.map(({ node, since_ms, until_ms }) => [
    `${since_ms} ${node}`,
    {
      node,
      sinceUnixS: Number(since_ms) / 1000,
      untilUnixS: until_ms === null ? 0 : Number(until_ms) / 1000,
    },
  ]));
  for (const { gaps } of tails) {
    for (const gap of gaps) {
      const key = `${Math.floor(gap.sinceMs)} ${gap.node}`;
      if (gap.sinceMs > untilMs || (gap.untilMs ?? Infinity) < sinceMs || gap.untilMs === gap.sinceMs) {
        all.delete(key);
      } else {
        all.set(key, {
          node: gap.node,
          sinceUnixS: gap.sinceMs / 1000,
          untilUnixS: gap.untilMs === undefined ? 0 : gap.untilMs / 1000,
        });
      }
    }
  }
  return [...all.values()].slice(0, NAMED_MAX);
}

/** Shares and words. Pure. */
function completeness(
  { seen, stored, sampledOut, losses }: Sum,
  { sinceMs, untilMs }: Window,
  gaps: readonly Init<Gap>[],
): Completeness {
  const known = [...losses.values()], named = known.sort((a, b) => b.lost - a.lost).slice(0, NAMED_MAX);
  const lostBy = (isMeant: (source: string) => boolean) =>
    known.reduce((sum, one) => sum + (isMeant(one.source) ? one.lost : 0), 0);
  const uncounted = lostBy((source) => source === "HISTORY_SUMS"),
    lost = lostBy((source) => source !== "HISTORY_SUMS");
  // What the database did not take was seen all the same.
  const unseen = lost - lostBy((source) => source === "HISTORY");
  const all = seen + unseen, storedShare = all === 0 ? 1 : Math.min(1, stored / all);
  const countedShare = all === 0 ? 1 : Math.max(0, seen - uncounted) / all;
  return Completeness.create({
    sinceUnixS: sinceMs / 1000,
    untilUnixS: untilMs / 1000,
    seen,
    stored,
    sampledOut,
    lost,
    losses: named,
    gaps: [...gaps],
    storedShare,
    countedShare,
    text: completenessText({ stored, all, sampledOut, lost, uncounted, gaps }),
    countedText: percent(countedShare),
    missingText: missing({ lost, gaps }).join(", "),
  });
}

/** For people: "12,480 flows, 100 %". Pure. */
export function completenessText({ stored, all, sampledOut, lost, uncounted, gaps }: {
  stored: number;
  all: number;
  sampledOut: number;
  lost: number;
  /** Flows that are in no sum. */
  uncounted: number;
  gaps: readonly Init<Gap>[];
}): string {
  const parts = stored === all ? [`${number(all)} flow${all === 1 ? "" : "s"}`, "100 %"] : [
    `${number(stored)} of ${number(all)} flows`,
    `${sampledOut > 0 ? "sampled, " : ""}${percent(stored / all)}`,
  ];
  if (uncounted > 0) parts.push(`${number(uncounted)} in no sum`);
  return [...parts, ...missing({ lost, gaps })].join(", ");
}

/** What is in no answer. */
function missing({ lost, gaps }: { lost: number; gaps: readonly Init<Gap>[] }): string[] {
  const parts = lost > 0 ? [`${number(lost)} lost`] : [];
  if (gaps.length === 0) return parts;
  const nodes = [...new Set(gaps.map(({ node }) => node || "all nodes"))].sort();
  const shown = nodes.length > 3
    ? `${nodes.slice(0, 3).join(", ")} and ${nodes.length - 3} more`
    : nodes.join(", ");
  return [...parts, `not always heard: ${shown}`];
}

const number = (value: number) => value.toLocaleString("en-US");

/** Never 100 % of less than all, never 0 % of something. */
function percent(share: number): string {
  if (share > 0.99 && share < 1) return "over 99 %";
  if (share > 0 && share < 0.01) return "below 1 %";
  return `${Math.round(share * 100)} %`;
}
