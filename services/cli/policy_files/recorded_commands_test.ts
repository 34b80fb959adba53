import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { WeirClient } from "@weir/client";
import { ApiServer } from "@weir/common";
import type { Init, Message } from "@weir/proto";
import type { Endpoint } from "@weir/proto/flow";
import { Completeness, Connection, ConnectionPage, PreviewAnswer, PreviewRequest } from "@weir/proto/history";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { Policy as StoredPolicy } from "@weir/proto/policy";
import { preview } from "../../flow-history/preview.ts";
import { CommandContext, type CommandIo, type ServiceName, UsageError } from "../context.ts";
import { policyCommand } from "../policy.ts";

const directory = await Deno.makeTempDir({ prefix: "weir-recorded-" });
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
const write = (name: string, text: string | Uint8Array) => {
  const path = `${directory}/${name}`;
  if (typeof text === "string") Deno.writeTextFileSync(path, text);
  else Deno.writeFileSync(path, text);
  return path;
};

const run = (...args: string[]) => runIn(CommandContext, ...args);

async function runIn(
  Context: typeof CommandContext,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  let out = "", err = "";
  const io: CommandIo = {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    terminal: false,
    readStdin: () => Promise.resolve(""),
    interrupted: new AbortController().signal,
  };
  try {
    return { code: await policyCommand(args, new Context(io)), out, err };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { code: 2, out, err: err + error.message };
  }
}

const pod = (app: string) => ({
  identity: 1000 + app.length,
  namespace: "shop",
  labels: [`k8s:app=${app}`, "k8s:io.cilium.k8s.policy.cluster=east", "k8s:io.kubernetes.pod.namespace=shop"],
  pod_name: `${app}-0`,
  workloads: [{ name: app, kind: "StatefulSet" }],
});
const flow = (from: string, to: string, port: number, change: object = {}) =>
  JSON.stringify({
    flow: {
      time: "2026-11-22T10:00:00Z",
      verdict: "FORWARDED",
      IP: { source: "10.0.0.1", destination: "10.0.0.2" },
      l4: { TCP: { source_port: 40_000 + from.length, destination_port: port } },
      source: pod(from),
      destination: pod(to),
      Type: "L3_L4",
      node_name: "east/node-a",
      traffic_direction: "INGRESS",
      is_reply: false,
      ...change,
    },
  }) + "\n";
