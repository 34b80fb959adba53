/**
 * `weir observe --since`: flows out of the history.
 *
 * @module
 */
import { GetFlowsResponse } from "@weir/proto/observer";
import type { Flow } from "@weir/proto/flow";
import type { CommandContext } from "../context.ts";
import type { FlowPrinter } from "./flow_printer.ts";
import { askHistory, historyFlows, ofNode } from "./history.ts";
import type { ObserveRequest } from "./request.ts";

/** Flows that the history is asked for without a number: what it holds. */
const ALL = Number.MAX_SAFE_INTEGER;

/** Prints what the history holds of this time, oldest first. False: no history runs, and nothing was printed. */
export async function observeHistory(
  request: ObserveRequest,
  printer: FlowPrinter,
  context: CommandContext,
): Promise<boolean> {
  const { all: _, first, last, "field-mask": masks = [], ...rest } = request.query;
  const query = ofNode(context, rest);
  const isJson = request.form === "json" || request.form === "jsonpb";
  // The history sends whole flows.
  const mask = isJson && masks.length > 0
    ? (await import("@weir/flow-filter")).readResponseMask(masks.flatMap((text) => text.split(",")))
    : (response: GetFlowsResponse) => response;
  let taken = 0;
  const take = (flows: readonly Flow[]) => {
    taken += flows.length;
    for (const flow of flows) {
      const answer = GetFlowsResponse.create({ flow, node_name: flow.node_name, time: flow.time });
      context.io.out(printer.text(mask(answer)));
    }
  };
  const count = Number(first?.[0] ?? last?.[0] ?? 0) || ALL;
  // A start takes the place of the end, as with flows in memory.
  const newest = last !== undefined && query.since === undefined;
  const { interrupted: signal } = context.io;
  const done = await askHistory(context, async (client) => {
    const completeness = await historyFlows(client, query, { number: count, newest, signal }, take);
    return { completeness };
  });
  if (done === undefined) {
    if (taken > 0) throw new Error(`The flow history went away: these ${taken} flows are not all`);
    if (!request.silent) {
      context.io.err("weir: no flow history runs here: of what the nodes hold in memory alone\n");
    }
    return false;
  }
  context.io.out(printer.end());
  if (done.completeness !== undefined && !request.silent) context.io.err(`${done.completeness.text}\n`);
  return true;
}
