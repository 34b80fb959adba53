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
import { Rollup, type StoredRollup } from "@weir/proto/history";
import { type Endpoint, Flow } from "@weir/proto/flow";
import type { EndTable } from "./end_table.ts";
import { OTHER_END } from "./end_table.ts";
import { EndNumbers } from "./rollup_end.ts";
import { addCounts, type RollupPart, unpackRows } from "./rollup_table.ts";
import type { Window } from "./completeness.ts";

/** What sums can be grouped by, one end's or both. */
export const END_DIMENSIONS = ["end", "pod", "workload", "namespace", "identity", "name"] as const;
export const FLOW_DIMENSIONS = [
  "port",
  "protocol",
  "verdict",
  "reason",
  "policy",
  "direction",
  "node",
] as const;
/** Dimensions of one request. */
export const DIMENSIONS_MAX = 8;
/** Groups that are added up; beyond it the request is refused. */
export const GROUPS_MAX = 50_000;
/** Rows of sums that are read at once. */
const PARTS_AT_ONCE = 64;
/** Steps of one answer. */
export const STEPS_MAX = 5000;

/** Column -> value of a row. */
interface Dimension {
  readonly key: string;
  readonly valueOf: (row: StoredRollup) => string;
}

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
  const groups = new Map<string, Rollup>();
  const firstS = Math.floor(request.sinceMs / 60_000) * 60,
    endS = Math.floor(request.untilMs / 60_000) * 60 + 60;
  const endMs = clock.monotonicMs() + request.deadlineMs;
  let folded = 0;
  const take = ({ startS, rows }: RollupPart) => {
    for (const row of rows) {
      if (!request.isUnfiltered && !request.matches(flowOfRow(row, ends))) continue;
      if (row.source === OTHER_END && row.destination === OTHER_END && row.protocol === "") {
        folded += row.flows;
      }
      const stepS = request.stepS === 0 ? firstS : startS - startS % request.stepS;
      const values = dimensions.map(({ valueOf }) => valueOf(row)), key = `${stepS}\n${values.join("\n")}`;
      let group = groups.get(key);
      if (group === undefined) {
        if (groups.size >= GROUPS_MAX) throw tooWide();
        group = Rollup.create({
          keys: Object.fromEntries(dimensions.map(({ key }, index) => [key, values[index]])),
          startUnixS: stepS,
          firstUnixS: row.firstUnixS,
          lastUnixS: row.lastUnixS,
        });
        groups.set(key, group);
      }
      addCounts(group, row);
    }
  };
  for (const part of request.tail) if (part.startS >= firstS && part.startS < endS) take(part);
  for (const tile of tilesOf(firstS, endS, request)) {
    for (
      let after: { startS: number; part: number } | undefined = { startS: tile.sinceS, part: 0 };
      after !== undefined;
    ) {
      if (clock.monotonicMs() >= endMs) throw late(request.deadlineMs);
      const rows: StoredPart[] = await readParts(database, tile, after);
      for (const { startS, body } of rows) take({ startS, rows: unpackRows(body) });
      const last: StoredPart | undefined = rows.at(-1);
      after = rows.length < PARTS_AT_ONCE || last === undefined
        ? undefined
        : { startS: last.startS, part: last.part + 1 };
    }
  }
  return { rollups: sorted([...groups.values()], request.stepS !== 0), folded, numbers };
}

interface Tile {
  readonly level: number;
  readonly sinceS: number;
  readonly endS: number;
}

interface StoredPart {
  readonly startS: number;
  readonly part: number;
  readonly body: Uint8Array;
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
): Promise<StoredPart[]> {
  const { rows } = await database.query((db) =>
    sql<{ start_s: string | number; part: number; body: Uint8Array }>`
      select start_s, part, body from weir_history_rollup
      where level = ${level} and (start_s, part) >= (${startS}, ${part}) and start_s < ${endS}
      order by start_s, part limit ${PARTS_AT_ONCE}`.execute(db)
  );
  return rows.map((row) => ({ startS: Number(row.start_s), part: Number(row.part), body: row.body }));
}

/** @throws {ProblemError} QUERY_INVALID for a dimension that there is not */
function dimensionsOf(by: readonly string[], ends: EndTable, numbers: EndNumbers): Dimension[] {
  const all = by.flatMap((text): Dimension[] => {
    const [, side, name] = /^(?:(from|to)[:.])?(.+)$/.exec(text) ?? [];
    const isEnd = (END_DIMENSIONS as readonly string[]).includes(name ?? "") || /^label:.+/.test(name ?? "");
    if (isEnd) {
      return (side === undefined ? ["from", "to"] : [side]).map((one) =>
        name === "end" ? numberDimension(one, numbers) : endDimension(one, name, ends)
      );
    }
    if (side === undefined && (FLOW_DIMENSIONS as readonly string[]).includes(text)) {
      return [flowDimension(text)];
    }
    const expected = `${END_DIMENSIONS.join(", ")}, label:KEY (with from: or to: for one end), ${
      FLOW_DIMENSIONS.join(", ")
    }`;
    throw new ProblemError("QUERY_INVALID", {
      status: 400,
      detail: `Cannot group by ${text.slice(0, 80)}: expected ${expected}`,
      found: text.slice(0, 80),
      expected,
    });
  });
  if (all.length > DIMENSIONS_MAX) {
    throw new ProblemError("QUERY_INVALID", {
      status: 400,
      detail: `Cannot group by ${all.length} columns: at most ${DIMENSIONS_MAX}`,
      found: all.length,
      expected: `at most ${DIMENSIONS_MAX}`,
    });
  }
  return all;
}

