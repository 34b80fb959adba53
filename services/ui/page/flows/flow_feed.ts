/**
 * The live rows of the table: newest first, in batches of a frame, held while nobody wants new ones.
 * @module
 */
import { useEffect, useRef, useState } from "react";
import type { FlowEvent, FlowRow } from "../../api.ts";
import { ApiError, apiUrl, followStream, type StreamState } from "../data/api_client.ts";
import type { Parameters } from "../data/use_filter.ts";

/** Rows that the page keeps; older ones are in the history. */
export const ROWS_MAX = 10_000;
/** Rows that the stream begins with. */
const ROWS_FIRST = 300;
const FLUSH_MS = 250;

export interface FlowFeed {
  readonly rows: readonly FlowRow[];
  /** Rows that came while the table stands still. */
  readonly held: number;
  /** Flows that the stream left out, for it or this page was too slow. */
  readonly lost: number;
  readonly stream: StreamState;
}

/** Puts newer rows before older ones: by time, newest first; each flow once. Pure. */
export function mergeRows(
  rows: readonly FlowRow[],
  more: readonly FlowRow[],
  most = ROWS_MAX,
): readonly FlowRow[] {
  if (more.length === 0) return rows;
  const known = new Set(rows.slice(0, 2000).map((row) => row.uuid));
  const fresh: FlowRow[] = [];
  for (const row of more) {
    if (known.has(row.uuid)) continue;
    known.add(row.uuid);
    fresh.push(row);
  }
  fresh.sort((a, b) => b.timeUnixS - a.timeUnixS);
  // Nodes' clocks differ, and their flows come as they come: what is late goes where it belongs.
  if (rows.length > 0 && fresh.length > 0 && fresh[fresh.length - 1].timeUnixS < rows[0].timeUnixS) {
    return [...fresh, ...rows].sort((a, b) => b.timeUnixS - a.timeUnixS).slice(0, most);
  }
  return [...fresh, ...rows].slice(0, most);
}

/**
 * @param parameters null: nothing is followed. The same text is the same question.
 * @param standing Rows are held, not shown.
 */
export function useFlowFeed(parameters: Parameters | null, standing: boolean): FlowFeed {
  const [feed, setFeed] = useState<FlowFeed>({ rows: [], held: 0, lost: 0, stream: { kind: "connecting" } });
  const waiting = useRef<FlowRow[]>([]);
  const stands = useRef(standing);
  stands.current = standing;
  const key = parameters === null ? null : JSON.stringify(parameters);
  useEffect(() => {
    waiting.current = [];
    setFeed({ rows: [], held: 0, lost: 0, stream: { kind: "connecting" } });
    if (key === null) return;
    const ending = new AbortController();
    followStream<FlowEvent>(
      apiUrl("flows/stream", [...JSON.parse(key) as [string, string][], ["last", String(ROWS_FIRST)]]),
      {
        signal: ending.signal,
        onLine: (event) => {
          // A question that the server cannot answer is not asked again.
          if ("code" in event) {
            throw new ApiError({ ...event as unknown as { code: string; detail: string }, status: 400 });
          }
          if (event.type === "lost") setFeed((old) => ({ ...old, lost: old.lost + event.flows }));
          if (event.type !== "flows") return;
          for (const flow of event.flows) waiting.current.push(flow);
          if (waiting.current.length > 2 * ROWS_MAX) {
            waiting.current.splice(0, waiting.current.length - ROWS_MAX);
          }
        },
        onState: (stream) => ending.signal.aborted || setFeed((old) => ({ ...old, stream })),
      },
    );
    let shown = 0;
    const timer = setInterval(() => {
      if (waiting.current.length === 0 || document.hidden) return;
      if (stands.current && shown > 0) {
        const held = waiting.current.length;
        return setFeed((old) => old.held === held ? old : { ...old, held });
      }
      const more = waiting.current;
      waiting.current = [];
      shown += more.length;
      setFeed((old) => ({ ...old, rows: mergeRows(old.rows, more), held: 0 }));
    }, FLUSH_MS);
    return () => {
      ending.abort();
      clearInterval(timer);
    };
  }, [key]);
  return feed;
}
