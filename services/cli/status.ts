/**
 * `weir status`: what every service on every node says of itself, what is wrong, since when, and what follows from it for
 * traffic. It ends within seconds whatever hangs.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Facts, type Finding, findings, gather, type NodeReport } from "@weir/client/status";
import type { DatapathStatus } from "@weir/proto/datapath";
import { flag, noWords, parse, text } from "./args.ts";
import { statusTargets } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { KUBERNETES_OPTIONS, meansKubernetes } from "./kubernetes_options.ts";
import { age, numbered, outputForm, render, table } from "./output.ts";
import { wayLines } from "./way_text.ts";
import { heldText, refusedText } from "./top.ts";
import { nowS } from "./now.ts";

const HINT = "weir help status";
const WAIT_S_DEFAULT = 60;
const WAIT_PAUSE_MS = 250;

/** What is asked and what it means. */
interface Report extends Facts {
  /** Nothing is hung, away, partitioned, stale or in error. */
  healthy: boolean;
  findings: Finding[];
}

/** Runs the command. */
export async function statusCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    wait: { type: "boolean" },
    timeout: { type: "string" },
    ...KUBERNETES_OPTIONS,
    verbose: { type: "boolean", short: "v" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const timeoutS = Number(text(parsed, "timeout") ?? WAIT_S_DEFAULT);
  if (!(timeoutS > 0)) throw new UsageError("--timeout takes seconds", HINT);
  if (meansKubernetes(context, parsed)) {
    const { openCluster } = await import("./install/access.ts");
    const { showClusterStatus } = await import("./install/cluster_status.ts");
    using cluster = openCluster(context, HINT, parsed);
    const options = { wait: flag(parsed, "wait"), timeoutS, form };
    const code = await showClusterStatus(cluster, options, context);
    if (!flag(parsed, "verbose") || form === "json" || form === "yaml") return code;
    const { clusterContext } = await import("./cluster_context.ts");
    await using asked = await clusterContext(context, cluster);
    await asked.pods.begin(asked.nodes().map(({ node }) => node));
    const report = await look(asked);
    context.io.out(`\n${show(report, true, nowS())}`);
    return code === 0 && report.healthy ? 0 : 1;
  }
  const deadlineMs = performance.now() + timeoutS * 1000;
  let report = await look(context);
  while (
    flag(parsed, "wait") && !report.healthy && performance.now() < deadlineMs &&
    !context.io.interrupted.aborted
  ) {
    await delay(WAIT_PAUSE_MS);
    report = await look(context);
  }
  if (form === "json" || form === "yaml") context.io.out(render([], [], form, toJson(report)));
  else context.io.out(show(report, flag(parsed, "verbose") || form === "wide", nowS()));
  return report.healthy ? 0 : 1;
}

async function look(context: CommandContext): Promise<Report> {
  const facts = await gather(statusTargets(context));
  const found = findings(facts, nowS());
  return {
    ...facts,
    findings: found,
    healthy: found.length === 0 && facts.nodes.every(({ ready }) => ready),
  };
}

function toJson({ healthy, findings, nodes, cluster }: Report): unknown {
  const { endpoints, endpointsReady } = counts(nodes);
  const { identities, policies } = cluster.revision ?? {};
  return {
    healthy,
    ready: healthy,
    findings,
    nodes,
    cluster,
    counts: { identities, policies, services: cluster.services, endpoints, endpointsReady },
  };
}

function counts(nodes: readonly NodeReport[]): { endpoints: number; endpointsReady: number } {
  const sum = (count: (node: NodeReport) => number | undefined) =>
    nodes.reduce((all, node) => all + (count(node) ?? 0), 0);
  return { endpoints: sum((node) => node.endpoints), endpointsReady: sum((node) => node.endpointsReady) };
}

function show(report: Report, verbose: boolean, nowUnixS: number): string {
  const rows = report.nodes.flatMap((node) =>
    node.services.map((service) => [
      node.node,
      service.name,
      service.state,
      String(service.pid || "-"),
      String(service.restarts),
      age(service.sinceUnixS, nowUnixS),
      service.message,
    ])
  );
  const parts = report.findings.flatMap((finding) => findingLines(finding, nowUnixS));
  if (parts.length > 0) parts.push("");
  parts.push(table(["NODE", "SERVICE", "STATE", "PID", "RESTARTS", "SINCE", "MESSAGE"], rows));
  parts.push(countsText(report));
  for (const { node, datapath, probes } of report.nodes) {
    if (datapath !== undefined) parts.push(...datapathLines(node, datapath));
    if (verbose && datapath !== undefined) parts.push(...details(node, datapath));
    if (verbose && probes !== undefined) parts.push(...wayLines(node, probes, nowUnixS));
  }
  parts.push(lastLine(report));
  return parts.map((part) => part.trimEnd()).join("\n") + "\n";
}

