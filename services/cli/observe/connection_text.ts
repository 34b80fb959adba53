/**
 * Connections and groups of them as tables and as JSON; below each what share of what happened it shows.
 *
 * @module
 */
import type { Completeness, Connection, Rollup } from "@weir/proto/history";
import {
  Completeness as CompletenessMessage,
  Connection as ConnectionMessage,
  Rollup as RollupMessage,
} from "@weir/proto/history";
import { harmless } from "../harmless_text.ts";
import { type Column, type OutputForm, render } from "../output.ts";
import { endText, policyText } from "./flow_words.ts";
import { timeText } from "./time_text.ts";

/** Something that is shown, and how much of what happened it is made of. */
export interface View<T> {
  readonly items: readonly T[];
  /** Groups or connections that are not shown, as far as they are known. */
  readonly more: number;
  readonly completeness: Completeness;
}

function at(unixS: number): string {
  if (unixS === 0) return "";
  const seconds = Math.floor(unixS);
  return timeText({ seconds, nanos: Math.round((unixS - seconds) * 1000) * 1e6 });
}

function end(connection: Connection, which: "source" | "destination"): string {
  const isSource = which === "source";
  const text = endText({
    endpoint: connection[which],
    service: undefined,
    names: isSource ? [] : connection.destinationNames,
    ip: isSource ? connection.sourceIp : connection.destinationIp,
  });
  const port = isSource ? connection.sourcePort : connection.destinationPort;
  const service = connection.destinationService?.name;
  const through = !isSource && service ? ` (service ${service})` : "";
  return `${text.includes(":") ? `[${text}]` : text}${port === 0 ? "" : `:${port}`}${through}`;
}

/** "2.5s", "3m12s". */
export function lengthText(seconds: number): string {
  if (!(seconds >= 0)) return "";
  if (seconds < 60) return `${Math.round(seconds * 10) / 10}s`;
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600);
  return hours > 0
    ? `${hours}h${Math.floor((whole % 3600) / 60)}m`
    : `${Math.floor(whole / 60)}m${whole % 60}s`;
}

/** "1.5 MB". */
export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0, value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function verdict(connection: Connection): string {
  const denied = connection.policies.filter(({ allowed }) => !allowed);
  const by = (denied.length > 0 ? denied : connection.policies).flatMap(({ policy }) =>
    policy ? [policy] : []
  );
  const why = connection.verdict === "DROPPED" && by.length === 0 ? ` ${connection.dropReason}` : "";
  // No rule refused it: policies select the workload, and none of their rules allows it.
  const words = denied.length > 0 && connection.dropReason === "POLICY_DENIED" ? "BY default deny of" : "BY";
  return `${connection.verdict}${why}${by.length > 0 ? ` ${words} ${policyText(by)}` : ""}`;
}

const CONNECTION_COLUMNS: Column<Connection>[] = [
  {
    title: "START",
    cell: ({ startUnixS, startKnown }) =>
      `${startKnown || startUnixS === 0 ? "" : "before "}${at(startUnixS)}`,
  },
  {
    title: "LENGTH",
    cell: ({ startUnixS, endUnixS }) => startUnixS === 0 ? "" : lengthText(endUnixS - startUnixS),
  },
  {
    title: "STATE",
    cell: ({ state, trouble }) => trouble === "" || trouble === "no-answer" ? state : `${state} ${trouble}`,
  },
  { title: "SOURCE", cell: (one) => end(one, "source") },
  { title: "DESTINATION", cell: (one) => end(one, "destination") },
  { title: "PROTOCOL", cell: ({ protocol }) => protocol },
  { title: "FLOWS", cell: ({ flows, replyFlows }) => `${flows}/${replyFlows}` },
  { title: "PACKETS", cell: (one) => one.trafficKnown ? `${one.packets}/${one.replyPackets}` : "" },
  {
    title: "BYTES",
    cell: (one) => one.trafficKnown ? `${bytesText(one.bytes)}/${bytesText(one.replyBytes)}` : "",
  },
  { title: "VERDICT", cell: verdict },
  { title: "NODES", cell: ({ nodes }) => nodes.join(" "), wide: true },
  { title: "ID", cell: ({ id }) => id, wide: true },
];

/** Below a table: its completeness, what was counted, and how many rows there are beyond it. */
function foot({ more, completeness }: View<unknown>, what: string): string {
  const lost = completeness.losses.map(({ source, node, lost }) =>
    `; ${lost} events lost${node === "" ? "" : ` of ${node}`} (${source})`
  ).join("");
  const gaps = completeness.gaps.slice(0, 3).map(({ node, sinceUnixS, untilUnixS }) =>
    `; ${node === "" ? "nothing" : `nothing of ${node}`} is known from ${at(sinceUnixS)} ${
      untilUnixS === 0 ? "on" : `to ${at(untilUnixS)}`
    }`
  ).join("");
  const others = more > 0 ? `; ${more} ${what} more (--limit)` : "";
  return `${harmless(completeness.text + lost + gaps)}${others}\n`;
}

/** Connections as text; both directions have their own number: there/back. */
export function connectionsText(view: View<Connection>, form: OutputForm): string {
  if (form === "json" || form === "yaml") {
    return render([], [], form, {
      connections: view.items.map((one) => ConnectionMessage.toJson(one)),
      more: view.more,
      completeness: CompletenessMessage.toJson(view.completeness),
    });
  }
  const isCounted = view.items.some(({ trafficKnown }) => trafficKnown);
  const columns = CONNECTION_COLUMNS.filter(({ title }) =>
    isCounted || (title !== "PACKETS" && title !== "BYTES")
  );
  return (view.items.length === 0 ? "" : render(view.items, columns, form)) + foot(view, "connections");
}

/** Groups as text. `without`: columns that say nothing here. */
export function groupsText(
  view: View<Rollup>,
  names: readonly string[],
  form: OutputForm,
  { without = [] }: { without?: readonly string[] } = {},
): string {
  if (form === "json" || form === "yaml") {
    return render([], [], form, {
      groups: view.items.map((one) => RollupMessage.toJson(one)),
      more: view.more,
      completeness: CompletenessMessage.toJson(view.completeness),
    });
  }
  const isCounted = view.items.some(({ trafficKnown }) => trafficKnown);
  const columns: Column<Rollup>[] = [
    ...names.map((name): Column<Rollup> => ({
      title: name.toUpperCase().replace(".", " "),
      cell: ({ keys }) => keys[name] ?? "",
    })),
    { title: "FLOWS", cell: ({ flows }) => flows },
    { title: "CONNECTIONS", cell: ({ connections }) => connections },
    { title: "DROPPED", cell: ({ dropped }) => dropped },
    { title: "AUDITED", cell: ({ audited }) => audited, wide: true },
    { title: "IN TROUBLE", cell: ({ troubles }) => troubles, wide: true },
    ...(isCounted
      ? [
        { title: "PACKETS", cell: (one: Rollup) => one.trafficKnown ? one.packets : "" },
        { title: "BYTES", cell: (one: Rollup) => one.trafficKnown ? bytesText(one.bytes) : "" },
      ]
      : []),
    { title: "FIRST", cell: ({ firstUnixS }) => at(firstUnixS) },
    { title: "LAST", cell: ({ lastUnixS }) => at(lastUnixS) },
  ];
  const shown = columns.filter(({ title }) => !without.includes(title));
  return (view.items.length === 0 ? "" : render(view.items, shown, form)) + foot(view, "groups");
}
