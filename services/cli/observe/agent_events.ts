/**
 * `weir observe agent-events`: endpoints, addresses and policies that change on the nodes. `debug-events`: the datapath makes
 * none, as a node of Hubble's where nothing is debugged.
 *
 * @module
 */
import { untilAborted } from "@weir/common/deadline";
import type { AgentEvent } from "@weir/proto/flow";
import { GetAgentEventsResponse } from "@weir/proto/observer";
import { answersOf, onEveryNode } from "../clients.ts";
import type { CommandContext } from "../context.ts";
import { table } from "../output.ts";
import type { FlowForm } from "./flow_printer.ts";
import { harmless } from "../harmless_text.ts";
import { followNodes } from "./follow.ts";
import { EVENTS_OPTIONS, FLOWS_DEFAULT, readCommonArgs, serverFlags } from "./request.ts";
import { timeText } from "./time_text.ts";

interface EventPrint {
  readonly form: FlowForm;
  readonly node: boolean;
  readonly timeFormat: string;
}

/** Runs `weir observe agent-events` or `debug-events`. */
export async function eventsCommand(
  kind: "agent-events" | "debug-events",
  args: readonly string[],
  context: CommandContext,
): Promise<number> {
  const common = readCommonArgs(args, EVENTS_OPTIONS), { query, form, follow, timeFormat, isOn } = common;
  const asked = serverFlags(common);
  if (context.flags.server !== undefined || asked.isTls) {
    const { observerEvents, observerServer } = await import("./observer_client.ts");
    const server = observerServer(context.flags.server, asked);
    if (server !== undefined && kind === "agent-events") {
      const print: EventPrint = { form, timeFormat, node: isOn("print-node-name") };
      const answers: GetAgentEventsResponse[] = [];
      let printed = 0;
      const { interrupted: signal } = context.io;
      for await (const answer of observerEvents(server, query, { follow, signal })) {
        if (form === "table") answers.push(answer);
        else context.io.out(eventText(answer, print, printed++));
      }
      if (form === "table") context.io.out(eventTable(answers, print));
      return 0;
    }
  }
  const nodes = context.nodes();
  if (kind === "debug-events") return follow ? await untilInterrupted(context) : 0;
  const print: EventPrint = { form, timeFormat, node: isOn("print-node-name") || nodes.length > 1 };
  const path = "/v1/agent-events";
  if (follow) {
    return await followNodes(context, async (client, signal) => {
      for await (const answer of client.stream(path, GetAgentEventsResponse, { query, signal })) {
        context.io.out(eventText(answer, print, 0));
      }
    }, { silent: isOn("silent-errors") });
  }
  const answers = answersOf(
    context,
    await onEveryNode(context, "flow-exporter", async (client) => {
      const all: GetAgentEventsResponse[] = [];
      const wanted = { ...query, watch: false };
      for await (const answer of client.stream(path, GetAgentEventsResponse, { query: wanted })) {
        all.push(answer);
      }
      return all;
    }),
    { silent: isOn("silent-errors") },
  ).flatMap(({ value }) => value);
  answers.sort((a, b) =>
    (a.time?.seconds ?? 0) - (b.time?.seconds ?? 0) || (a.time?.nanos ?? 0) - (b.time?.nanos ?? 0)
  );
  const count = Number(query.first?.[0] ?? query.last?.[0] ?? FLOWS_DEFAULT);
  const isOpen = query.all || ((query.since || query.until) && !query.first && !query.last);
  const shown = isOpen
    ? answers
    : query.first || query.since
    ? answers.slice(0, count)
    : answers.slice(-count);
  context.io.out(
    form === "table" ? eventTable(shown, print) : shown.map((a, n) => eventText(a, print, n)).join(""),
  );
  return 0;
}

async function untilInterrupted({ io }: CommandContext): Promise<number> {
  await untilAborted(io.interrupted);
  return 0;
}

/** What happened, in one line. */
export function eventDetails(event: AgentEvent, timeFormat: string): string {
  const { agent_start, policy_update, endpoint_regenerate, endpoint_update, ipcache_update } = event;
  const labels = (list: readonly string[]) => `labels: [${list.join(",")}]`;
  const parts: (string | undefined | false)[] = agent_start
    ? [`start time: ${timeText(agent_start.time, timeFormat)}`]
    : policy_update
    ? [
      labels(policy_update.labels),
      `revision: ${policy_update.revision}`,
      `count: ${policy_update.rule_count}`,
    ]
    : endpoint_regenerate
    ? [
      `id: ${endpoint_regenerate.id}`,
      labels(endpoint_regenerate.labels),
      endpoint_regenerate.error !== "" && `error: ${endpoint_regenerate.error}`,
    ]
    : endpoint_update
    ? [
      `id: ${endpoint_update.id}`,
      endpoint_update.namespace !== "" && `namespace: ${endpoint_update.namespace}`,
      endpoint_update.pod_name !== "" && `pod name: ${endpoint_update.pod_name}`,
    ]
    : ipcache_update
    ? [
      `cidr: ${ipcache_update.cidr}`,
      `identity: ${ipcache_update.identity}`,
      ipcache_update.old_identity && `old identity: ${ipcache_update.old_identity.value}`,
      ipcache_update.host_ip !== "" && `host ip: ${ipcache_update.host_ip}`,
      ipcache_update.old_host_ip !== "" && `old host ip: ${ipcache_update.old_host_ip}`,
      `encrypt key: ${ipcache_update.encrypt_key}`,
    ]
    : ["UNKNOWN"];
  return harmless(parts.filter((part) => part).join(", "));
}

/** One event with its newline; it is the `nth` that is printed. */
export function eventText(answer: GetAgentEventsResponse, print: EventPrint, nth: number): string {
  const { agent_event: event, node_name, time } = answer, { form, node, timeFormat } = print;
  if (form === "json" || form === "jsonpb") {
    return `${JSON.stringify(GetAgentEventsResponse.toJson(answer))}\n`;
  }
  if (event === undefined) return "";
  const details = eventDetails(event, timeFormat), at = timeText(time, timeFormat);
  if (form !== "dict") return `${at}${node ? ` [${harmless(node_name)}]` : ""}: ${event.type} (${details})\n`;
  const rows: [string, string][] = [
    ["TIMESTAMP", at],
    ...(node ? [["NODE", harmless(node_name)] as [string, string]] : []),
    ["TYPE", event.type],
    ["DETAILS", details],
  ];
  const text = rows.map(([title, value]) => `${title.padStart(11)}: ${value}\n`).join("");
  return nth === 0 ? text : `------------\n${text}`;
}

function eventTable(answers: readonly GetAgentEventsResponse[], { node, timeFormat }: EventPrint): string {
  const rows = answers.filter(({ agent_event }) => agent_event !== undefined).map((answer) => [
    timeText(answer.time, timeFormat),
    ...(node ? [answer.node_name] : []),
    answer.agent_event!.type,
    eventDetails(answer.agent_event!, timeFormat),
  ]);
  return rows.length === 0
    ? ""
    : table(["TIMESTAMP", ...(node ? ["NODE"] : []), "TYPE", "DETAILS"], rows, true);
}
