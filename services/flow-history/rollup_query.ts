/**
 * Sums over a window, grouped: the coarsest stored sums that fill it, the finest at its edges.
 *
 *     |1|1|10 . . . . .|60 . . . . . . . . . . . .|60 . . . . . . . . .|10 . . .|1|  memory
 *
 * @module
 */
import { sql } from "kysely";
import { type Clock, ProblemError } from "@weir/common";
import type { Database } from "@weir/common/state";
import type { Rollup, StoredRollup } from "@weir/proto/history";
import { Flow } from "@weir/proto/flow";
import type { EndTable } from "./end_table.ts";
import { EndNumbers } from "./rollup_end.ts";
import { unpackRows } from "./rollup_columns.ts";
import { dimensionsOf } from "./rollup_dimension.ts";
import { RollupGroups } from "./rollup_groups.ts";
import { isFolded, type RollupPart } from "./rollup_table.ts";
import { readTotals } from "./rollup_totals.ts";
import type { Window } from "./completeness.ts";

/** Rows of sums that are read at once. */
const PARTS_AT_ONCE = 64;
/** Steps of one answer. */
export const STEPS_MAX = 5000;

/** What is asked. */
export interface RollupRequest extends Window {
  readonly by: readonly string[];
  /** Seconds, a multiple of 60; 0: one sum over the window. */
  readonly stepS: number;
  readonly matches: (flow: Flow) => boolean;
  /** Nothing is filtered: rows need not be made into flows. */
  readonly isUnfiltered: boolean;
  readonly tail: readonly RollupPart[];
  readonly compactedS: (level: number) => number;
  readonly deadlineMs: number;
}

/** Adds up. @throws {ProblemError} QUERY_INVALID, QUERY_TOO_WIDE, DEADLINE_EXCEEDED */
export async function sumRollups(
  database: Database,
  ends: EndTable,
  clock: Clock,
  request: RollupRequest,
): Promise<{ rollups: Rollup[]; folded: number; numbers: EndNumbers }> {
  const numbers = new EndNumbers(ends), dimensions = dimensionsOf(request.by, ends, numbers);
  const groups = new RollupGroups(dimensions);
  const firstS = Math.floor(request.sinceMs / 60_000) * 60,
    endS = Math.floor(request.untilMs / 60_000) * 60 + 60;
  const endMs = clock.monotonicMs() + request.deadlineMs;
  let folded = 0;
  const flowOf = flowMaker(ends), isTotal = dimensions.length === 0 && request.isUnfiltered;
  const take = ({ startS, rows }: RollupPart) => {
    const stepS = request.stepS === 0 ? firstS : startS - startS % request.stepS;
    for (const row of rows) {
      if (!request.isUnfiltered && !request.matches(flowOf(row))) continue;
      if (isFolded(row)) folded += row.flows;
      groups.add(row, stepS);
    }
  };
  for (const part of request.tail) if (part.startS >= firstS && part.startS < endS) take(part);
  for (const tile of tilesOf(firstS, endS, request)) {
    for (
      let after: { startS: number; part: number } | undefined = { startS: tile.sinceS, part: 0 };
      after !== undefined;
    ) {
      if (clock.monotonicMs() >= endMs) throw late(request.deadlineMs);
      const rows: StoredPart[] = await readParts(database, tile, after, isTotal);
      for (const { startS, totals, body } of rows) take({ startS, rows: totals ?? unpackRows(body!) });
      const last: StoredPart | undefined = rows.at(-1);
      after = rows.length < PARTS_AT_ONCE || last === undefined
        ? undefined
        : { startS: last.startS, part: last.part + 1 };
    }
  }
  return { rollups: sorted(groups.list(), request.stepS !== 0), folded, numbers };
}

interface Tile {
  readonly level: number;
  readonly sinceS: number;
  readonly endS: number;
}

interface StoredPart {
  readonly startS: number;
  readonly part: number;
  /** Where they are enough, and there; else the body. */
  readonly totals: StoredRollup[] | undefined;
  readonly body: Uint8Array | null;
}

/** Which level fills which part of the window, in the order of time. Pure. */
export function tilesOf(
  sinceS: number,
  endS: number,
  { stepS, compactedS }: Pick<RollupRequest, "stepS" | "compactedS">,
): Tile[] {
  const tiles: Tile[] = [];
  for (let at = sinceS; at < endS;) {
    const level = [60, 10].find((minutes) => {
      const widthS = minutes * 60;
      return at % widthS === 0 && at + widthS <= endS && at + widthS <= compactedS(minutes) &&
        (stepS === 0 || stepS % widthS === 0);
    }) ?? 1;
    const last = tiles.at(-1), next = at + level * 60;
    if (last?.level === level) tiles[tiles.length - 1] = { ...last, endS: next };
    else tiles.push({ level, sinceS: at, endS: next });
    at = next;
  }
  return tiles;
}

async function readParts(
  database: Database,
  { level, endS }: Tile,
  { startS, part }: { startS: number; part: number },
  isTotal: boolean,
): Promise<StoredPart[]> {
  const columns = isTotal ? "totals, case when totals is null then body end as body" : "null as totals, body";
  const { rows } = await database.query((db) =>
    sql<{ start_s: string | number; part: number; totals: string | null; body: Uint8Array | null }>`
      select start_s, part, ${sql.raw(columns)} from weir_history_rollup
      where level = ${level} and (start_s, part) >= (${startS}, ${part}) and start_s < ${endS}
      order by start_s, part limit ${PARTS_AT_ONCE}`.execute(db)
  );
  return rows.map(({ start_s, part, totals, body }) => ({
    startS: Number(start_s),
    part: Number(part),
    totals: readTotals(totals),
    body,
  }));
}

/** Makes a row the flow that a filter asks: always the same one, for a new one takes longer than to ask it. */
function flowMaker(ends: EndTable): (row: StoredRollup) => Flow {
  const ports = { source_port: 0, destination_port: 0 }, flow = { ...EMPTY };
  const transports: Record<string, Flow["l4"]> = {};
  const transportOf = (protocol: string): Flow["l4"] => {
    const isStream = protocol === "TCP" || protocol === "UDP" || protocol === "SCTP";
    return { [protocol]: isStream ? ports : {} } as Flow["l4"];
  };
  return (row) => {
    flow.source = ends.get(row.source)?.endpoint;
    flow.destination = ends.get(row.destination)?.endpoint;
    flow.source_names = row.sourceName === "" ? [] : [row.sourceName];
    flow.destination_names = row.destinationName === "" ? [] : [row.destinationName];
    flow.verdict = row.verdict;
    flow.drop_reason_desc = row.reason;
    flow.traffic_direction = row.direction;
    flow.node_name = row.node;
    ports.destination_port = row.port;
    flow.l4 = row.protocol === "" ? undefined : transports[row.protocol] ??= transportOf(row.protocol);
    return flow;
  };
}
const EMPTY: Flow = Flow.create();

function sorted(rollups: Rollup[], byTime: boolean): Rollup[] {
  return rollups.sort((a, b) =>
    (byTime ? a.startUnixS - b.startUnixS : 0) || b.dropped - a.dropped || b.flows - a.flows
  );
}

function late(ms: number): ProblemError {
  return new ProblemError("QUERY_TOO_WIDE", {
    status: 422,
    detail: `Cannot add up within ${ms / 1000} s`,
    action: "Ask about a shorter time",
  });
}
