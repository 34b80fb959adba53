/**
 * Our filters against the client's own, over 2,000 generated flows: what a server with these flows answers must be what the
 * client makes of the same flows from a file.
 * @module
 */
import assert from "node:assert/strict";
import { MetricsRegistry } from "@weir/common";
import { FlowRing, Losses } from "@weir/flow-exporter";
import { AgentEvents, Namespaces, observerMethods } from "@weir/flow-exporter/hubble";
import { GrpcServer } from "@weir/grpc";
import type { Flow } from "@weir/proto/flow";
import { FILTERS } from "./filters.ts";
import { generateFlows } from "./generated_flows.ts";
import { weirObserveAt } from "./our_client.ts";
import { hubble, isBuilt, offline, refused } from "./real_client.ts";

const FLOWS = 2000;
const directory = isBuilt ? await Deno.makeTempDir() : "";
const server = `unix://${directory}/hubble.sock`, file = `${directory}/flows.json`;
const ring = new FlowRing<{ readonly flow: Flow }>(4095);
let grpc: GrpcServer;

if (isBuilt) {
  Deno.test.beforeAll(async () => {
    for (const flow of generateFlows(FLOWS, 20_261_128)) ring.push({ flow });
    const parts = {
      exporter: { ring, losses: new Losses(new MetricsRegistry()) } as never,
      events: new AgentEvents({ nowMs: Date.now, later: () => {} }),
      namespaces: new Namespaces(Date.now),
    };
    grpc = new GrpcServer({
      methods: observerMethods({
        ...parts,
        nodeName: "node-1",
        cluster: "default",
        uptimeMs: () => 1000,
        address: () => server,
        isTls: false,
      }),
    });
    await grpc.listen({ path: `${directory}/hubble.sock` });
    await Deno.writeTextFile(file, await hubble(server, "observe", "--all", "-o", "jsonpb"));
  });
  Deno.test.afterAll(async () => {
    await grpc.stop();
    await Deno.remove(directory, { recursive: true });
  });
}
const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !isBuilt, fn });

test("every filter matches the flows that the client's own filters match", async () => {
  const differences: string[] = [];
  let matched = 0;
  for (const filter of FILTERS) {
    const flags = typeof filter === "string" ? ["--allowlist", filter] : filter;
    const args = [...flags, "--all", "-o", "jsonpb"];
    const [served, own] = await Promise.all([hubble(server, "observe", ...args), offline(file, ...args)]);
    const [ours, theirs] = [served, own].map(uuids);
    matched += theirs.size;
    const only = (a: Set<string>, b: Set<string>) => [...a].filter((uuid) => !b.has(uuid)).slice(0, 3);
    const [more, less] = [only(ours, theirs), only(theirs, ours)];
    if (more.length + less.length > 0) {
      differences.push(
        `${flags.join(" ")}: only ours ${more}, only theirs ${less} (${ours.size}/${theirs.size})`,
      );
    }
  }
  assert.deepEqual(differences, []);
  assert.ok(matched > 10 * FILTERS.length, `the filters match ${matched} flows in all: too few to tell`);
});

test("every format prints the same from the server as from the file", async () => {
  const formats = [["compact"], ["dict"], ["tab"], ["jsonpb"], ["json"], [
    "compact",
    "--print-node-name",
    "--numeric",
  ]];
  for (const [format, ...more] of [...formats, ["compact", "--ip-translation=false"]]) {
    const args = ["--all", "-o", format, ...more];
    // The masks that the client asks for leave out nothing that it prints.
    const [served, own] = await Promise.all([hubble(server, "observe", ...args), offline(file, ...args)]);
    assert.equal(served, own, format);
  }
});

test("weir observe asks a server of Hubble's API as the original does", async () => {
  const asks = [
    ["--last", "30"],
    ["--first", "30", "-o", "dict", "--numeric"],
    ["--all", "--verdict", "DROPPED", "--not", "--protocol", "udp"],
    [],
    ["--since", "2026-11-18T09:00:00Z", "--pod", "shop/cart", "-o", "dict"],
  ];
  for (const args of asks) {
    const words = [...args, "--print-node-name"];
    const [ours, theirs] = await Promise.all([
      weirObserveAt(server, ...words, "--print-policy-names=false"),
      hubble(server, "observe", ...words),
    ]);
    assert.equal(ours.code, 0, ours.err);
    // A pod of one namespace and its service of another: the original names the pod by the service's.
    const lines = (text: string) =>
      text.split("\n").map((line) => line.replaceAll(/\b[a-z-]+\/(?=cart|catalog|dns)/g, ""));
    assert.deepEqual(lines(ours.out), lines(theirs), args.join(" "));
  }
  const wrong = await weirObserveAt(server, "--allowlist", '{"source_port":["99999"]}');
  assert.deepEqual([wrong.code, wrong.out], [2, ""]);
  assert.match(wrong.err, /source_port.*0 to 65535/);
  const away = await weirObserveAt("127.0.0.1:1", "--last", "1", "--timeout", "30s");
  assert.equal(away.code, 1);
  assert.match(away.err, /127\.0\.0\.1:1: cannot connect[^]*--server tls:/);
  assert.equal((await weirObserveAt("http://127.0.0.1:1", "--tls")).code, 2);
});

test("counts and times select the same flows", async () => {
  const all = (await Deno.readTextFile(file)).trim().split("\n");
  const last = await hubble(server, "observe", "--last", "5", "-o", "jsonpb");
  assert.deepEqual([...uuids(last)], [...uuids(all.slice(-5).join("\n"))]);
  const first = await hubble(server, "observe", "--first", "5", "-o", "jsonpb");
  assert.deepEqual([...uuids(first)], [...uuids(all.slice(0, 5).join("\n"))]);
  const at = (n: number) => new Date((1_795_000_000 + n) * 1000).toISOString().replace(/\.\d+/, "");
  const window = await hubble(server, "observe", "--since", at(100), "--until", at(110), "-o", "jsonpb");
  assert.deepEqual([...uuids(window)], Array.from({ length: 10 }, (_, n) => `flow-${100 + n}`));
});

test("values that nobody can read are refused by the server too", async () => {
  const filters = [
    '{"source_ip":["10.0.1"]}',
    '{"source_fqdn":["a b"]}',
    '{"http_path":["("]}',
    '{"dns_query":["a(?=b)"]}',
    '{"http_status_code":["6x"]}',
    '{"http_method":["GET"],"event_type":[{"type":1}]}',
    '{"experimental":{"cel_expression":["1+1"]}}',
    '{"protocol":["ipx"]}',
  ];
  for (const filter of filters) {
    assert.match(await refused(server, "observe", "--allowlist", filter), /InvalidArgument/, filter);
  }
});

function uuids(lines: string): Set<string> {
  return new Set(
    lines.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line).flow.uuid),
  );
}
