/**
 * `weir top talkers` and `weir top drops`: who talks most, who is dropped most and why; now, or in a window of history.
 *
 * @module
 */
import type { Rollup } from "@weir/proto/history";
import { noWords, parse, text, texts } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { groupsText } from "./observe/connection_text.ts";
import { liveConnections, MEMORY_ALONE } from "./observe/connections.ts";
import { checkGroups, groupColumns, groupConnections } from "./observe/groups.ts";
import { askHistory, GROUPS_ASKED_MAX, historyGroups, ofNode } from "./observe/history.ts";
import { outputForm } from "./output.ts";

const HINT = "weir help top";
/** What is shown, by what, and which comes first. */
export const FLOW_TABLES: Readonly<
  Record<string, {
    readonly by: readonly string[];
    readonly query: Readonly<Record<string, readonly string[]>>;
    readonly size: (group: Rollup) => number;
  }>
> = {
  talkers: {
    by: ["workload", "port"],
    query: {},
    size: ({ bytes, flows }) => bytes || flows,
  },
  drops: {
    by: ["workload", "port", "reason", "policy"],
    query: { verdict: ["DROPPED"] },
    size: ({ dropped }) => dropped,
  },
};

/** The groups in their order, without those in which nothing of the kind happened. Pure. */
export function ranked(name: string, groups: readonly Rollup[]): Rollup[] {
  const { size } = FLOW_TABLES[name];
  return groups.filter((group) => size(group) > 0).sort((a, b) =>
    size(b) - size(a) || b.connections - a.connections || b.lastUnixS - a.lastUnixS
  );
}

/** Runs `weir top talkers` or `weir top drops`. */
export async function topFlows(name: string, args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    since: { type: "string" },
    until: { type: "string" },
    namespace: { type: "string", short: "n" },
    "group-by": { type: "string", multiple: true },
    limit: { type: "string" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const limitText = text(parsed, "limit"), limit = limitText === undefined ? 20 : Number(limitText);
  if (!(limit >= 1) || !Number.isInteger(limit)) {
    throw new UsageError(`--limit is "${limitText}": expected a number of rows`, HINT);
  }
  const table = FLOW_TABLES[name], given = texts(parsed, "group-by");
  const by = given.length > 0 ? checkGroups(given, HINT) : table.by;
  const window = ["since", "until"].flatMap((key) => {
    const value = text(parsed, key);
    return value === undefined ? [] : [[key, [value]] as const];
  });
  const namespace = text(parsed, "namespace");
  const query = {
    ...table.query,
    ...Object.fromEntries(window),
    ...(namespace === undefined ? {} : { namespace: [namespace] }),
  };
  const view = await groupsOf(context, query, by, window.length > 0);
  const groups = ranked(name, view.items);
  const shown = {
    ...view,
    items: groups.slice(0, limit),
    more: view.more + Math.max(0, groups.length - limit),
  };
  if (groups.length === 0 && form === "table") {
    context.io.out(name === "drops" ? "Nothing was dropped: " : "Nobody talked: ");
  }
  // A connection's first flow may be an allowed one: those of drops would be counted elsewhere.
  const without = name === "drops" ? ["CONNECTIONS"] : [];
  context.io.out(groupsText(shown, groupColumns(by), form, { without }));
  return 0;
}

async function groupsOf(
  context: CommandContext,
  query: Readonly<Record<string, readonly string[]>>,
  by: readonly string[],
  isPast: boolean,
) {
  if (isPast) {
    const asked = ofNode(context, query);
    const view = await askHistory(
      context,
      (client) => historyGroups(client, asked, { by, limit: GROUPS_ASKED_MAX }),
    );
    if (view !== undefined) return view;
    context.io.err(MEMORY_ALONE);
  }
  const { items, completeness } = await liveConnections(context, query);
  return { items: groupConnections(items, by), more: 0, completeness };
}
