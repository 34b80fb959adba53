/**
 * Everything about one endpoint: what was asked for, its identity, its policy, its maps, its last flows.
 *
 *     deno run -A scripts/about-endpoint.ts NAMESPACE/POD [--lab NAME]
 *
 * @module
 */
import { clientOf, CommandContext, type NodeTarget, processIo, table, takeGlobalFlags } from "@weir/cli";
import { DatapathEndpoint, MapDump } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { Identity } from "@weir/proto/identity";
import { GetFlowsResponse } from "@weir/proto/observer";
import { MapState, type MapStateEntry, Rule } from "@weir/proto/policy";

const FLOWS_SHOWN = 10;

const { flags, rest: [name] } = takeGlobalFlags(Deno.args);
if (name === undefined) {
  console.error("Say which endpoint: about-endpoint.ts NAMESPACE/POD");
  Deno.exit(2);
}
const context = new CommandContext(processIo(), flags);
const found = await find(name);
if (found === undefined) {
  console.error(`No node has an endpoint ${name}: weir endpoint list`);
  Deno.exit(1);
}
const { target, endpoint } = found;
const status = endpoint.status!;

section("Asked for");
print({
  node: target.node,
  kind: endpoint.netns || endpoint.device || endpoint.cgroup,
  labels: endpoint.labels.join("\n"),
  ports: endpoint.namedPorts.map((port) => `${port.name}=${port.port}/${port.protocol}`).join(" "),
});

section("Given");
print({
  state: `${status.state}${status.error ? `: ${status.error.error}` : ""}`,
  id: status.id,
  addresses: `${status.ipv4} ${status.ipv6}`,
  device: `${status.hostDevice} (ifindex ${status.ifindex}), mac ${status.mac}`,
  policy: `${status.policy}, revision ${status.policyRevision}`,
});

section(`Identity ${status.identity}`);
const allocator = clientOf(context, "identity-allocator");
const identity = await allocator.collection("identities", Identity).get(String(status.identity));
allocator.close();
console.log((identity?.labels ?? ["not known to the allocator"]).map((label) => `  ${label}`).join("\n"));

section("Policy of that identity");
const engine = clientOf(context, "policy-engine");
const state = await engine.collection("mapstates", MapState).get(String(status.identity));
const rules = new Map(
  (await engine.collection("rules", Rule).list()).items.map((rule) => [rule.cookie, rule]),
);
engine.close();
if (state === undefined) console.log("  none yet");
else {
  console.log(
    `  ingress ${state.enforceIngress ? "enforced" : "open"}, egress ${
      state.enforceEgress ? "enforced" : "open"
    }`,
  );
  console.log(indent(table(
    ["DIRECTION", "REMOTE", "TRAFFIC", "VERDICT", "RULE"],
    state.entries.map((
      entry,
    ) => [
      entry.direction,
      String(entry.identity || "any"),
      traffic(entry),
      `${entry.audit ? "audit " : ""}${entry.deny ? "deny" : "allow"}`,
      ruleText(entry.cookie),
    ]),
  )));
}

const datapath = clientOf(context, "datapath", target);
section("In the datapath");
const kernel = await datapath.collection("endpoints", DatapathEndpoint).get(endpoint.name);
print({
  ready: kernel?.status?.ready,
  adopted: kernel?.status?.adopted,
  "attach time": `${kernel?.status?.attachMs.toFixed(1)} ms`,
  error: kernel?.status?.error?.error,
});
for (const map of ["endpoint", "ipcache", "ct"]) {
  const dump = await datapath.call(`/v1/maps/${map}`, { method: "GET", response: MapDump });
  const rows = dump.rows.filter(({ fields }) =>
    Object.values(fields).some((value) =>
      [status.ipv4, status.ipv6].some((address) => address !== "" && holds(value, address))
    )
  );
  console.log(`  map ${map}: ${rows.length} of ${dump.entries} entries`);
  for (const { fields } of rows.slice(0, 20)) {
    console.log("    " + Object.entries(fields).map(([key, value]) => `${key}=${value}`).join(" "));
  }
}
datapath.close();

section("Last flows");
const exporter = clientOf(context, "flow-exporter", target);
const answer = await exporter.send(`/v1/flows?last=${FLOWS_SHOWN}&pod=${encodeURIComponent(endpoint.name)}`, {
  headers: { accept: "application/json" },
});
for (const line of (await answer.text()).split("\n").filter((line) => line !== "")) {
  const { flow } = GetFlowsResponse.fromJson(JSON.parse(line));
  if (flow === undefined) continue;
  console.log(
    `  ${flow.verdict} ${flow.Summary} ${flow.source?.pod_name || flow.IP?.source} -> ${
      flow.destination?.pod_name || flow.IP?.destination
    }`,
  );
}
exporter.close();
Deno.exit(0);

async function find(wanted: string): Promise<{ target: NodeTarget; endpoint: Endpoint } | undefined> {
  for (const target of context.nodes()) {
    const client = clientOf(context, "endpoint-manager", target);
    const endpoint = await client.collection("endpoints", Endpoint).get(wanted);
    client.close();
    if (endpoint !== undefined) return { target, endpoint };
  }
}

function ruleText(cookie: number): string {
  const sources = rules.get(cookie)?.sources ?? [];
  return sources.map((source) => `${source.policy} ${source.path}`).join(", ") || String(cookie || "-");
}

function traffic(entry: MapStateEntry): string {
  const protocols: Record<number, string> = {
    0: "any",
    1: "ICMP",
    6: "TCP",
    17: "UDP",
    58: "ICMPv6",
    132: "SCTP",
  };
  const protocol = protocols[entry.protocol] ?? String(entry.protocol);
  if (entry.portName) return `${entry.portName}/${protocol}`;
  if (entry.portPrefixLength === 0) return protocol;
  const last = entry.port + 2 ** (16 - entry.portPrefixLength) - 1;
  return `${entry.port}${last === entry.port ? "" : `-${last}`}/${protocol}`;
}

/** Whether a cell of a map names exactly this address, alone or with port or prefix length. */
function holds(cell: string, address: string): boolean {
  return cell === address || cell.startsWith(`${address}:`) || cell.startsWith(`${address}/`) ||
    cell.startsWith(`[${address}]`);
}

function section(title: string): void {
  console.log(`\n${title}`);
}

function print(fields: Record<string, unknown>): void {
  const width = Math.max(...Object.keys(fields).map((key) => key.length));
  for (const [key, value] of Object.entries(fields)) {
    const [first, ...more] = String(value ?? "-").split("\n");
    console.log(`  ${key.padEnd(width)}   ${first || "-"}`);
    for (const line of more) console.log(`  ${" ".repeat(width)}   ${line}`);
  }
}

function indent(text: string): string {
  return text.trimEnd().split("\n").map((line) => `  ${line}`).join("\n");
}
