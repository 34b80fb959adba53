/**
 * Recorded traffic of a cluster that runs Weir: connections of its flow history, read from there or judged there.
 * @module
 */
import { type Completeness, PreviewAnswer, PreviewRecord, PreviewRequest } from "@weir/proto/history";
import type { Init } from "@weir/proto";
import { type CommandContext, UsageError } from "../context.ts";
import { askHistory, historyConnections } from "../observe/history.ts";
import { connectionsOf, count, leftOutTexts, timeText, type Traffic, type TrafficWindow } from "./traffic.ts";

/** Connections that are read, newest first; more than these are named as not read. */
export const CONNECTIONS_READ_MAX = 200_000;
const SINCE_DEFAULT = "24h";
/** Judging all of them takes seconds, on a busy machine many. */
const PREVIEW_MS_MAX = 120_000;

/** Reads the history. @throws {UsageError} none runs, or it has nothing of the window */
export async function historyTraffic(
  { since = SINCE_DEFAULT, until }: TrafficWindow,
  context: CommandContext,
): Promise<Traffic> {
  const { ConnectionReader, FlowRecorder, LEFT_OUT } = await import("@weir/policy-engine/recorded");
  const recorder = new FlowRecorder(), reader = new ConnectionReader(recorder);
  const query = { since: [since], ...(until === undefined ? {} : { until: [until] }) };
  const view = await askHistory(context, (client) => historyConnections(client, query, CONNECTIONS_READ_MAX));
  if (view === undefined) throw noHistory();
  const isCut = view.items.length >= CONNECTIONS_READ_MAX;
  for (const connection of view.items) reader.add(connection);
  if (recorder.connections.length === 0) {
    const left = leftOutTexts(recorder, LEFT_OUT);
    throw new UsageError(
      `There is no connection to judge since ${since}: ${
        left.length > 0 ? left.join("; ") : "none was recorded"
      }`,
    );
  }
  const record = PreviewRecord.create({
    completeness: view.completeness!,
    complete: !isCut,
    connections: connectionsOf(recorder),
    kinds: recorder.connections.length,
    leftOut: Object.fromEntries(recorder.leftOut),
    icmpTakenForEcho: reader.echoes,
    unreadEnds: reader.unread,
  });
  return { recorder, allowedBy: new Set(), ...await describedRecord(record) };
}

/** Has the history judge its own connections. @throws {UsageError} none runs */
export async function historyPreview(
  request: Init<PreviewRequest>,
  context: CommandContext,
): Promise<PreviewAnswer> {
  const answer = await askHistory(context, (client) =>
    client.call("/v1/preview", {
      request: { message: PreviewRequest, value: request },
      response: PreviewAnswer,
      deadlineMs: PREVIEW_MS_MAX,
    }));
  if (answer === undefined) throw noHistory();
  return answer;
}

function noHistory(): UsageError {
  return new UsageError(
    "No flow history runs here: give a file of flows, --flows FILE (hubble observe -o jsonpb)",
  );
}

/** What a record of the history is, for people and for programs. */
export async function describedRecord(record: PreviewRecord): Promise<Pick<Traffic, "coverage" | "facts">> {
  const { LEFT_OUT } = await import("@weir/policy-engine/recorded");
  const completeness = record.completeness!, leftOut = new Map(Object.entries(record.leftOut));
  const since = timeText(completeness.sinceUnixS * 1000), until = timeText(completeness.untilUnixS * 1000);
  const left = leftOutTexts({ leftOut }, LEFT_OUT);
  return {
    coverage: [
      `Record: ${count(record.connections)} connections of the flow history, ${since} to ${until}, ${
        count(record.kinds)
      } kinds; ${shareText(completeness)}`,
      ...record.complete ? [] : ["Older connections than the newest were not read: ask for a shorter time"],
      ...left.length > 0 ? [`Left out: ${left.join("; ")}`] : [],
      ...record.unreadEnds > 0 ? [`Ends whose labels cannot be read: ${count(record.unreadEnds)}`] : [],
      ...record.icmpTakenForEcho > 0
        ? [
          `ICMP: ${
            count(record.icmpTakenForEcho)
          } connections, taken for echo requests (the history keeps no type)`,
        ]
        : [],
    ],
    facts: {
      source: "history",
      complete: record.complete,
      connections: record.connections,
      kinds: record.kinds,
      since,
      until,
      countedShare: completeness.countedShare,
      flowsSeen: completeness.seen,
      flowsLost: completeness.lost,
      missing: completeness.missingText,
      leftOut: record.leftOut,
      icmpTakenForEcho: record.icmpTakenForEcho,
    },
  };
}

/** Connections are of all flows that came; what never came is in none. */
function shareText({ countedText, missingText }: Completeness): string {
  return `made of ${countedText || "an unknown share"} of all flows${
    missingText === "" ? "" : ` (${missingText})`
  }`;
}
