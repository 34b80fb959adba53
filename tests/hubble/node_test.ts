/**
 * The real `hubble` command against the nodes of a lab, unchanged. What a server filtered is compared with what the client's own
 * filters make of the same flows from a file.
 * @module
 */
import assert from "node:assert/strict";
import { EVENT } from "@weir/proto/numbers";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { Following, hubble, isBuilt, offline, refused } from "./real_client.ts";

const lab = new Lab(`hub${Deno.pid}`);
const can = canRun && isBuilt;
const server = (node: string) => `unix:///run/weir/${lab.name}-${node}/hubble.sock`;
const root = new URL("../../", import.meta.url).pathname;
const cast = `${root}deploy/examples/star-wars`;

if (can) {
  Deno.test.beforeAll(async () => {
    await lab.upFrom(2, cast);
    await lab.apply(await Deno.readTextFile(`${cast}/policies/rule1.yaml`));
    await lab.expect([
      "from: empire/tiefighter, to: empire/deathstar-2, port: 80, expect: allow",
      "from: alliance/xwing, to: empire/deathstar-2, port: 80, expect: deny",
    ]);
    // A flow is there a moment after its packet; what follows reads them once.
    await lab.flow(
      "a drop",
      ({ event_type }) => event_type?.type === EVENT.DROP,
      ...["--node", "node-2", "--from-pod", "alliance/xwing"],
    );
  });
  Deno.test.afterAll(async () => await lab.down());
}

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !can, fn });

test("hubble status, list and watch are answered by a node alone", async () => {
  const here = server("node-2");
  assert.match(await hubble(here, "status"), /Healthcheck .*: Ok\nCurrent\/Max Flows: \d+\/4,095/);
  const nodes = JSON.parse(await hubble(here, "list", "nodes", "-o", "json"));
  assert.equal(nodes[0].name, "default/node-2");
  assert.deepEqual((await hubble(here, "list", "namespaces")).trim().split(/\s+/), [
    ...["NAMESPACE", "alliance", "empire"],
  ]);
  await using peers = new Following(here, "watch", "peers");
  await peers.until(/PEER_ADDED .*:4244 default\/node-1/);
  assert.match(peers.said, /PEER_ADDED .*:4244 default\/node-2/);
});

test("hubble observe shows verdicts with the policy behind them, in every format", async () => {
  const here = server("node-2");
  const drop = ["observe", "--from-pod", "alliance/xwing", "--verdict", "DROPPED"];
  const compact = await hubble(here, ...drop, "--print-policy-names");
  assert.match(
    compact,
    /alliance\/xwing:\d+ .* empire\/deathstar-2:80 .* policy-verdict:none INGRESS DENIED BY rule1/,
  );
  assert.match(compact, /Policy denied DROPPED \(TCP Flags: SYN\)/);
  const [line] = (await hubble(here, ...drop, "-t", "drop", "-o", "jsonpb")).split("\n");
  const { flow, node_name } = JSON.parse(line);
  assert.equal(node_name, "default/node-2");
  assert.equal(flow.drop_reason_desc, "POLICY_DENIED");
  assert.equal(flow.ingress_denied_by[0].name, "rule1");
  assert.match(await hubble(here, ...drop, "-o", "dict"), /VERDICT: DENIED/);
  assert.match(await hubble(here, ...drop, "-o", "table"), /^TIMESTAMP +SOURCE +DESTINATION/);
  const ours = await lab.ok(["observe", "--node", "node-2", "--from-pod", "alliance/xwing", "-o", "jsonpb"]);
  assert.ok(ours.includes(flow.uuid), "weir observe shows the same flow");
});

