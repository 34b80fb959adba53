/**
 * `weir status`: health of every service on every node, what the kernel can, counts, what is in error.
 *
 * @module
 */
import { stringify } from "yaml";
import { Process } from "@weir/proto/agent";
import { DatapathStatus } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { Identity } from "@weir/proto/identity";
import { Service } from "@weir/proto/loadbalancer";
import { Policy } from "@weir/proto/policy";
import { flag, noWords, parse, text } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, type NodeTarget, type ServiceName, UsageError } from "./context.ts";
import { age, outputForm, table } from "./output.ts";
import { heldText, refusedText } from "./top.ts";

const HINT = "weir help status";
/** A service that takes longer to answer is said not to. */
const ANSWER_MS = 5000;

/** Everything that the command found out. */
interface Report {
  ready: boolean;
  nodes: NodeReport[];
  counts: {
    identities?: number;
    policies?: number;
    services?: number;
    endpoints?: number;
    endpointsReady?: number;
  };
}

interface NodeReport {
  node: string;
  ready: boolean;
  /** Why the agent does not answer. */
  error?: string;
  services: ServiceReport[];
  datapath?: DatapathStatus;
  endpointsInError: { name: string; error: string; sinceUnixS: number; attempts: number }[];
}

interface ServiceReport {
  name: string;
  state: string;
  pid: number;
  restarts: number;
  sinceUnixS: number;
  message: string;
}

/** Runs the command. */
export async function statusCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    wait: { type: "boolean" },
    timeout: { type: "string" },
    verbose: { type: "boolean", short: "v" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const timeoutS = Number(text(parsed, "timeout") ?? 60);
  if (!(timeoutS > 0)) throw new UsageError("--timeout takes seconds", HINT);
  const deadlineMs = Date.now() + timeoutS * 1000;
  let report = await gather(context);
  while (
    flag(parsed, "wait") && !report.ready && Date.now() < deadlineMs && !context.io.interrupted.aborted
  ) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    report = await gather(context);
  }
  if (form === "json") context.io.out(JSON.stringify(report, null, 2) + "\n");
  else if (form === "yaml") context.io.out(stringify(JSON.parse(JSON.stringify(report))));
  else context.io.out(show(report, flag(parsed, "verbose") || form === "wide", Date.now() / 1000));
  return report.ready ? 0 : 1;
}

/** A process that stands still is "ready" to its agent for a while. */
function noteSilence(report: NodeReport, service: string): void {
  report.ready = false;
  for (const row of report.services) {
    if (row.name === service) row.message = `does not answer within ${ANSWER_MS / 1000} s`;
  }
}

async function gather(context: CommandContext): Promise<Report> {
  const silent: [node: string, service: string][] = [];
  const nodes = await Promise.all(context.nodes().map((target) => gatherNode(context, target)));
  const endpoints = await Promise.all(
    context.nodes().map((target) =>
      ask(
        context,
        "endpoint-manager",
        target,
        (client) => client.collection("endpoints", Endpoint).list(),
        () => silent.push([target.node, "endpoint-manager"]),
      )
    ),
  );
  endpoints.forEach((answer, index) => {
    for (const { name, status } of answer?.items ?? []) {
      if (!status?.error?.error) continue;
      const { error, sinceUnixS, attempts } = status.error;
      nodes[index].endpointsInError.push({ name, error, sinceUnixS, attempts });
    }
  });
  for (const [name, service] of silent) noteSilence(nodes.find(({ node }) => node === name)!, service);
  const items = endpoints.flatMap((answer) => answer?.items ?? []);
  const [identities, policies, services] = await Promise.all([
    ask(
      context,
      "identity-allocator",
      undefined,
      (client) => client.collection("identities", Identity).list(),
    ),
    ask(context, "policy-engine", undefined, (client) => client.collection("policies", Policy).list()),
    ask(context, "load-balancer", undefined, (client) => client.collection("services", Service).list()),
  ]);
  return {
    ready: nodes.every((node) => node.ready),
    nodes,
    counts: {
      identities: identities?.items.filter((identity) => identity.number >= 256).length,
      policies: policies?.items.length,
      services: services?.items.length,
      endpoints: items.length,
      endpointsReady: items.filter((endpoint) => endpoint.status?.state === "READY").length,
    },
  };
}

