/** Rows of the table: one question, or a stream that a slow reader cannot make grow. @module */
import type { Clock } from "@weir/common";
import { ProblemError } from "@weir/common";
import { readFlowsQuery } from "@weir/flow-filter";
import type { Init } from "@weir/proto";
import type { Flow } from "@weir/proto/flow";
import type { GetFlowsRequest } from "@weir/proto/observer";
import type { FlowEvent, FlowPage, FlowRow, Sources } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { rowOf } from "./flow_row.ts";
import type { FlowSource } from "./flow_source.ts";
import { completeness } from "./live_map.ts";

/** Rows of one answer, rows that wait for a reader, rows of one event. */
export const ROWS_MAX = 5000;
const WAITING_MAX = 4000, BATCH_MAX = 400;
const LAST_DEFAULT = 200;
const GATHER_MS = 200, BEAT_MS = 5000, ASK_MS_MAX = 10_000;

/** What rows are made of. */
export interface RowParts {
  readonly source: FlowSource;
  readonly names: EndNames;
  readonly sources: () => Sources;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** The request that query parameters mean; `last` is at most `ROWS_MAX`. @throws {ProblemError} QUERY_INVALID */
export function flowsRequest(query: URLSearchParams, nowMs: number): Init<GetFlowsRequest> {
  const own = new URLSearchParams(query);
  for (const name of ["watch", "follow", "first", "all", "since", "until"]) own.delete(name);
  const request = readFlowsQuery(own, nowMs);
  return { ...request, follow: false, number: Math.min(request.number || LAST_DEFAULT, ROWS_MAX) };
}

/** Rows that the nodes hold in memory, the newest last. @throws {ProblemError} */
export async function askRows(query: URLSearchParams, parts: RowParts): Promise<FlowPage> {
  const request = flowsRequest(query, parts.clock.nowMs());
  const stop = new AbortController();
  const late = parts.clock.sleep(ASK_MS_MAX, stop.signal).then(() => stop.abort());
  const flows: Flow[] = [];
  let lost = 0;
  try {
    for await (const answers of parts.source.stream(request, AbortSignal.any([stop.signal, parts.signal]))) {
      for (const { flow, lost_events } of answers) {
        if (flow) flows.push(flow);
        lost += lost_events?.num_events_lost ?? 0;
      }
    }
  } finally {
    stop.abort();
    await late;
  }
  const { num_flows, seen_flows } = await parts.source.status();
  const nowS = parts.clock.nowMs() / 1000, number = request.number as number;
  const rows = flows.slice(-number).map((flow) => rowOf(flow, parts.names, nowS));
  return {
    flows: rows,
    more: flows.length >= number,
    completeness: {
      ...completeness({ seen: seen_flows, shown: rows.length, lost, sampled: 1 }),
      text:
        `${rows.length.toLocaleString("en-US")} of the newest ${num_flows.toLocaleString("en-US")} flows` +
        ` (${seen_flows.toLocaleString("en-US")} seen)`,
    },
  };
}

const encoder = new TextEncoder();

/** A stream of {@link FlowEvent}, a line each: the newest first, then what comes. @throws {ProblemError} QUERY_INVALID */
export function rowStream(query: URLSearchParams, parts: RowParts): ReadableStream<Uint8Array> {
  const { source, names, clock } = parts;
  const request = { ...flowsRequest(query, clock.nowMs()), follow: true };
  const stop = new AbortController(), signal = AbortSignal.any([stop.signal, parts.signal]);
  let waiting: FlowRow[] = [], lost = 0, heardMs = clock.monotonicMs(), told = "";
  let ended: unknown, isOver = false;
  const read = async () => {
    try {
      for await (const answers of source.stream(request, signal)) {
        const nowS = clock.nowMs() / 1000;
        for (const { flow, lost_events } of answers) {
          lost += lost_events?.num_events_lost ?? 0;
          if (!flow) continue;
          waiting.push(rowOf(flow, names, nowS));
        }
        if (waiting.length > WAITING_MAX) {
          lost += waiting.length - WAITING_MAX;
          waiting = waiting.slice(-WAITING_MAX);
        }
      }
    } catch (error) {
      ended = error;
    }
    isOver = true;
  };
  const next = (): FlowEvent | undefined => {
    const sources = parts.sources(), text = JSON.stringify(sources);
    if (text !== told) {
      told = text;
      return { type: "sources", sources };
    }
    if (waiting.length > 0) return { type: "flows", flows: waiting.splice(0, BATCH_MAX) };
    if (lost > 0) {
      const flows = lost;
      lost = 0;
      return { type: "lost", flows };
    }
    if (clock.monotonicMs() - heardMs >= BEAT_MS) return { type: "beat", nowUnixS: clock.nowMs() / 1000 };
    return undefined;
  };
  read();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      for (;;) {
        const event = next();
        if (event !== undefined) {
          heardMs = clock.monotonicMs();
          return controller.enqueue(encoder.encode(`${JSON.stringify(event)}\n`));
        }
        if (isOver) {
          if (ended === undefined) return controller.close();
          const { code, message } = ended instanceof ProblemError
            ? ended
            : { code: "INTERNAL_ERROR", message: `${ended}` };
          controller.enqueue(encoder.encode(`${JSON.stringify({ type: "error", code, detail: message })}\n`));
          return controller.close();
        }
        await clock.sleep(GATHER_MS, signal);
      }
    },
    cancel: () => stop.abort(),
  }, { highWaterMark: 0 });
}