test("a node counts flows and drops under Hubble's names, and serves them to Prometheus", async () => {
  const { out } = await run("curl", [
    ...["-s", "--unix-socket", `/run/weir/${lab.name}-node-2/flow-exporter.sock`, "http://x/metrics"],
  ]);
  const value = (series: RegExp) =>
    Number(out.split("\n").find((line) => series.test(line))?.split(" ").at(-1));
  const drops = value(
    /^hubble_drop_total\{.*source="alliance\/xwing",.*reason="POLICY_DENIED",protocol="TCP"\}/,
  );
  const counted = Number(
    await lab.ok([
      "observe",
      "--node",
      "node-2",
      "--from-pod",
      "alliance/xwing",
      "-t",
      "drop",
      "-o",
      "jsonpb",
    ])
      .then((lines) => lines.trim().split("\n").length),
  );
  assert.ok(drops >= 1 && drops <= counted, `${drops} of ${counted}\n${out}`);
  assert.match(out, /^hubble_drop_total\{source_namespace="alliance",destination_namespace="empire",/m);
  assert.ok(value(/^hubble_tcp_flags_total\{flag="SYN",family="IPv4"\}/) >= 1);
  assert.ok(value(/^hubble_port_distribution_total\{protocol="TCP",port="80"\}/) >= 1);
  assert.ok(value(/^hubble_policy_verdicts_total\{direction="ingress",match=".*",action="dropped"\}/) >= 1);
  assert.equal(value(/^hubble_lost_events_total\{source="perf_event_ring_buffer"\}/), 0);
});

test("a node filters as the client itself does, and prints the same", async () => {
  const here = server("node-2"), file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const all = await hubble(here, "observe", "--all", "-o", "jsonpb");
    await Deno.writeTextFile(file, all);
    assert.ok(all.trim().split("\n").length > 5);
    for (const filter of FILTERS) {
      for (const format of ["compact", "jsonpb", "dict"]) {
        const args = [...filter, "-o", format, "--all"];
        const [served, own] = await Promise.all([hubble(here, "observe", ...args), offline(file, ...args)]);
        assert.equal(served, own, filter.join(" "));
      }
    }
  } finally {
    await Deno.remove(file);
  }
});
/** One of each kind that flows of this lab can be told by. */
const FILTERS: string[][] = [
  [],
  ["--verdict", "DROPPED"],
  ["--not", "--verdict", "DROPPED"],
  ["--pod", "empire/deathstar", "--port", "80"],
  ["--namespace", "alliance"],
  ["--to-label", "class=deathstar", "--from-label", "org in (empire)"],
  ["--protocol", "tcp", "--tcp-flags", "SYN,ACK"],
  ["-t", "policy-verdict", "-t", "trace:to-endpoint"],
  ["--traffic-direction", "ingress"],
  ["--ip-version", "v6"],
  ["--node-name", "*/node-2"],
  ["--identity", "world"],
];

test("hubble observe -f follows, and a wrong question is refused with words", async () => {
  const here = server("node-2");
  await using following = new Following(here, "observe", "-f", "--to-pod", "empire/deathstar-2");
  // Traffic begins when it listens: it says nothing before.
  await until("it follows", async () => {
    await lab.expect(["from: empire/tiefighter, to: empire/deathstar-2, port: 80, expect: allow"]);
    return following.said !== "";
  });
  await following.until(/empire\/tiefighter:\d+ .* -> empire\/deathstar-2:80/);
  assert.match(
    await refused(here, "observe", "--allowlist", '{"source_port":["99999"]}'),
    /InvalidArgument.*source_port.*0 to 65535/,
  );
  assert.match(await refused(here, "observe", "--first", "3", "-f"), /first/);
});

test("hubble observe agent-events tells of endpoints, addresses and policies; debug-events of none", async () => {
  const here = server("node-2");
  const said = await hubble(here, "observe", "agent-events", "--all");
  for (
    const what of [/ENDPOINT_CREATED .*deathstar-2/, /IPCACHE_UPSERTED .*10\.0\./, /POLICY_UPDATED .*rule1/]
  ) {
    assert.match(said, what);
  }
  for (const form of ["compact", "dict"]) {
    const words = ["observe", "agent-events", "--all", "-o", form, "--print-node-name"];
    let both: string[] = [];
    await until(() => `both say the same: ${both.join("\n")}`, async () => {
      both = [await hubble(here, ...words), await lab.ok([...words, "--node", "node-2"])];
      // It may happen between the two questions; and the original forgets an end of a line in dict.
      return both[1] === both[0].replaceAll("------------  TIME", "------------\n  TIME");
    });
  }
  assert.equal((await hubble(here, "observe", "debug-events", "--last", "5")).trim(), "");
});
