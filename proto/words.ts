/** What shared numbers are called: by messages, and by people. The tables are in `numbers/`. @module */
import {
  DROP_REASONS,
  EVENT_FILES,
  EVENT_TYPES,
  MATCH_TYPES,
  TRACE_POINTS,
  TRACE_REASONS,
  TROUBLES,
} from "./gen/numbers.ts";
import type { DropReason, TraceObservationPoint, TraceReason } from "./gen/flow.ts";
import type { NumberRow } from "./numbers.ts";

const byNumber = (rows: readonly NumberRow[]) => new Map(rows.map((row) => [row.number, row]));
const drops = byNumber(DROP_REASONS), points = byNumber(TRACE_POINTS), reasons = byNumber(TRACE_REASONS);
const matches = byNumber(MATCH_TYPES), files = byNumber(EVENT_FILES), types = byNumber(EVENT_TYPES);
const troubles = byNumber(TROUBLES);

/** Enumerator of a drop reason. */
export function dropReasonName(reason: number): DropReason {
  return (drops.get(reason)?.name ?? "DROP_REASON_UNKNOWN") as DropReason;
}
/** Word for what is wrong with a flow, its number for an unknown one. */
export function troubleText(trouble: number): string {
  return troubles.get(trouble)?.text ?? `${trouble}`;
}
/** Words for a drop reason; its enumerator where it has none, undefined when nobody knows it. */
export function dropReasonText(reason: number): string | undefined {
  const row = drops.get(reason);
  return row && (row.text || row.name);
}
/** Enumerator of an observation point, by the datapath's number. */
export function tracePointName(point: number): TraceObservationPoint {
  return (points.get(point)?.name ?? "UNKNOWN_POINT") as TraceObservationPoint;
}
/** Word for an observation point, "" for an unknown one. */
export function tracePointText(point: number): string {
  return points.get(point)?.text ?? "";
}
/** Enumerator of what conntrack knew. */
export function traceReasonName(reason: number): TraceReason {
  return (reasons.get(reason)?.name ?? "TRACE_REASON_UNKNOWN") as TraceReason;
}
/** Words for what of a policy's entry matched. */
export function matchTypeText(type: number): string {
  return matches.get(type)?.text ?? "unknown";
}
/** Source of the programs, "" for an unknown one. */
export function eventFileName(file: number): string {
  return files.get(file)?.text ?? "";
}
/** Word for a kind of event, its number for an unknown one. */
export function eventTypeName(type: number): string {
  return types.get(type)?.text ?? `${type}`;
}
