/**
 * `weir observe`: flows of every node that is meant, merged by time; what else happened on the nodes; connections.
 *
 * @module
 */
import { GetFlowsResponse } from "@weir/proto/observer";
import { answersOf, onEveryNode } from "../clients.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { currentScreen } from "../output.ts";
import { didYouMean } from "../suggestion.ts";
import { FlowPrinter } from "./flow_printer.ts";
import { followNodes } from "./follow.ts";
import {
  FLOWS_DEFAULT,
  OBSERVE_HINT,
  type ObserveRequest,
  readObserveArgs,
  ROWS_DEFAULT,
} from "./request.ts";

const VERBS = ["flows", "connections", "agent-events", "debug-events"];

/** Runs `weir observe`. */
export async function observeCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === undefined || verb.startsWith("-")) return await observeFlows(args, context);
  if (verb === "flows") return await observeFlows(rest, context);
  if (verb === "connections") {
    const { connectionsCommand } = await import("./connections.ts");
    return await connectionsCommand(rest, context);
  }
  if (verb === "agent-events" || verb === "debug-events") {
    const { eventsCommand } = await import("./agent_events.ts");
    return await eventsCommand(verb, rest, context);
  }
  throw new UsageError(
    `Cannot take ${JSON.stringify(verb)}${didYouMean(verb, VERBS)}: expected a flag, or ${VERBS.join(", ")}`,
    OBSERVE_HINT,
  );
}

async function observeFlows(args: string[], context: CommandContext): Promise<number> {
  const request = readObserveArgs(args);
  if (request.printRawFilters) {
    const { rawFiltersText } = await import("./raw_filters.ts");
    context.io.out(await rawFiltersText(request.query));
    return 0;
  }
  if (request.groupBy.length > 0) return await observeGroups(request, context);
  if (request.inputFile !== "") return await observeFile(request, context);
  if (context.flags.server !== undefined || request.server.isTls) {
    const { observerFlows, observerServer } = await import("./observer_client.ts");
    const server = observerServer(context.flags.server, request.server);
    if (server !== undefined) {
      const { follow } = request, { interrupted: signal } = context.io;
      return await printAnswers(observerFlows(server, request.query, { follow, signal }), request, context);
    }
  }
  const nodes = context.nodes();
  const printer = printerOf(request, request.printNode ?? nodes.length > 1);
  if (request.follow) return await follow(context, request, printer);
  if (request.query.since !== undefined || request.query.until !== undefined) {
    const { observeHistory } = await import("./flow_history.ts");
    if (await observeHistory(request, printer, context)) return 0;
  }
  const answers = answersOf(
    context,
    await onEveryNode(context, "flow-exporter", async (client) => {
      const all: GetFlowsResponse[] = [];
      const query = { ...request.query, watch: false };
      for await (const answer of client.stream("/v1/flows", GetFlowsResponse, { query })) all.push(answer);
      return all;
    }),
    request,
  ).flatMap((a) => a.value);
  answers.sort((a, b) =>
    (a.time?.seconds ?? 0) - (b.time?.seconds ?? 0) || (a.time?.nanos ?? 0) - (b.time?.nanos ?? 0)
  );
  for (const answer of limit(answers, request.query)) context.io.out(printer.text(answer));
  context.io.out(printer.end());
  return 0;
}

function printerOf(request: ObserveRequest, node: boolean): FlowPrinter {
  const { form, why, names, timeFormat, color } = request;
  return new FlowPrinter({
    form,
    why,
    names,
    timeFormat,
    node,
    colours: color === "always" || (color === "auto" && currentScreen().colours),
    bareJson: form === "json" && (Deno.env.get("HUBBLE_COMPAT") ?? "").includes("legacy-json-output"),
  });
}

async function observeGroups(request: ObserveRequest, context: CommandContext): Promise<number> {
  const { showConnections } = await import("./connections.ts");
  const { "field-mask": _, all, first, last, ...query } = request.query;
  if ((first ?? last ?? all) !== undefined || request.inputFile !== "") {
    throw new UsageError("--group-by adds up all flows of a time: say --since and --until", OBSERVE_HINT);
  }
  const isJson = request.form === "json" || request.form === "jsonpb";
  return await showConnections({
    query,
    groupBy: request.groupBy,
    limit: ROWS_DEFAULT,
    form: isJson ? "json" : "table",
  }, context);
}

async function observeFile(request: ObserveRequest, context: CommandContext): Promise<number> {
  const { answerLines, linesOf, openInput } = await import("./input_file.ts");
  const warn = (text: string) => {
    if (!request.silent) context.io.err(`weir: ${text}\n`);
  };
  const lines = linesOf(await openInput(request.inputFile));
  return await printAnswers(answerLines(lines, request.query, warn), request, context);
}

/** Prints answers as they come, with what they say of nodes. */
async function printAnswers(
  answers: AsyncIterable<GetFlowsResponse>,
  request: ObserveRequest,
  context: CommandContext,
): Promise<number> {
  const printer = printerOf(request, request.printNode ?? false);
  for await (const answer of answers) {
    const warning = request.silent ? "" : printer.warning(answer);
    if (warning !== "") context.io.err(warning);
    context.io.out(printer.text(answer));
  }
  context.io.out(printer.end());
  return 0;
}

/** Each node gave as many as were asked for; all together there are no more than that. */
function limit(answers: GetFlowsResponse[], query: Record<string, string[]>): GetFlowsResponse[] {
  if (query.first) return answers.slice(0, Number(query.first[0]));
  if (query.last && Number(query.last[0]) > 0) {
    return query.since ? answers.slice(0, Number(query.last[0])) : answers.slice(-Number(query.last[0]));
  }
  return query.all || query.since || query.until ? answers : answers.slice(-FLOWS_DEFAULT);
}

async function follow(
  context: CommandContext,
  { query, silent }: ObserveRequest,
  printer: FlowPrinter,
): Promise<number> {
  return await followNodes(context, async (client, signal) => {
    for await (const answer of client.stream("/v1/flows", GetFlowsResponse, { query, signal })) {
      context.io.out(printer.text(answer));
    }
  }, { silent });
}
