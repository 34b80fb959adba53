/**
 * `weir observe connections`, and `--group-by`: live from the nodes' memory and conntrack, with `--since` from the history.
 *
 * @module
 */
import { MapDump } from "@weir/proto/datapath";
import { Flow } from "@weir/proto/flow";
import { Completeness, type Connection } from "@weir/proto/history";
import { GetFlowsResponse, ServerStatusResponse } from "@weir/proto/observer";
import { answersOf, onEveryNode } from "../clients.ts";
import type { CommandContext } from "../context.ts";
import { connectionsOf, type Found, type TrackedRow } from "./connection_set.ts";
import { connectionsText, groupsText, type View } from "./connection_text.ts";
import { groupColumns, groupConnections } from "./groups.ts";
import { askHistory, historyConnections, historyGroups, ofNode } from "./history.ts";
import { type ConnectionsRequest, readConnectionArgs } from "./request.ts";
import { timeText } from "./time_text.ts";
import { nowMs } from "../now.ts";

/** Said where the past is asked about and nobody knows it. */
export const MEMORY_ALONE = "weir: no flow history runs here: of what the nodes hold in memory alone\n";

/** Runs `weir observe connections`. */
export async function connectionsCommand(args: string[], context: CommandContext): Promise<number> {
  return await showConnections(readConnectionArgs(args), context);
}

/** Shows connections, or groups of them. */
export async function showConnections(request: ConnectionsRequest, context: CommandContext): Promise<number> {
  const { query, groupBy, limit, form } = request, columns = groupColumns(groupBy);
  if (query.since !== undefined || query.until !== undefined) {
    const asked = ofNode(context, query);
    const text = await askHistory(
      context,
      async (client) =>
        groupBy.length > 0
          ? groupsText(await historyGroups(client, asked, { by: groupBy, limit }), columns, form)
          : connectionsText(await historyConnections(client, asked, limit), form),
    );
    if (text !== undefined) {
      context.io.out(text);
      return 0;
    }
    context.io.err(MEMORY_ALONE);
  }
  const { items, completeness } = await liveConnections(context, query);
  if (groupBy.length > 0) {
    const groups = groupConnections(items, groupBy);
    const view = { items: groups.slice(0, limit), more: Math.max(0, groups.length - limit), completeness };
    context.io.out(groupsText(view, columns, form));
  } else {
    const view = { items: items.slice(0, limit), more: Math.max(0, items.length - limit), completeness };
    context.io.out(connectionsText(view, form));
  }
  return 0;
}

/** What the nodes hold now, newest first. @throws {ProblemError} QUERY_INVALID, FILTER_INVALID */
export async function liveConnections(
  context: CommandContext,
  query: Readonly<Record<string, readonly string[]>>,
): Promise<View<Connection>> {
  // A connection is what it is by all of its flows: filters choose connections.
  const { compileFilters, loadEngines, readFlowsQuery } = await import("@weir/flow-filter");
  const parameters = new URLSearchParams(
    Object.entries(query).flatMap(([name, values]) => values.map((value) => [name, value])),
  );
  const { whitelist = [], blacklist = [], since, until } = readFlowsQuery(parameters, nowMs());
  const passes = compileFilters(whitelist, blacklist, await loadEngines([...whitelist, ...blacklist]));
  const [held, tracked] = await Promise.all([
    onEveryNode(context, "flow-exporter", async (client) => {
      const flows: Flow[] = [];
      const asked = { all: true, watch: false };
      const status = await client.call("/v1/status", { method: "GET", response: ServerStatusResponse });
      for await (const { flow } of client.stream("/v1/flows", GetFlowsResponse, { query: asked })) {
        if (flow !== undefined) flows.push(flow);
      }
      return { flows, seen: status.seen_flows };
    }),
    onEveryNode(
      context,
      "datapath",
      (client) => client.call("/v1/maps/ct", { method: "GET", response: MapDump }),
    ),
  ]);
  const answers = answersOf(context, held).map(({ value }) => value);
  // Who may not ask the datapath still sees what flows say.
  const rows = tracked.flatMap((answer): TrackedRow[] =>
    "value" in answer ? answer.value.rows.map(({ fields }) => ({ ...fields, node: answer.target.node })) : []
  );
  const silent = tracked.filter((answer) => "error" in answer).map(({ target }) => target.node);
  const secondsOf = (time: { seconds?: number; nanos?: number } | undefined, otherwise: number) =>
    time === undefined ? otherwise : (time.seconds ?? 0) + (time.nanos ?? 0) / 1e9;
  const from = secondsOf(since, -Infinity), to = secondsOf(until, Infinity);
  const items = connectionsOf(answers.flatMap(({ flows }) => flows), rows)
    .filter((found) => flowsOf(found).some(passes))
    .map(({ connection }) => connection)
    .filter(({ startUnixS, endUnixS }) =>
      startUnixS === 0 ? until === undefined : endUnixS >= from && startUnixS <= to
    )
    .sort((a, b) => b.endUnixS - a.endUnixS || b.startUnixS - a.startUnixS);
  return { items, more: 0, completeness: completenessOf(answers, silent) };
}

/** The flows of a connection; of one that conntrack alone knows, a flow that says as much as is known. */
function flowsOf({ connection, flows }: Found): readonly Flow[] {
  if (flows.length > 0) return flows;
  const ports = { source_port: connection.sourcePort, destination_port: connection.destinationPort };
  const isV6 = connection.sourceIp.includes(":");
  return [Flow.create({
    source: connection.source,
    destination: connection.destination,
    IP: {
      source: connection.sourceIp,
      destination: connection.destinationIp,
      ipVersion: isV6 ? "IPv6" : "IPv4",
    },
    l4: connection.protocol === "TCP"
      ? { TCP: ports }
      : connection.protocol === "UDP"
      ? { UDP: ports }
      : connection.protocol === "SCTP"
      ? { SCTP: ports }
      : undefined,
    verdict: "FORWARDED",
    destination_service: connection.destinationService,
    node_name: connection.nodes[0] ?? "",
    is_reply: { value: false },
  })];
}

/** How much of what the nodes saw is in their memory still. */
function completenessOf(
  answers: readonly { readonly flows: readonly Flow[]; readonly seen: number }[],
  silent: readonly string[],
): Completeness {
  const stored = answers.reduce((sum, { flows }) => sum + flows.length, 0);
  const seen = Math.max(stored, answers.reduce((sum, one) => sum + one.seen, 0));
  const oldest = answers.flatMap(({ flows }) => flows.slice(0, 1)).map(({ time }) => time?.seconds ?? 0);
  const since = oldest.length === 0 ? 0 : Math.min(...oldest);
  const share = seen === 0 ? 1 : stored / seen;
  const back = stored < seen
    ? `, back to ${timeText({ seconds: since, nanos: 0 })}: older ones with --since`
    : "";
  const untracked = silent.length > 0 ? `; conntrack of ${silent.join(", ")} does not answer` : "";
  return Completeness.create({
    sinceUnixS: since,
    seen,
    stored,
    storedShare: share,
    countedShare: share,
    text: `${stored} of ${seen} flows are in memory (${percent(share)})${back}${untracked}`,
  });
}

/** "100 %" only where it is all. */
function percent(share: number): string {
  return share === 1 ? "100 %" : `${Math.min(99.9, Math.floor(share * 1000) / 10)} %`;
}
