/**
 * Follows one connection through every stage: labels, identities, policy, map entries, conntrack, flows.
 *
 *     deno run -A scripts/follow-connection.ts NAMESPACE/POD NAMESPACE/POD 80/TCP [--lab NAME]
 *
 * @module
 */
import { clientOf, CommandContext, type NodeTarget, processIo, takeGlobalFlags } from "@weir/cli";
import { MapDump } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { GetFlowsResponse } from "@weir/proto/observer";
import { ExplainRequest, ExplainResponse, MapState } from "@weir/proto/policy";

const PROTOCOLS: Record<string, number> = { TCP: 6, UDP: 17, SCTP: 132, ICMP: 1 };

const { flags, rest: [fromName, toName, portText] } = takeGlobalFlags(Deno.args);
const match = /^(\d+)\/(TCP|UDP|SCTP|ICMP)$/.exec(portText ?? "");
if (fromName === undefined || toName === undefined || match === null) {
  console.error("Say who, whom and where: follow-connection.ts NAMESPACE/POD NAMESPACE/POD 80/TCP");
  Deno.exit(2);
}
const port = Number(match[1]);
const protocol = PROTOCOLS[match[2]];
const context = new CommandContext(processIo(), flags);
const [from, to] = [await find(fromName), await find(toName)];

console.log("1  Labels become identities");
for (const { target, endpoint } of [from, to]) {
  console.log(`   ${endpoint.name} on ${target.node}, ${endpoint.status!.ipv4} ${endpoint.status!.ipv6}`);
  for (const label of endpoint.status!.identityLabels) console.log(`     ${label}`);
  console.log(`     = identity ${endpoint.status!.identity}`);
}

console.log("\n2  Identities and policies become a decision");
const engine = clientOf(context, "policy-engine");
const explained = await engine.call("/v1/explain", {
  request: {
    message: ExplainRequest,
    value: {
      fromIdentity: from.endpoint.status!.identity,
      toIdentity: to.endpoint.status!.identity,
      toNamedPorts: to.endpoint.namedPorts,
      protocol,
      port,
    },
  },
  response: ExplainResponse,
});
for (const step of explained.steps) {
  console.log(`   ${step.direction.toLowerCase()}: ${step.allowed ? "allowed" : "denied"}: ${step.reason}`);
  for (const source of step.rule?.sources ?? []) {
    console.log(`     ${source.policy} ${source.path} (${source.file}:${source.line})`);
  }
}

console.log("\n3  The decision becomes map entries");
for (const [end, remote, direction] of [[from, to, "EGRESS"], [to, from, "INGRESS"]] as const) {
  const identity = end.endpoint.status!.identity;
  const state = await engine.collection("mapstates", MapState).get(String(identity));
  const enforced = direction === "EGRESS" ? state?.enforceEgress : state?.enforceIngress;
  const entries = (state?.entries ?? []).filter((entry) =>
    entry.direction === direction &&
    (entry.identity === 0 || entry.identity === remote.endpoint.status!.identity)
  );
  console.log(
    `   ${end.endpoint.name} ${direction.toLowerCase()}: ${
      enforced ? `${entries.length} entries for identity ${remote.endpoint.status!.identity}` : "not enforced"
    }`,
  );
  for (const entry of entries) {
    console.log(
      `     protocol ${entry.protocol} port ${entry.portName || `${entry.port}/${entry.portPrefixLength}`} ${
        entry.audit ? "audit " : ""
      }${entry.deny ? "deny" : "allow"} cookie ${entry.cookie}`,
    );
  }
  console.log(
    `     in the kernel: revision ${end.endpoint.status!.policyRevision} of ${state?.policyRevision}`,
  );
}
engine.close();

console.log("\n4  Packets become conntrack entries");
for (const target of new Map([from, to].map((end) => [end.target.node, end.target])).values()) {
  const datapath = clientOf(context, "datapath", target);
  const dump = await datapath.call("/v1/maps/ct", { method: "GET", response: MapDump });
  datapath.close();
  const rows = dump.rows.filter(({ fields }) => {
    const text = Object.values(fields).join(" ");
    return [4, 6].some((family) => {
      const [a, b] = [from, to].map(({ endpoint }) =>
        family === 4 ? endpoint.status!.ipv4 : endpoint.status!.ipv6
      );
      return a !== "" && b !== "" && mentions(text, a) && mentions(text, b);
    });
  });
  console.log(`   ${target.node}: ${rows.length} of ${dump.entries} entries`);
  for (const { fields } of rows.slice(0, 8)) {
    console.log("     " + Object.entries(fields).map(([key, value]) => `${key}=${value}`).join(" "));
  }
}

console.log("\n5  Events become flows");
const query = `last=5&from-pod=${encodeURIComponent(fromName)}&to-pod=${
  encodeURIComponent(toName)
}&to-port=${port}`;
for (const target of new Map([from, to].map((end) => [end.target.node, end.target])).values()) {
  const exporter = clientOf(context, "flow-exporter", target);
  const answer = await exporter.send(`/v1/flows?${query}`, { headers: { accept: "application/json" } });
  for (const line of (await answer.text()).split("\n").filter((line) => line !== "")) {
    const { flow } = GetFlowsResponse.fromJson(JSON.parse(line));
    if (flow === undefined) continue;
    const policies = [
      ...flow.ingress_allowed_by,
      ...flow.ingress_denied_by,
      ...flow.egress_allowed_by,
      ...flow.egress_denied_by,
    ];
    console.log(
      `   ${target.node}: ${flow.verdict} ${flow.traffic_direction} ${flow.Summary} ${
        policies.map((policy) => policy.name).join(", ")
      }`,
    );
  }
  exporter.close();
}
console.log(`\n${explained.allowed ? "Allowed" : "Denied"}: ${fromName} -> ${toName} ${portText}`);
Deno.exit(explained.allowed ? 0 : 3);

async function find(name: string): Promise<{ target: NodeTarget; endpoint: Endpoint }> {
  for (const target of context.nodes()) {
    const client = clientOf(context, "endpoint-manager", target);
    const endpoint = await client.collection("endpoints", Endpoint).get(name);
    client.close();
    if (endpoint !== undefined) return { target, endpoint };
  }
  console.error(`No node has an endpoint ${name}: weir endpoint list`);
  Deno.exit(1);
}

/** Whether a text names exactly this address. */
function mentions(text: string, address: string): boolean {
  return new RegExp(`(^|[^0-9a-f.:])${address.replaceAll(".", "\\.")}($|[^0-9a-f.])`).test(text);
}