/** Nobody who reads the last line alone may think that all is well when it is not. */
function lastLine({ healthy, findings, nodes }: Report): string {
  if (!healthy) {
    const [worst] = findings;
    if (worst === undefined) return "Weir is not ready";
    const more = findings.length === 1 ? "" : `, and ${findings.length - 1} more (see above)`;
    return `Weir is not well: ${worst.node || "cluster"}: ${worst.condition}: ${worst.subject}${more}`;
  }
  const pressed = nodes.some(({ datapath }) => (datapath?.degraded.length ?? 0) > 0);
  return pressed ? "Weir works, DEGRADED: somebody fills a table (see above)" : "Weir is ready";
}

function countsText(report: Report): string {
  const { endpoints, endpointsReady } = counts(report.nodes);
  const { revision, services } = report.cluster;
  const unknown = report.nodes.some((node) => node.endpoints === undefined) ? "known " : "";
  return [
    `${endpointsReady} of ${numbered(endpoints, `${unknown}endpoint`, `${unknown}endpoints`)} ready`,
    numbered(revision?.identities, "identity", "identities"),
    numbered(revision?.policies, "policy", "policies"),
    numbered(services, "service", "services"),
  ].join(", ");
}

function datapathLines(node: string, datapath: DatapathStatus): string[] {
  const gate = datapath.gate === "structural"
    ? "structural checks only (the verifier is not in this build)"
    : datapath.gate;
  const lines = [
    `${node}: gate ${gate}; ${datapath.xdp ? `XDP ${datapath.xdp}; ` : ""}` +
    `${datapath.adopted} adopted, ${datapath.rebuilt} rebuilt, ${datapath.leftovers} leftover; ` +
    `${datapath.lostEvents} events lost${datapath.synced ? "" : "; not synced yet"}`,
  ];
  const firewall = datapath.hostFirewall;
  if (firewall) {
    const passed = firewall.failsafes.filter(({ passed }) => passed > 0);
    const by = Map.groupBy(passed, ({ kind }) => kind).entries()
      .map(([kind, rows]) => `${kind} ${rows.reduce((sum, row) => sum + row.passed, 0)}`);
    lines.push(
      `${node}: host firewall on ${firewall.devices.join(", ")}` +
        (passed.length === 0 ? "" : `; passed by the fail-safe list alone: ${[...by].join(", ")}`),
    );
  }
  for (const { table, holder, towards, held, refused } of datapath.degraded) {
    const who = towards === "" ? holder : `${holder} to ${towards}`;
    lines.push(
      `${node}: DEGRADED: ${who} fills ${table}: ${heldText(table, held)}, ${refusedText(table, refused)}`,
    );
  }
  return lines;
}

/**
 * "node-2: STALE: new policies do not reach node-2 (since 00:41, 3m2s); what is in force there is revision 17", and below it what to
 * do.
 */
function findingLines(finding: Finding, nowUnixS: number): string[] {
  const { node, subject, condition, message, effect, remedy } = finding;
  const where = node === "" ? "cluster" : node;
  const since = sinceText(finding.sinceUnixS, nowUnixS);
  const line = `${where}: ${condition.toUpperCase()}: ${subject}: ${message}${
    since === "" ? "" : ` (${since})`
  }${effect === "" ? "" : `; ${effect}`}`;
  return remedy === "" ? [line] : [line, `  to do: ${remedy}`];
}

/** "since 00:41, 3m2s"; with the day when it is not of the last 24 hours. */
function sinceText(sinceUnixS: number, nowUnixS: number): string {
  if (!sinceUnixS) return "";
  const date = new Date(sinceUnixS * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} `;
  return `since ${nowUnixS - sinceUnixS < 86_400 ? "" : day}${time}, ${age(sinceUnixS, nowUnixS)}`;
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
  if (datapath.hostFirewall) {
    lines.push(
      `${node}: what no policy for this node cuts off`,
      table(
        ["  KIND", "DIRECTION", "PORT", "WHO", "PASSED"],
        datapath.hostFirewall.failsafes.map(({ kind, direction, port, protocol, who, passed }) => [
          `  ${kind}`,
          direction,
          `${port}/${protocol}`,
          who,
          String(passed),
        ]),
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