async function gatherNode(context: CommandContext, target: NodeTarget): Promise<NodeReport> {
  const report: NodeReport = { node: target.node, ready: false, services: [], endpointsInError: [] };
  const agent = clientOf(context, "agent", target);
  try {
    const { items } = await agent.collection("processes", Process).list();
    report.services = items.map((process) => ({
      name: process.name,
      state: process.state,
      pid: process.pid,
      restarts: process.restarts,
      sinceUnixS: process.sinceUnixS,
      message: process.state === "ready" ? "" : process.lastError,
    }));
    report.ready = items.length > 0 && items.every((process) => process.state === "ready");
  } catch (error) {
    report.error = (error as Error).message;
  } finally {
    agent.close();
  }
  report.datapath = await ask(
    context,
    "datapath",
    target,
    (client) => client.call("/v1/status", { method: "GET", response: DatapathStatus }),
    () => noteSilence(report, "datapath"),
  );
  return report;
}

/**
 * An answer, or undefined from a service that has none to give: its state is told by its agent. A process that stands still
 * takes requests and never answers; `onSilence` hears of it.
 */
async function ask<T>(
  context: CommandContext,
  service: ServiceName,
  target: NodeTarget | undefined,
  question: (client: ReturnType<typeof clientOf>) => Promise<T>,
  onSilence: () => void = () => {},
): Promise<T | undefined> {
  const client = clientOf(context, service, target);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      onSilence();
      resolve(undefined);
    }, ANSWER_MS);
  });
  try {
    return await Promise.race([question(client).catch(() => undefined), silence]);
  } finally {
    clearTimeout(timer);
    client.close();
  }
}

function show(report: Report, verbose: boolean, nowUnixS: number): string {
  const rows = report.nodes.flatMap((node) =>
    node.error !== undefined
      ? [[node.node, "agent", "down", "-", "-", "-", node.error]]
      : node.services.map((service) => [
        node.node,
        service.name,
        service.state,
        String(service.pid || "-"),
        String(service.restarts),
        age(service.sinceUnixS, nowUnixS),
        service.message,
      ])
  );
  const parts = [table(["NODE", "SERVICE", "STATE", "PID", "RESTARTS", "SINCE", "MESSAGE"], rows)];
  const { identities, policies, services, endpoints, endpointsReady } = report.counts;
  parts.push(
    `${endpointsReady} of ${endpoints} endpoints ready, ${identities ?? "?"} identities, ${
      policies ?? "?"
    } policies, ${services ?? "?"} services`,
  );
  for (const { node, datapath, endpointsInError } of report.nodes) {
    if (datapath !== undefined) {
      const gate = datapath.gate === "structural"
        ? "structural checks only (the verifier is not in this build)"
        : datapath.gate;
      parts.push(
        `${node}: gate ${gate}; ${datapath.xdp ? `XDP ${datapath.xdp}; ` : ""}` +
          `${datapath.adopted} adopted, ${datapath.rebuilt} rebuilt, ${datapath.leftovers} leftover; ` +
          `${datapath.lostEvents} events lost${datapath.synced ? "" : "; not synced yet"}`,
      );
      for (const { table, holder, towards, held, refused } of datapath.degraded) {
        const who = towards === "" ? holder : `${holder} to ${towards}`;
        parts.push(
          `${node}: DEGRADED: ${who} fills ${table}: ${heldText(table, held)}, ${
            refusedText(table, refused)
          }`,
        );
      }
      for (const error of datapath.errors) {
        parts.push(
          `${node}: in error: ${error.kind}: ${error.error} (for ${age(error.sinceUnixS, nowUnixS)})`,
        );
      }
      if (verbose) parts.push(...details(node, datapath));
    }
    for (const { name, error, sinceUnixS, attempts } of endpointsInError) {
      parts.push(
        `${node}: endpoint ${name}: ${error} (for ${age(sinceUnixS, nowUnixS)}, ${attempts} attempts)`,
      );
    }
  }
  const degraded = report.nodes.some(({ datapath }) => (datapath?.degraded.length ?? 0) > 0);
  parts.push(
    !report.ready ? "Weir is not ready" : degraded ? "Weir is ready, and DEGRADED" : "Weir is ready",
  );
  return parts.map((part) => part.trimEnd()).join("\n") + "\n";
}

function details(node: string, datapath: DatapathStatus): string[] {
  const lines: string[] = [];
  if (datapath.features.length > 0) {
    lines.push(
      `${node}: kernel features`,
      table(
        ["  FEATURE", "ANSWER", "SINCE KERNEL"],
        datapath.features.map((feature) => [`  ${feature.name}`, feature.answer, feature.sinceKernel || "-"]),
      ),
    );
  }
  if (datapath.pressure.length > 0) {
    lines.push(
      `${node}: maps`,
      table(
        ["  MAP", "ENTRIES", "OF", "FULL"],
        datapath.pressure.map(({ map, entries, entriesMax }) => [
          `  ${map}`,
          String(entries),
          String(entriesMax),
          entriesMax === 0 ? "-" : `${Math.round(100 * entries / entriesMax)} %`,
        ]),
      ),
    );
  }
  return lines;
}
