/**
 * `weir endpoint list|get|add|delete|label|config|pool`.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { formatLabel, SOURCE_KUBERNETES, SOURCE_UNSPEC } from "@weir/common/labels";
import { Endpoint } from "@weir/proto/endpoint";
import { flag, parse, text, texts } from "./args.ts";
import { answersOf, clientOf, onEveryNode } from "./clients.ts";
import { type CommandContext, type NodeTarget, UsageError } from "./context.ts";
import { endpointConfigCommand, readEndpointEnforcement } from "./endpoint_config.ts";
import { endpointPoolCommand } from "./endpoint_pool.ts";
import { labelMatcher, readLabel } from "./label_text.ts";
import { type Column, deletedText, outputForm, render } from "./output.ts";
import { findEndpoint, type PlacedEndpoint as Row, putEndpoint } from "./placed_endpoint.ts";
import { didYouMean, unknownVerb } from "./suggestion.ts";

const HINT = "weir help endpoint";
const READY_MS_MAX = 30_000;

/** Runs the command. */
export async function endpointCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "list":
    case "ls":
      return await list(rest, context);
    case "get":
      return await get(rest, context);
    case "add":
      return await add(rest, context);
    case "delete":
    case "remove":
      return await remove(rest, context);
    case "label":
      return await label(rest, context);
    case "config":
      return await endpointConfigCommand(rest, context);
    case "pool":
      return await endpointPoolCommand(rest, context);
    default:
      throw unknownVerb("endpoint", verb, ["list", "get", "add", "delete", "label", "config", "pool"]);
  }
}

const COLUMNS: Column<Row>[] = [
  { title: "NODE", cell: (row) => row.node },
  { title: "ID", cell: ({ endpoint }) => endpoint.status?.id },
  { title: "NAME", cell: ({ endpoint }) => endpoint.name },
  { title: "STATE", cell: ({ endpoint }) => stateText(endpoint) },
  { title: "IDENTITY", cell: ({ endpoint }) => endpoint.status?.identity },
  { title: "INGRESS", cell: ({ endpoint }) => enforcedText(endpoint, "ingressEnforced") },
  { title: "EGRESS", cell: ({ endpoint }) => enforcedText(endpoint, "egressEnforced") },
  { title: "IPV4", cell: ({ endpoint }) => endpoint.status?.ipv4 },
  { title: "IPV6", cell: ({ endpoint }) => endpoint.status?.ipv6 },
  { title: "KIND", cell: ({ endpoint }) => kindText(endpoint), wide: true },
  { title: "POOL", cell: ({ endpoint }) => poolText(endpoint), wide: true },
  { title: "DEVICE", cell: ({ endpoint }) => endpoint.status?.hostDevice, wide: true },
  { title: "REVISION", cell: ({ endpoint }) => endpoint.status?.policyRevision, wide: true },
  { title: "ERROR", cell: ({ endpoint }) => endpoint.status?.error?.error, wide: true },
  { title: "LABELS", cell: ({ endpoint }) => ownLabels(endpoint).join(",") },
];

/** "enforced", "audit", "open"; with the mode where it is not the default. */
function enforcedText({ status }: Endpoint, direction: "ingressEnforced" | "egressEnforced"): string {
  const mode = status?.enforcement ?? "DEFAULT";
  const text = !status?.[direction] ? "open" : status.audit ? "audit" : "enforced";
  return mode === "ALWAYS" || mode === "NEVER" ? `${text} (${mode.toLowerCase()})` : text;
}

/** "edge"; of two families that differ "edge,core6"; "" is the node's own. */
function poolText({ poolV4, poolV6 }: Endpoint): string {
  return [...new Set([poolV4, poolV6])].filter((pool) => pool !== "").join(",");
}

async function list(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
    selector: { type: "string", short: "l" },
    watch: { type: "boolean", short: "w" },
  }, HINT);
  const form = outputForm(text(parsed, "output"));
  const namespace = text(parsed, "namespace");
  const matches = labelMatcher(text(parsed, "selector"));
  const wanted = (endpoint: Endpoint) =>
    (namespace === undefined || endpoint.namespace === namespace) && matches(endpoint.labels);
  const answers = answersOf(
    context,
    await onEveryNode(
      context,
      "endpoint-manager",
      (client) => client.collection("endpoints", Endpoint).list(),
    ),
  );
  const rows = answers.flatMap(({ target, value }) =>
    value.items.filter(wanted).map((endpoint): Row => ({ node: target.node, endpoint }))
  );
  rows.sort((a, b) =>
    a.node < b.node ? -1 : a.node > b.node ? 1 : a.endpoint.name < b.endpoint.name ? -1 : 1
  );
  if (rows.length === 0 && form === "table") context.io.out("No endpoints\n");
  else context.io.out(render(rows, COLUMNS, form, rows.map(whole)));
  if (flag(parsed, "watch")) {
    await Promise.all(
      answers.map(({ target, value }) => watch(context, target, value.revision, wanted, form)),
    );
  }
  return answers.length < context.nodes().length && context.flags.server === undefined ? 1 : 0;
}