function flowDimension(name: string): Dimension {
  return {
    key: name,
    valueOf: (row) =>
      name === "reason" && row.reason === "DROP_REASON_UNKNOWN" ? "" : `${row[name as "port"]}`,
  };
}

function numberDimension(side: string, numbers: EndNumbers): Dimension {
  const isSource = side === "from";
  return {
    key: `${side}.end`,
    valueOf: (row) =>
      isSource ? numbers.of(row.source, row.sourceName) : numbers.of(row.destination, row.destinationName),
  };
}

function endDimension(side: string, name: string, ends: EndTable): Dimension {
  const isSource = side === "from";
  // Of the same end again and again.
  const known = new Map<string, string>();
  return {
    key: `${side}.${name}`,
    valueOf: (row) => {
      const end = isSource ? row.source : row.destination,
        dns = isSource ? row.sourceName : row.destinationName;
      const key = `${end} ${dns}`;
      let value = known.get(key);
      if (value === undefined) known.set(key, value = endText(ends.get(end)?.endpoint, name, dns));
      return value;
    },
  };
}

/** What an end is called. Pure. `undefined`: one of many that had no room. */
export function endText(end: Endpoint | undefined, name: string, dns: string): string {
  if (end === undefined) return "other";
  if (name.startsWith("label:")) return labelValue(end.labels, name.slice("label:".length));
  if (name === "namespace") return end.namespace;
  if (name === "identity") return `${end.identity}`;
  if (name === "name") return dns;
  const [workload] = end.workloads;
  const pod = end.pod_name === "" ? "" : `${end.namespace}/${end.pod_name}`;
  const own = name === "workload" && workload !== undefined
    ? `${end.namespace}/${workload.kind}/${workload.name}`
    : pod;
  if (own !== "") return own;
  // Who is no pod: its DNS name, else what it is (host, world, remote-node), else its number.
  const reserved = end.labels.find((label) => label.startsWith("reserved:"))?.slice("reserved:".length);
  return dns || reserved || (end.identity === 0 ? "unknown" : `identity ${end.identity}`);
}

/** "k8s:app" one source's, "app" any's. */
function labelValue(labels: readonly string[], key: string): string {
  for (const label of labels) {
    const equals = label.indexOf("="), full = equals < 0 ? label : label.slice(0, equals);
    if (full === key || full.slice(full.indexOf(":") + 1) === key) {
      return equals < 0 ? "" : label.slice(equals + 1);
    }
  }
  return "";
}

/** A row as the flow that a filter asks. */
function flowOfRow(row: StoredRollup, ends: EndTable): Flow {
  const ports = { source_port: 0, destination_port: row.port };
  const isStream = row.protocol === "TCP" || row.protocol === "UDP" || row.protocol === "SCTP";
  return {
    ...EMPTY,
    source: ends.get(row.source)?.endpoint,
    destination: ends.get(row.destination)?.endpoint,
    source_names: row.sourceName === "" ? [] : [row.sourceName],
    destination_names: row.destinationName === "" ? [] : [row.destinationName],
    verdict: row.verdict,
    drop_reason_desc: row.reason,
    traffic_direction: row.direction,
    node_name: row.node,
    l4: row.protocol === "" ? undefined : { [row.protocol]: isStream ? ports : {} } as Flow["l4"],
  };
}
const EMPTY: Flow = Flow.create();

function sorted(rollups: Rollup[], byTime: boolean): Rollup[] {
  return rollups.sort((a, b) =>
    (byTime ? a.startUnixS - b.startUnixS : 0) || b.dropped - a.dropped || b.flows - a.flows
  );
}

function tooWide(): ProblemError {
  return new ProblemError("QUERY_TOO_WIDE", {
    status: 422,
    detail: `Cannot add up: there are more than ${GROUPS_MAX} groups`,
    expected: `at most ${GROUPS_MAX} groups`,
    action: "Group by less, take longer steps, or filter",
  });
}

function late(ms: number): ProblemError {
  return new ProblemError("QUERY_TOO_WIDE", {
    status: 422,
    detail: `Cannot add up within ${ms / 1000} s`,
    action: "Ask about a shorter time",
  });
}
