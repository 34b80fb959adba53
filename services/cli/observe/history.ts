/**
 * What the flow history says: flows, connections and sums of a time that the nodes' memory does not hold any more.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { type Completeness, ConnectionPage, FlowPage, RollupAnswer } from "@weir/proto/history";
import type { Connection, Rollup } from "@weir/proto/history";
import type { Flow } from "@weir/proto/flow";
import { clientOf, isUnreachable } from "../clients.ts";
import type { CommandContext } from "../context.ts";
import type { View } from "./connection_text.ts";

/** Items of one page. */
const PAGE_MAX = 1000;
/** Most groups that the history gives at once. */
export const GROUPS_ASKED_MAX = 10_000;
const DEADLINE_MS = 30_000;

type Query = Readonly<Record<string, readonly string[]>>;

/** The history knows the whole cluster: `--node` means what that node saw. */
export function ofNode({ flags }: CommandContext, query: Query): Query {
  return flags.node === undefined || query["node-name"] !== undefined
    ? query
    : { ...query, "node-name": [flags.node] };
}

/** Asks the history. Undefined where none runs. */
export async function askHistory<T>(
  context: CommandContext,
  ask: (client: WeirClient) => Promise<T>,
): Promise<T | undefined> {
  const client = clientOf(context, "flow-history");
  try {
    return await ask(client);
  } catch (error) {
    if (isUnreachable(error)) return undefined;
    throw error;
  } finally {
    client.close();
  }
}

/** Calls with one batch of flows after the other, oldest first; answers how much of what happened they are. */
export async function historyFlows(
  client: WeirClient,
  query: Query,
  { number, newest, signal }: { number: number; newest: boolean; signal: AbortSignal },
  take: (flows: readonly Flow[]) => void,
): Promise<Completeness | undefined> {
  let after = "", left = number, completeness: Completeness | undefined;
  const held: Flow[] = [];
  while (left > 0 && !signal.aborted) {
    const count = `${Math.min(left, PAGE_MAX)}`;
    const page = await client.call("/v1/flows", {
      method: "GET",
      response: FlowPage,
      query: { ...query, ...(newest ? { last: [count] } : { first: [count] }), after: [after] },
      deadlineMs: DEADLINE_MS,
      signal,
    });
    // The first page's: the window ended when it was asked about.
    completeness ??= page.completeness;
    left -= page.flows.length;
    if (newest) held.push(...page.flows);
    else take(page.flows);
    if (page.next === "") break;
    after = page.next;
  }
  if (newest) take(held.reverse());
  return completeness;
}

/** Connections of the history, newest first. */
export async function historyConnections(
  client: WeirClient,
  query: Query,
  limit: number,
): Promise<View<Connection>> {
  let after = "", completeness: Completeness | undefined, isMore = false;
  const items: Connection[] = [];
  do {
    const page = await client.call("/v1/connections", {
      method: "GET",
      response: ConnectionPage,
      query: { ...query, limit: [`${Math.min(limit + 1 - items.length, PAGE_MAX)}`], after: [after] },
      deadlineMs: DEADLINE_MS,
    });
    completeness ??= page.completeness;
    items.push(...page.connections);
    after = page.next;
    isMore = items.length > limit;
  } while (after !== "" && !isMore);
  const shown = items.slice(0, limit);
  const text = `${completeness!.text}${isMore ? "; older connections are not shown (--limit)" : ""}`;
  return { items: shown, more: 0, completeness: { ...completeness!, text } };
}

/** Sums of the history by group, most dropped first. */
export async function historyGroups(
  client: WeirClient,
  query: Query,
  { by, limit }: { by: readonly string[]; limit: number },
): Promise<View<Rollup>> {
  const answer = await client.call("/v1/rollups", {
    method: "GET",
    response: RollupAnswer,
    query: { ...query, by: [...by], limit: [`${limit}`] },
    deadlineMs: DEADLINE_MS,
  });
  const completeness = answer.completeness!;
  const folded = answer.folded > 0 ? `; ${answer.folded} flows are counted with ends "other"` : "";
  return {
    items: answer.rollups,
    more: Math.max(0, answer.groups - answer.rollups.length),
    completeness: { ...completeness, text: completeness.text + folded },
  };
}