async function watch(
  context: CommandContext,
  target: NodeTarget,
  revision: number,
  wanted: (endpoint: Endpoint) => boolean,
  form: ReturnType<typeof outputForm>,
): Promise<void> {
  const client = clientOf(context, "endpoint-manager", target);
  try {
    const events = client.collection("endpoints", Endpoint).watch({
      revision,
      signal: context.io.interrupted,
    });
    for await (const event of events) {
      if (event.type === "PUT" && wanted(event.value)) {
        const row = { node: target.node, endpoint: event.value };
        const lines = render([row], COLUMNS, form, whole(row));
        context.io.out(form === "json" || form === "yaml" ? lines : lines.split("\n").slice(1).join("\n"));
      } else if (event.type === "DELETED") {
        context.io.out(deletedText(form, event.name, target.node));
      }
    }
  } finally {
    client.close();
  }
}

async function get(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  const name = one(parsed.positionals, "get");
  const row = await findEndpoint(context, name);
  const form = outputForm(text(parsed, "output") ?? "yaml");
  context.io.out(render([row], COLUMNS, form, whole(row)));
  return 0;
}

async function add(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    netns: { type: "string" },
    device: { type: "string" },
    cgroup: { type: "string" },
    label: { type: "string", multiple: true, short: "l" },
    port: { type: "string", multiple: true },
    ipv4: { type: "string" },
    ipv6: { type: "string" },
    mac: { type: "string" },
    pool: { type: "string" },
    "container-device": { type: "string" },
    enforcement: { type: "string" },
    wait: { type: "boolean" },
    output: { type: "string", short: "o" },
  }, HINT);
  const name = one(parsed.positionals, "add");
  const given = ["netns", "device", "cgroup"].filter((option) => text(parsed, option) !== undefined);
  if (given.length !== 1) {
    throw new UsageError("Say what the endpoint is: exactly one of --netns, --device, --cgroup", HINT);
  }
  const slash = name.indexOf("/");
  const source = slash < 0 ? SOURCE_UNSPEC : SOURCE_KUBERNETES;
  const netns = netnsPath(text(parsed, "netns"));
  if (netns !== "" && context.flags.server === undefined) await assertNetns(name, netns);
  const client = clientOf(context, "endpoint-manager");
  try {
    const endpoints = client.collection("endpoints", Endpoint);
    const stored = await endpoints.put(name, {
      name,
      netns,
      device: text(parsed, "device") ?? "",
      cgroup: text(parsed, "cgroup") ?? "",
      labels: texts(parsed, "label").flatMap((item) => item.split(",")).map((item) =>
        formatLabel(readLabel(item, source))
      ),
      namedPorts: texts(parsed, "port").map(readNamedPort),
      namespace: slash < 0 ? "" : name.slice(0, slash),
      podName: slash < 0 ? "" : name.slice(slash + 1),
      containerDevice: text(parsed, "container-device") ?? "",
      ipv4: text(parsed, "ipv4") ?? "",
      ipv6: text(parsed, "ipv6") ?? "",
      mac: text(parsed, "mac") ?? "",
      poolV4: text(parsed, "pool") ?? "",
      poolV6: text(parsed, "pool") ?? "",
      enforcement: readEndpointEnforcement(text(parsed, "enforcement") ?? ""),
    });
    const endpoint = flag(parsed, "wait") ? await waitReady(context, name, stored) : stored;
    const form = text(parsed, "output");
    if (form !== undefined) {
      const row = { node: context.node().node, endpoint };
      context.io.out(render([row], COLUMNS, outputForm(form), whole(row)));
    } else context.io.out(`endpoint ${name} ${stateText(endpoint)}\n`);
    return 0;
  } finally {
    client.close();
  }
}

