/**
 * `weir observe`: flows of every node that is meant, merged by time. `weir monitor`: the datapath's raw events.
 * The filters are the flow exporter's query parameters; it alone knows what they mean.
 *
 * @module
 */
import { MapRow } from "@weir/proto/datapath";
import { GetFlowsResponse } from "@weir/proto/observer";
import { noWords, parse, texts } from "./args.ts";
import { answersOf, clientOf, onEveryNode } from "./clients.ts";
import { type CommandContext, type NodeTarget, UsageError } from "./context.ts";
import { isWrongUsage } from "./errors.ts";
import { type FlowForm, flowTable, flowText } from "./flow_text.ts";
import { transportText } from "./transport_text.ts";

const HINT = "weir help observe";
const FORMS: readonly string[] = ["compact", "dict", "json", "jsonpb", "table"];
const SHORT: Record<string, string> = {
  n: "namespace",
  l: "label",
  t: "type",
  f: "follow",
  o: "output",
  4: "ipv4",
  6: "ipv6",
  A: "all-namespaces",
};
const SWITCHES = new Set(["follow", "all", "print-node-name"]);
/** Flags without a value that are filters, and the parameter that each is. */
const FILTER_SWITCHES: Readonly<Record<string, readonly [name: string, value: string]>> = {
  ipv4: ["ip-version", "4"],
  ipv6: ["ip-version", "6"],
  "all-namespaces": ["namespace", ""],
  encrypted: ["encrypted", "true"],
  unencrypted: ["encrypted", "false"],
};
const FLOWS_DEFAULT = 20;

/** What the arguments ask for. */
export interface ObserveRequest {
  /** Query parameters of the flow exporter, without follow. */
  query: Record<string, string[]>;
  follow: boolean;
  form: FlowForm;
  printNode: boolean | undefined;
}

/** Reads the flags. `--not` turns the next filter round. @throws {UsageError} */
export function readObserveArgs(args: readonly string[]): ObserveRequest {
  const request: ObserveRequest = { query: {}, follow: false, form: "compact", printNode: undefined };
  let not = false;
  for (let i = 0; i < args.length; i++) {
    const match = /^--?([A-Za-z0-9][-a-z0-9]*)(?:=([\s\S]*))?$/.exec(args[i]);
    if (!match) throw new UsageError(`Cannot take ${JSON.stringify(args[i])}: expected a flag`, HINT);
    const name = SHORT[match[1]] ?? match[1];
    if (name === "not") {
      if (not) throw new UsageError("--not stands before one filter, not before another --not", HINT);
      not = true;
      continue;
    }
    if (SWITCHES.has(name)) {
      if (name === "follow") request.follow = true;
      else if (name === "all") request.query.all = ["true"];
      else request.printNode = true;
      continue;
    }
    const filter = FILTER_SWITCHES[name];
    if (filter !== undefined) {
      (request.query[not ? `not-${filter[0]}` : filter[0]] ??= []).push(filter[1]);
      not = false;
      continue;
    }
    const value = match[2] ?? args[++i];
    if (value === undefined) throw new UsageError(`--${name} needs a value`, HINT);
    if (name === "output") {
      if (!FORMS.includes(value)) {
        throw new UsageError(`Unknown output form "${value}": expected ${FORMS.join(", ")}`, HINT);
      }
      request.form = value as FlowForm;
      continue;
    }
    (request.query[not ? `not-${name}` : name] ??= []).push(value);
    not = false;
  }
  if (not) throw new UsageError("--not stands before a filter, and none follows", HINT);
  if (request.follow && request.form === "table") {
    throw new UsageError("-o table cannot follow: take compact", HINT);
  }
  return request;
}

/** Runs `weir observe`. */
export async function observeCommand(args: string[], context: CommandContext): Promise<number> {
  const request = readObserveArgs(args);
  const nodes = context.nodes();
  const node = request.printNode ?? nodes.length > 1;
  if (request.follow) return await follow(context, request, node);
  const answers = answersOf(
    context,
    await onEveryNode(context, "flow-exporter", async (client) => {
      const all: GetFlowsResponse[] = [];
      for await (
        const answer of client.stream("/v1/flows", GetFlowsResponse, {
          query: { ...request.query, watch: false },
        })
      ) {
        all.push(answer);
      }
      return all;
    }),
  ).flatMap((a) => a.value);
  answers.sort((a, b) =>
    (a.time?.seconds ?? 0) - (b.time?.seconds ?? 0) || (a.time?.nanos ?? 0) - (b.time?.nanos ?? 0)
  );
  const wanted = limit(answers, request.query);
  if (request.form === "table") context.io.out(flowTable(wanted));
  else for (const answer of wanted) context.io.out(flowText(answer, request.form, { node }));
  return 0;
}

/** Each node gave as many as were asked for; all together there are no more than that. */
function limit(answers: GetFlowsResponse[], query: Record<string, string[]>): GetFlowsResponse[] {
  if (query.first) return answers.slice(0, Number(query.first[0]));
  if (query.last) {
    return query.since ? answers.slice(0, Number(query.last[0])) : answers.slice(-Number(query.last[0]));
  }
  return query.all || query.since || query.until ? answers : answers.slice(-FLOWS_DEFAULT);
}

async function follow(context: CommandContext, request: ObserveRequest, node: boolean): Promise<number> {
  const form = request.form as Exclude<FlowForm, "table">;
  return await followNodes(context, async (client, signal) => {
    for await (
      const answer of client.stream("/v1/flows", GetFlowsResponse, { query: request.query, signal })
    ) {
      context.io.out(flowText(answer, form, { node }));
    }
  });
}

/** Follows a stream of every node until the person stops it; a node that goes away is said, the others go on. */
async function followNodes(
  context: CommandContext,
  read: (client: ReturnType<typeof clientOf>, signal: AbortSignal, target: NodeTarget) => Promise<void>,
): Promise<number> {
  const signal = context.io.interrupted;
  let failed = 0;
  const targets = context.nodes();
  await Promise.all(targets.map(async (target) => {
    const client = clientOf(context, "flow-exporter", target);
    try {
      await read(client, signal, target);
    } catch (error) {
      if (signal.aborted) return;
      if (isWrongUsage(error)) throw error;
      failed++;
      context.io.err(`weir: ${target.node}: ${transportText(error) ?? (error as Error).message}\n`);
    } finally {
      client.close();
    }
  }));
  return failed === targets.length ? 1 : 0;
}

function readMonitorArgs(args: string[]): string[] {
  const parsed = parse(args, { type: { type: "string", short: "t", multiple: true } }, "weir help monitor");
  noWords(parsed, "weir help monitor");
  return texts(parsed, "type");
}

/** Runs `weir monitor`. */
export async function monitorCommand(args: string[], context: CommandContext): Promise<number> {
  const query = { type: readMonitorArgs(args) };
  const many = context.nodes().length > 1;
  return await followNodes(context, async (client, signal, target) => {
    for await (const row of client.stream("/v1/events", MapRow, { query, signal })) {
      const fields = Object.entries(row.fields).map(([k, v]) => `${k}=${v}`).join(" ");
      context.io.out(`${many ? `[${target.node}] ` : ""}${fields}\n`);
    }
  });
}