const policy = (...apps: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: db, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: db } }\n  ingress:\n  - fromEndpoints:\n${
    apps.map((app) => `    - matchLabels: { app: ${app} }\n`).join("")
  }`;
const text = flow("web", "db", 5432) + flow("job", "db", 5432) + "torn {\n" +
  flow("web", "db", 80, {
    ingress_allowed_by: [{ name: "base", namespace: "shop", kind: "CiliumNetworkPolicy" }],
  });

Deno.test("weir policy preview judges a file of flows: what closes, with file and line, and exits with 3", async () => {
  const flows = write("flows.jsonl", text), file = write("new.yaml", policy("web"));
  const found = await run("preview", "-f", file, "--flows", flows);
  assert.equal(found.code, 3, found.err);
  assert.match(
    found.out,
    /^CLOSES +shop\/job +shop\/db +5432\/TCP +1 .*no rule allows it: cnp:shop\/db spec\.ingress \(.*new\.yaml:7\)$/m,
  );
  assert.match(
    found.out,
    /^1 connections would be dropped that passed; .* 2 pass and 0 are dropped as before$/m,
  );
  assert.match(found.out, /^east\/node-a +1 +1 +\d+ KiB$/m);
  assert.match(found.out, /^Lines that are no flows: 1 \(line 3: no JSON\)$/m);
  assert.match(found.err, /allowed by policies that are not given: shop\/base; give them with --current/);
  const packed = write("flows.gz", gzipSync(text));
  const json = JSON.parse((await run("preview", "-f", file, "--flows", packed, "-o", "json")).out);
  assert.deepEqual([json.counts.closes, json.changes[0].rules[0].line, json.record.unreadableLines], [
    1,
    7,
    1,
  ]);
  const current = write("current.yaml", policy("job"));
  const both = await run("preview", "-f", file, "--current", current, "--flows", flows, "-o", "markdown");
  assert.match(both.out, /\| \*\*closes\*\* \| shop\/job .*\n\| \*\*opens\*\* \| shop\/web /);
  assert.match(both.out, /\| east\/node-a \| 1 \| 1 → 1 \|/);
  assert.equal(
    (await run("preview", "-f", write("all.yaml", policy("web", "job")), "--flows", flows)).code,
    0,
  );
  const full = await run(
    "preview",
    "-f",
    write("all.yaml", policy("web", "job")),
    "--flows",
    flows,
    "--policy-entries-max",
    "1",
  );
  assert.equal(full.code, 1);
  assert.match(
    full.err,
    /Cannot apply: the maps of 1 policy .* at most 1 entries\n {2}shop\/db: 2 entries; .*all\.yaml:8\)/,
  );
});

Deno.test("weir policy preview refuses what is no record, with words", async () => {
  const file = write("new.yaml", policy("web"));
  for (
    const [name, content, message] of [
      [
        "zeros",
        new Uint8Array(2 << 20),
        /line 1: longer than 1 MiB; expected what hubble observe -o jsonpb prints/,
      ],
      ["empty", "", /there is no flow in it/],
      ["words", "SOURCE DESTINATION\n", /line 1: no JSON/],
      ["torn.gz", gzipSync(text).subarray(0, 60), /its gzip is damaged/],
      ["noise.gz", Uint8Array.of(0x1f, 0x8b, 1, 2, 3), /its gzip is damaged/],
    ] as const
  ) {
    const { code, err } = await run("preview", "-f", file, "--flows", write(name, content));
    assert.equal(code, 2, name);
    assert.match(err, message, name);
  }
  const flows = write("flows.jsonl", text);
  const old = await run("preview", "-f", file, "--flows", flows, "--since", "2030-01-01");
  assert.match(
    old.err,
    /no connection to judge .* newest flow is of 2026-11-22T10:00:00Z: 3 outside of the window/,
  );
  assert.match((await run("preview", "-f", file, "--flows", flows, "--since", "yesterday")).err, /yesterday/);
  assert.match((await run("preview", "-f", file, "--flows", directory)).err, /it is a directory/);
  assert.match((await run("preview", "-f", file, "--flows", `${directory}/none`)).err, /it is not there/);
  assert.match((await run("preview", "--flows", flows)).err, /Say which policies/);
  assert.match((await run("preview", "-f", file, "--flows", flows, "-o", "jsn")).err, /did you mean "json"/);
});

Deno.test("weir policy recommend says on what evidence each rule rests, by labels, names, addresses and requests", async () => {
  const world = { identity: 2, labels: ["reserved:world"] }, EGRESS = "EGRESS";
  const noisy = { ...pod("web"), labels: [...pod("web").labels, "k8s:pod-template-hash=6f8c9d7b5c"] };
  const api = { source: "10.0.0.1", destination: "192.0.2.9" };
  const lines = [
    flow("web", "db", 5432, { source: noisy }),
    flow("web", "db", 5432, { l4: { TCP: { source_port: 1, destination_port: 5432 } } }),
    flow("web", "dns", 53, {
      l4: { UDP: { source_port: 2, destination_port: 53 } },
      traffic_direction: EGRESS,
    }),
    flow("web", "", 443, {
      destination: world,
      destination_names: ["api.example.com"],
      IP: api,
      traffic_direction: EGRESS,
    }),
    flow("web", "", 25, {
      destination: world,
      IP: { ...api, destination: "198.51.100.1" },
      traffic_direction: EGRESS,
    }),
    flow("job", "web", 80, {
      l7: { type: "REQUEST", http: { method: "GET", url: "http://web/a.b?x=1" } },
      Type: "L7",
    }),
    flow("eve", "web", 80, { verdict: "DROPPED", drop_reason_desc: "POLICY_DENIED" }),
    // Who records may lie: a name is no line of YAML.
    flow("mal", "web", 81, { source: { ...pod("mal"), workloads: [{ name: "job\nspec: {}" }] } }),
  ];
  const flows = write("web.jsonl", lines.join(""));
  const found = await run("recommend", "--for", "app=web", "--flows", flows, "--l7");
  assert.equal(found.code, 0, found.err);
  assert.equal(found.err, "");
  for (
    const text of [
      /^ {2}name: web\n {2}namespace: shop$/m,
      /^ {2}# shop\/db 5432\/TCP: 2 connections, 2026-11-22T10:00:00Z to .*, such as 10\.0\.0\.1:\d+ -> 10\.0\.0\.2:5432\n {2}- toEndpoints:\n {6}- matchLabels:\n {10}app: db\n/m,
      /- toFQDNs:\n {6}- matchName: api\.example\.com\n[^]*dns:\n {12}- matchPattern: "\*"|dns:\n {12}- matchPattern: "\*"[^]*- toFQDNs:\n {6}- matchName: api\.example\.com\n/,
      /- toCIDR:\n {6}- 198\.51\.100\.1\/32\n/,
      /- method: GET\n {14}path: \/a\\\.b\(\\\?\.\*\)\?\n/,
      /^ {2}# shop\/job\?spec: \{\} 81\/TCP: /m,
    ]
  ) {
    assert.match(found.out, text);
  }
  assert.doesNotMatch(found.out, /eve|pod-template-hash/);
  // It says of its own record that nothing closes.
  const file = write("web.yaml", found.out);
  const tried = await run("preview", "-f", file, "--flows", flows);
  assert.equal(tried.code, 0, tried.out);
  assert.match(tried.out, /^0 connections would be dropped that passed; 0 would pass that were dropped; /m);

  const plain = await run("recommend", "--for", "k8s:app=web", "--kind", "NetworkPolicy", "--flows", flows);
  assert.equal(plain.code, 0, plain.err);
  assert.match(
    plain.out,
    /podSelector:\n {4}matchLabels:\n {6}app: web\n[^]*ipBlock:\n {10}cidr: 192\.0\.2\.9\/32/,
  );
  const ping = write("ping.jsonl", flow("web", "db", 1, { l4: { ICMPv4: { type: 8 } } }));
  const unsaid = await run("recommend", "--for", "app=web", "--kind", "NetworkPolicy", "--flows", ping);
  assert.match(
    unsaid.err,
    /NetworkPolicy cannot say: ICMP type 8 to shop\/db; ask for --kind CiliumNetworkPolicy/,
  );
  const nobody = await run("recommend", "--for", "app=wbe", "--flows", flows);
  assert.match(nobody.err, /No recorded workload has app=wbe \(did you mean "app=web"\?\): there are app=/);
  assert.match((await run("recommend", "--for", "web", "--flows", flows)).err, /expected KEY=VALUE/);
  assert.match((await run("recommend", "--flows", flows)).err, /Say whom/);
});

Deno.test("weir policy preview and recommend read the flow history, and judge against the policies in force", async () => {
  const end = (app: string, identity: number) => ({ ...pod(app), identity });
  const connection = (from: Init<Endpoint>, to: Init<Endpoint>, more: Init<Connection> = {}) =>
    Connection.create({
      ...{ source: from, destination: to, sourceIp: "10.0.0.1", destinationIp: "10.0.0.2", state: "CLOSED" },
      ...{ sourcePort: 4000, destinationPort: 5432, protocol: "TCP", endUnixS: 1.8e9, ...more },
    });
  const web = end("web", 300), job = end("job", 301), db = end("db", 302);
  const completeness = Completeness.create({
    ...{ sinceUnixS: 1.8e9 - 60, untilUnixS: 1.8e9, text: "x", countedShare: 0.9, countedText: "90 %" },
    missingText: "12 lost",
  });
  const page = ConnectionPage.create({
    completeness,
    connections: [
      connection(web, db),
      connection(job, db, { sourceIp: "10.0.0.3" }),
      connection(web, db, { protocol: "ICMPv4", sourcePort: 0, destinationPort: 0 }),
      connection(job, db, { state: "DENIED", dropReason: "POLICY_DENIED", destinationPort: 22 }),
      connection(web, { labels: ["reserved:world-ipv4"], identity: 9 }, { destinationIp: "192.0.2.1" }),
    ],
  });
  const history = new ApiServer({ name: "flow-history" });
  history.action({
    method: "GET",
    path: "/v1/connections",
    response: ConnectionPage,
    handle: () => page,
  });
  const engine = new ApiServer({ name: "policy-engine" }),
    allocator = new ApiServer({ name: "identity-allocator" });
  const listed = <T>(api: ApiServer, name: string, message: Message<T>, items: T[]) =>
    api.collection<T>({ name, message, list: () => items, get: () => undefined, description: name });
  const stored = StoredPolicy.create({
    name: "cnp:shop/db",
    manifest: policy("job"),
    file: "old.yaml",
    line: 1,
  });
  listed(engine, "policies", StoredPolicy, [stored]);
  listed(
    allocator,
    "identities",
    Identity,
    [web, job, db].map(({ identity, labels }) => Identity.create({ number: identity, labels })),
  );
  listed(allocator, "ipcache", IpcacheEntry, [
    IpcacheEntry.create({ prefix: "10.0.0.2/32", identity: 302, node: "node-1", endpoint: "shop/db-0" }),
    IpcacheEntry.create({ prefix: "192.0.2.0/24", identity: 2 }),
  ]);
  const services: Record<string, ApiServer> = {
    "flow-history": history,
    "policy-engine": engine,
    "identity-allocator": allocator,
  };
  const sourceOf = (api: ApiServer) => new WeirClient({ handler: (request) => api.fetch(request) });
  history.action({
    path: "/v1/preview",
    request: PreviewRequest,
    response: PreviewAnswer,
    handle: async (request) =>
      PreviewAnswer.create(
        await preview(request, {
          allocator: sourceOf(allocator),
          policyEngine: sourceOf(engine),
          connections: () => Promise.resolve(page),
        }),
      ),
  });
  class Cluster extends CommandContext {
    override handler(service: ServiceName) {
      return (request: Request) => services[service].fetch(request);
    }
  }
  const file = write("live.yaml", policy("web"));
  const found = await runIn(Cluster, "preview", "-f", file);
  assert.equal(found.code, 3, found.err);
  assert.match(
    found.out,
    /^CLOSES +shop\/job +shop\/db +5432\/TCP +1 .*no rule allows it: cnp:shop\/db .*live\.yaml:7\)$/m,
  );
  assert.match(found.out, /^OPENS +shop\/web +shop\/db +5432\/TCP +1 /m);
  assert.match(found.out, /^OPENS +shop\/web +shop\/db +ICMP type 8 +1 /m);
  assert.match(found.out, /^node-1 +1 +1 -> 1 /m);
  assert.match(
    found.out,
    /^Record: 5 connections of the flow history, .* made of 90 % of all flows \(12 lost\)$/m,
  );
  assert.match(
    found.out,
    /^2 recorded connections would be dropped that policies allow now; 2 would pass that they deny now; /m,
  );
  assert.match(found.out, /^ICMP: 1 connections, taken for echo requests/m);
  const yaml = await runIn(Cluster, "recommend", "--for", "app=web");
  assert.match(yaml.out, /toCIDR:\n {6}- 192\.0\.2\.1\/32\n/);
});