async function remove(args: string[], context: CommandContext): Promise<number> {
  const { positionals } = parse(args, {}, HINT);
  if (positionals.length === 0) throw new UsageError("Say which endpoint to delete", HINT);
  for (const name of positionals) {
    const { node } = await findEndpoint(context, name);
    const client = clientOf(
      context,
      "endpoint-manager",
      context.nodes().find((target) => target.node === node),
    );
    try {
      await client.collection("endpoints", Endpoint).delete(name);
    } finally {
      client.close();
    }
    context.io.out(`endpoint ${name} deleted\n`);
  }
  return 0;
}

async function label(args: string[], context: CommandContext): Promise<number> {
  const { positionals } = parse(args, {}, HINT);
  const [name, ...changes] = positionals;
  if (name === undefined || changes.length === 0) {
    throw new UsageError("Say the endpoint and its changes: weir endpoint label NAME KEY=VALUE KEY-", HINT);
  }
  const row = await findEndpoint(context, name);
  const source = name.includes("/") ? SOURCE_KUBERNETES : SOURCE_UNSPEC;
  const labels = new Map(row.endpoint.labels.map((item) => [labelKey(item), item]));
  for (const change of changes) {
    if (change.endsWith("-") && !change.includes("=")) {
      const key = labelKey(formatLabel(readLabel(change.slice(0, -1), source)));
      if (!labels.delete(key)) throw new UsageError(`Endpoint ${name} has no label ${key}`);
    } else {
      const text = formatLabel(readLabel(change, source));
      labels.set(labelKey(text), text);
    }
  }
  await putEndpoint(context, row, { ...row.endpoint, labels: [...labels.values()] });
  context.io.out(`endpoint ${name} labeled\n`);
  return 0;
}

async function waitReady(context: CommandContext, name: string, stored: Endpoint): Promise<Endpoint> {
  const client = clientOf(context, "endpoint-manager");
  const deadlineMs = Date.now() + READY_MS_MAX;
  try {
    let endpoint: Endpoint | undefined = stored;
    while (Date.now() < deadlineMs) {
      if (endpoint?.status?.state === "READY") return endpoint;
      await delay(50);
      endpoint = await client.collection("endpoints", Endpoint).get(name);
    }
    throw new Error(
      `Endpoint ${name} is not ready after ${READY_MS_MAX / 1000} s: ${
        endpoint?.status?.error?.error || stateText(endpoint ?? stored)
      }`,
    );
  } finally {
    client.close();
  }
}

/** "NAME=80/TCP" */
function readNamedPort(text: string): { name: string; port: number; protocol: string } {
  const match = /^([a-z0-9-]+)=(\d+)(?:\/(TCP|UDP|SCTP))?$/i.exec(text);
  if (match === null) throw new UsageError(`Cannot read --port ${text}: expected NAME=80/TCP`, HINT);
  return { name: match[1], port: Number(match[2]), protocol: (match[3] ?? "TCP").toUpperCase() };
}

/** The node is this machine: what is not there now is a slip of the pen. A path of /proc may be another's to read. */
async function assertNetns(endpoint: string, path: string): Promise<void> {
  const found = await Deno.stat(path).then(() => true, (error) => !(error instanceof Deno.errors.NotFound));
  if (found) return;
  const directory = path.slice(0, path.lastIndexOf("/"));
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name).catch(() => []);
  const there = names.length === 0 ? "none" : names.sort().slice(0, 10).join(", ");
  throw new Error(
    `Cannot add endpoint ${endpoint}: there is no network namespace ${path}${
      didYouMean(path.slice(path.lastIndexOf("/") + 1), names)
    }; in ${directory}: ${there}`,
  );
}

/** A bare name is one of `ip netns`. */
function netnsPath(value: string | undefined): string {
  if (value === undefined) return "";
  return value.includes("/") ? value : `/run/netns/${value}`;
}

function one(positionals: string[], verb: string): string {
  if (positionals.length !== 1) throw new UsageError(`Say exactly one endpoint to ${verb}`, HINT);
  return positionals[0];
}

function labelKey(text: string): string {
  return text.split("=")[0];
}

function stateText(endpoint: Endpoint): string {
  return (endpoint.status?.state ?? "unknown").toLowerCase().replaceAll("_", "-");
}

function kindText(endpoint: Endpoint): string {
  return endpoint.netns ? "netns" : endpoint.device ? "device" : "cgroup";
}

/** Labels that the workload has of its own: those of namespace, cluster and account fill no screen. */
function ownLabels(endpoint: Endpoint): string[] {
  return endpoint.labels.filter((label) => !/^k8s:io\.(kubernetes|cilium)\./.test(label));
}

function whole(row: Row): unknown {
  return { node: row.node, ...(Endpoint.toJson(row.endpoint) as Record<string, unknown>) };
}
