/**
 * `weir top TABLE`: who holds how much of what traffic fills, who talks most, who is dropped most.
 *
 * @module
 */
import { type TableHolder, type TableUsage, Usage } from "@weir/proto/datapath";
import { noWords, parse, text } from "./args.ts";
import { answersOf, onEveryNode } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { type Column, outputForm, render } from "./output.ts";
import { didYouMean } from "./suggestion.ts";
import { askTroubles, showTroubles } from "./top_troubles.ts";

const HINT = "weir help top";
/** What can be looked at, and what its holders hold. */
export const TOP_TABLES: Readonly<Record<string, { held: string; refused: string }>> = {
  conntrack: { held: "flows", refused: "new flows refused" },
  nat: { held: "entries", refused: "new flows refused" },
  handles: { held: "connections", refused: "new ones refused" },
  events: { held: "events made", refused: "lost" },
  ipcache: { held: "prefixes", refused: "left out" },
};

/** "12 flows". */
export function heldText(table: string, held: number): string {
  return `${held} ${TOP_TABLES[table]?.held ?? "held"}`;
}
/** "7 new flows refused". */
export function refusedText(table: string, refused: number): string {
  return `${refused} ${TOP_TABLES[table]?.refused ?? "refused"}`;
}

interface Row extends TableHolder {
  node: string;
  share: number;
}

/** Runs the command. */
export async function topCommand(args: string[], context: CommandContext): Promise<number> {
  const [name, ...rest] = args;
  const tables = ["talkers", "drops", ...Object.keys(TOP_TABLES), "troubles"].join(", ");
  if (name === undefined) throw new UsageError(`Say which table: ${tables}`, HINT);
  if (name === "talkers" || name === "drops") {
    const { topFlows } = await import("./top_flows.ts");
    return await topFlows(name, rest, context);
  }
  if (name !== "troubles" && !Object.hasOwn(TOP_TABLES, name)) {
    throw new UsageError(
      `Unknown table "${name}"${didYouMean(name, tables.split(", "))}: expected ${tables}`,
      HINT,
    );
  }
  const parsed = parse(rest, { output: { type: "string", short: "o" }, limit: { type: "string" } }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const limitText = text(parsed, "limit"), limit = limitText === undefined ? 20 : Number(limitText);
  if (!(limit > 0)) throw new UsageError(`--limit is "${limitText}": expected a number of rows`, HINT);
  if (name === "troubles") {
    context.io.out(showTroubles(await askTroubles(context), form, limit));
    return 0;
  }
  const answers = answersOf(
    context,
    await onEveryNode(
      context,
      "datapath",
      (client) => client.call("/v1/usage", { method: "GET", response: Usage }),
    ),
  ).map(({ target, value }) => ({
    node: target.node,
    usage: value.tables.find(({ table }) => table === name),
  })).filter((answer): answer is { node: string; usage: TableUsage } => answer.usage !== undefined);
  context.io.out(showTop(name, answers, form, limit));
  return 0;
}

/** The usage of one table on some nodes as text; at most `limit` holders of each node. */
export function showTop(
  name: string,
  answers: readonly { node: string; usage: TableUsage }[],
  form: ReturnType<typeof outputForm>,
  limit: number,
): string {
  const whole = answers.map(({ node, usage }) => ({
    node,
    table: usage.table,
    entries: usage.entries,
    entriesMax: usage.entriesMax,
    holders: usage.holders.slice(0, limit),
  }));
  const rows = answers.flatMap(({ node, usage }) => {
    const all = usage.holders.reduce((sum, { held }) => sum + held, 0);
    return usage.holders.slice(0, limit).map((holder): Row => ({
      ...holder,
      node,
      // Events come and go: of them it is the part of all that were made.
      share: holder.held / Math.max(1, name === "events" ? all : usage.entriesMax),
    }));
  });
  const { held, refused } = TOP_TABLES[name];
  const columns: Column<Row>[] = [
    { title: "NODE", cell: (row) => row.node },
    { title: "HOLDER", cell: (row) => row.holder },
    { title: "TOWARDS", cell: (row) => row.towards },
    { title: held.toUpperCase(), cell: (row) => row.held },
    { title: "SHARE", cell: (row) => `${(100 * row.share).toFixed(1)} %` },
    { title: refused.toUpperCase(), cell: (row) => row.refused },
    { title: "STATE", cell: (row) => row.pressing ? "over its share" : "" },
  ];
  const shown = name === "ipcache" ? columns.filter(({ title }) => title !== "TOWARDS") : columns;
  const out = render(rows, shown, form, whole);
  if (form === "json" || form === "yaml") return out;
  const unit = name === "events" ? "bytes wait in a ring of" : "of";
  return out + answers.map(({ node, usage }) => {
    const more = usage.holders.length - limit;
    return `${node}: ${usage.entries} ${unit} ${usage.entriesMax}${name === "events" ? "" : ` ${held}`}${
      more > 0 ? `; ${more} holders more (--limit)` : ""
    }\n`;
  }).join("");
}
