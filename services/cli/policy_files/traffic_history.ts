/**
 * Recorded traffic of a cluster that runs Weir: connections of its flow history, with the policies that are in force and who is there now.
 * @module
 */
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import type { Completeness } from "@weir/proto/history";
import { Policy } from "@weir/proto/policy";
import type { ClusterNow } from "@weir/policy-engine/recorded";
import { clientOf } from "../clients.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { askHistory, historyConnections } from "../observe/history.ts";
import { connectionsOf, count, leftOutTexts, timeText, type Traffic, type TrafficWindow } from "./traffic.ts";

/** Connections that are read, newest first; more than these are named as not read. */
export const CONNECTIONS_READ_MAX = 200_000;
const SINCE_DEFAULT = "24h";

/** What is there now. */
export interface ClusterState extends ClusterNow {
  readonly policies: readonly Policy[];
}

/** Reads the history. @throws {UsageError} none runs, or it has nothing of the window */
export async function historyTraffic(
  { since = SINCE_DEFAULT, until }: TrafficWindow,
  context: CommandContext,
): Promise<Traffic> {
  const { ConnectionReader, FlowRecorder, LEFT_OUT } = await import("@weir/policy-engine/recorded");
  const recorder = new FlowRecorder(), reader = new ConnectionReader(recorder);
  const query = { since: [since], ...(until === undefined ? {} : { until: [until] }) };
  const view = await askHistory(context, (client) => historyConnections(client, query, CONNECTIONS_READ_MAX));
  if (view === undefined) {
    throw new UsageError(
      "No flow history runs here: give a file of flows, --flows FILE (hubble observe -o jsonpb)",
    );
  }
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
  const completeness = view.completeness!, left = leftOutTexts(recorder, LEFT_OUT);
  return {
    recorder,
    allowedBy: new Set(),
    coverage: [
      `Record: ${count(connectionsOf(recorder))} connections of the flow history, ${
        timeText(completeness.sinceUnixS * 1000)
      } to ${timeText(completeness.untilUnixS * 1000)}, ${count(recorder.connections.length)} kinds; ${
        shareText(completeness)
      }`,
      ...isCut
        ? [
          `Older connections than the newest ${
            count(CONNECTIONS_READ_MAX)
          } were not read: ask for a shorter time`,
        ]
        : [],
      ...left.length > 0 ? [`Left out: ${left.join("; ")}`] : [],
      ...reader.unread > 0 ? [`Ends whose labels cannot be read: ${count(reader.unread)}`] : [],
      ...reader.echoes > 0
        ? [`ICMP: ${count(reader.echoes)} connections, taken for echo requests (the history keeps no type)`]
        : [],
    ],
    facts: {
      source: "history",
      complete: !isCut,
      connections: connectionsOf(recorder),
      kinds: recorder.connections.length,
      since: timeText(completeness.sinceUnixS * 1000),
      until: timeText(completeness.untilUnixS * 1000),
      countedShare: completeness.countedShare,
      flowsSeen: completeness.seen,
      flowsLost: completeness.lost,
      missing: completeness.missingText,
      leftOut: Object.fromEntries(recorder.leftOut),
      icmpTakenForEcho: reader.echoes,
    },
  };
}

/** Connections are of all flows that came; what never came is in none. */
function shareText({ countedText, missingText }: Completeness): string {
  return `made of ${countedText || "an unknown share"} of all flows${
    missingText === "" ? "" : ` (${missingText})`
  }`;
}

/** Asks who is there, and which policies are in force. */
export async function clusterState(context: CommandContext): Promise<ClusterState> {
  const engine = clientOf(context, "policy-engine"), allocator = clientOf(context, "identity-allocator");
  try {
    const [policies, identities, addresses] = await Promise.all([
      engine.collection("policies", Policy).list(),
      allocator.collection("identities", Identity).list(),
      allocator.collection("ipcache", IpcacheEntry).list(),
    ]);
    return { policies: policies.items, identities: identities.items, addresses: addresses.items };
  } finally {
    engine.close();
    allocator.close();
  }
}
