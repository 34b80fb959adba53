/**
 * `weir top troubles`: whose flows fail although policy allows them.
 *
 * @module
 */
import { type EndpointTroubles, Usage } from "@weir/proto/datapath";
import { answersOf, onEveryNode } from "./clients.ts";
import type { CommandContext } from "./context.ts";
import { type Column, type outputForm, render } from "./output.ts";

/** Whose troubles were counted on a node. */
interface Answer {
  node: string;
  troubles: readonly EndpointTroubles[];
}

/** Asks every node. */
export async function askTroubles(context: CommandContext): Promise<Answer[]> {
  const usages = await onEveryNode(
    context,
    "datapath",
    (client) => client.call("/v1/usage", { method: "GET", response: Usage }),
  );
  return answersOf(context, usages).map(({ target, value }) => ({
    node: target.node,
    troubles: value.troubles,
  }));
}

/** The troubles of some nodes as text; at most `limit` rows of each node. */
export function showTroubles(
  answers: readonly Answer[],
  form: ReturnType<typeof outputForm>,
  limit: number,
): string {
  const rows = answers.flatMap(({ node, troubles }) =>
    troubles.slice(0, limit).map((row) => ({ ...row, node }))
  );
  const columns: Column<typeof rows[number]>[] = [
    { title: "NODE", cell: (row) => row.node },
    { title: "ENDPOINT", cell: (row) => row.endpoint || "node" },
    { title: "FLOWS", cell: (row) => row.side === "towards" ? "to it" : "opened by it" },
    { title: "NO ANSWER", cell: (row) => row.noAnswer },
    { title: "REFUSED", cell: (row) => row.refused },
    { title: "UNREACHABLE", cell: (row) => row.unreachable },
    { title: "TOO BIG", cell: (row) => row.tooBig },
    { title: "UNCONFIRMED", cell: (row) => row.unconfirmed },
    { title: "RETRANSMITTED", cell: (row) => row.side === "towards" ? "" : row.retransmitted },
  ];
  const whole = answers.map(({ node, troubles }) => ({ node, troubles: troubles.slice(0, limit) }));
  const out = render(rows, columns, form, whole);
  if (form === "json" || form === "yaml") return out;
  return rows.length > 0
    ? out
    : "No flow is in trouble: all that policy allowed since the endpoints are there got answers\n";
}
