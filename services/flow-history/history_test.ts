import { deepEqual, equal, match, ok } from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { compileFilters, readFlowsQuery } from "@weir/flow-filter";
import type { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { DROPPED, flowBytes } from "./testing/flows.ts";
import { type TestHistory, testHistory } from "./testing/history.ts";

const START_MS = 1_790_000_000_000;
const PODS = ["cart-1", "cart-2", "db-1", "web-1", ""];

/** Eight minutes of flows between five ends, some dropped. */
function someFlows(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, n) =>
    flowBytes({
      unixMs: START_MS + n * 400 + (n % 7) * 30,
      uuid: `u${n}`,
      node: `node-${n % 3}`,
      from: PODS[n % 5],
      to: PODS[(n * 3 + 1) % 5],
      port: [80, 443, 5432][n % 3],
      sourcePort: 33_000 + n % 1000,
      flags: n % 4 === 0 ? { SYN: true } : {},
      more: n % 11 === 0 ? DROPPED : {},
    }));
}

const QUERIES = [
  "",
  "pod=shop/cart-1",
  "from-pod=shop/cart",
  "to-pod=shop/db-1&verdict=dropped",
  "label=app=web&port=443",
  "from-identity=world&not-port=80",
  "namespace=shop&not-verdict=forwarded",
  "ip=192.0.2.1",
  "workload=Deployment/db&protocol=tcp",
  "drop-reason-desc=POLICY_DENIED&from-pod=shop/web",
  "node-name=node-1&type=drop",
  "pod=shop/nobody",
  // What no word finds.
  "from-port=33005",
  "ip=10.1.0.0/16&not-port=443",
  "tcp-flags=SYN",
  "uuid=u17",
  "from-fqdn=nobody.example.com",
];

async function checkPages(one: TestHistory, flows: readonly Uint8Array[], size: number): Promise<void> {
  const known = flows.map((bytes) => GetFlowsResponse.decode(bytes).flow!);
  for (const query of QUERIES) {
    const { whitelist, blacklist } = readFlowsQuery(new URLSearchParams(query), 0);
    const wanted = known.filter(compileFilters(whitelist!, blacklist!)).sort(byTime).map(({ uuid }) => uuid);
    for (const [order, expected] of [["first", wanted], ["last", wanted.toReversed()]] as const) {
      const found = await one.pages(`/v1/flows?${query}&${order}=${size}`, "flows");
      deepEqual(found.map(({ uuid }) => uuid), expected, `${query} ${order}`);
    }
  }
  const since = new Date(START_MS + 100_000).toISOString(),
    until = new Date(START_MS + 200_000).toISOString();
  const within = await one.pages(`/v1/flows?since=${since}&until=${until}&first=1000`, "flows");
  equal(
    within.length,
    known.filter((flow) => ms(flow) >= START_MS + 100_000 && ms(flow) <= START_MS + 200_000).length,
  );
}
const ms = ({ time }: Flow) => time!.seconds * 1000 + time!.nanos / 1e6;
const byTime = (a: Flow, b: Flow) => ms(a) - ms(b);

async function walk(url: string, size: number): Promise<void> {
  const clock = new FakeClock(START_MS), one = testHistory(clock, url);
  await one.history.load();
  const flows = someFlows(1200);
  for (let n = 0; n < flows.length; n += 200) {
    await clock.advance(80_000);
    one.history.intake.take(flows.slice(n, n + 200));
    await one.history.flush();
  }
  await one.history.retention.turn(new AbortController().signal);
  await checkPages(one, flows, size);
  const { completeness } = await one.get("/v1/flows?last=1");
  equal(completeness.text, "1,200 flows, 100 %");
  await one.history.stop();

  // Another process finds it, with what waits in neither memory nor a gap.
  const again = testHistory(clock, url);
  await again.history.load();
  await checkPages(again, flows, 500);
  again.history.intake.take(flows.slice(-100));
  await again.history.flush({ isLast: true });
  equal(
    (await again.get("/v1/flows?last=1")).completeness.text,
    "1,200 flows, 100 %",
    "what came again counts once",
  );
  await again.close();
  await one.close();
}

Deno.test("FlowHistory gives every page of every filter as the filter itself says, from memory and SQLite", async () => {
  const directory = await Deno.makeTempDir();
  await walk(`sqlite:${directory}/history.db`, 150);
  await Deno.remove(directory, { recursive: true });
});

Deno.test({
  name: "FlowHistory does the same on PostgreSQL",
  ignore: postgresMissing() !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    try {
      await walk(await postgres.createDatabase("history"), 500);
    } finally {
      await postgres.close();
    }
  },
});

Deno.test("FlowHistory makes connections of flows, with both ends the right way round and how they ended", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock);
  await one.history.load();
  const at = (s: number) => START_MS + s * 1000,
    verdict = { event_type: { type: 5 }, traffic_direction: "EGRESS" } as const;
  const allow = { kind: "CiliumNetworkPolicy", namespace: "shop", name: "allow-db", line: 12 };
  one.history.intake.take([
    flowBytes({ unixMs: at(0), flags: { SYN: true }, more: { ...verdict, egress_allowed_by: [allow] } }),
    flowBytes({ unixMs: at(0.1), isReply: true, flags: { SYN: true, ACK: true } }),
    flowBytes({ unixMs: at(5), flags: { FIN: true, ACK: true } }),
    flowBytes({ unixMs: at(5.1), isReply: true, flags: { FIN: true, ACK: true } }),
    flowBytes({ unixMs: at(6), from: "web-1", sourcePort: 5, more: DROPPED }),
    flowBytes({ unixMs: at(7), from: "web-1", sourcePort: 6, flags: { SYN: true }, more: verdict }),
    flowBytes({ unixMs: at(7), from: "web-1", sourcePort: 6, isReply: true, flags: { RST: true } }),
    flowBytes({ unixMs: at(8), from: "", sourcePort: 7, flags: { SYN: true }, more: verdict }),
    flowBytes({ unixMs: at(9), from: "cart-2", sourcePort: 8, isReply: true }),
  ]);
  const states = async () =>
    Object.fromEntries(
      (await one.pages("/v1/connections?limit=2", "connections")).map((c) => [c.sourcePort ?? 0, c.state]),
    );
  await one.history.flush();
  deepEqual(await states(), { 40000: "CLOSED", 5: "DENIED", 6: "RESET", 7: "OPEN", 8: "OPEN" });
  await clock.advance(200_000);
  await one.history.flush();
  await clock.advance(20_000);
  await one.history.flush();
  deepEqual(await states(), { 40000: "CLOSED", 5: "DENIED", 6: "RESET", 7: "NO_ANSWER", 8: "OPEN" });
  const [first] = await one.pages("/v1/connections?from-pod=shop/cart-1&port=5432", "connections");
  equal(first.destination.pod_name, "db-1");
  equal(first.startUnixS, START_MS / 1000);
  equal(first.endUnixS, START_MS / 1000 + 5.1);
  deepEqual(first.policies, [{ direction: "EGRESS", allowed: true, policy: allow }]);
  deepEqual([first.flows, first.replyFlows, first.startKnown], ["2", "2", true]);
  const [world] = await one.pages("/v1/connections?to-pod=shop/db-1&not-from-pod=shop/cart", "connections");
  equal(world.sourceIp, "192.0.2.1");
  equal((await one.get("/v1/connections?http-method=GET")).code, "FILTER_NOT_SUPPORTED");
  await one.close();
});

Deno.test("FlowHistory adds up all flows, also those that are not kept, the same from minutes and hours", async () => {
  const clock = new FakeClock(START_MS - START_MS % 3_600_000),
    one = testHistory(clock, undefined, { flowsPerSMax: 5 });
  await one.history.load();
  for (let minute = 0; minute < 200; minute++) {
    const unixMs = clock.nowMs();
    one.history.intake.take([
      flowBytes({ unixMs, sourcePort: minute, more: { event_type: { type: 5 } } }),
      flowBytes({ unixMs, sourcePort: minute, isReply: true }),
      ...Array.from(
        { length: 20 },
        (_, n) => flowBytes({ unixMs, from: "web-1", sourcePort: n, more: DROPPED }),
      ),
    ]);
    await clock.advance(60_000);
    await one.history.flush();
    if (minute % 50 === 0) await one.history.retention.turn(new AbortController().signal);
  }
  await clock.advance(60_000);
  await one.history.retention.turn(new AbortController().signal);
  ok(one.history.store.compactedS(60) > 0, "hours are summed");
  const all = await one.get("/v1/rollups?since=5h&by=workload&by=verdict&by=policy&by=reason");
  const plain = all.rollups.map((
    row: Record<string, unknown>,
  ) => [row.keys, row.flows, row.dropped, row.connections]);
  deepEqual(plain, [
    [
      {
        "from.workload": "shop/Deployment/web",
        "to.workload": "shop/Deployment/db",
        verdict: "DROPPED",
        policy: "CiliumNetworkPolicy:shop/deny-cart",
        reason: "POLICY_DENIED",
      },
      "4000",
      "4000",
      all.rollups[0].connections,
    ],
    [
      {
        "from.workload": "shop/Deployment/cart",
        "to.workload": "shop/Deployment/db",
        verdict: "FORWARDED",
        policy: "",
        reason: "",
      },
      "400",
      undefined,
      "200",
    ],
  ]);
  match(all.completeness.text, /^[\d,]+ of 4,400 flows, sampled, \d+ %$/);
  const steps = await one.get("/v1/rollups?since=5h&step=1h&to-port=5432&verdict=dropped");
  equal(steps.rollups.reduce((sum: number, row: { dropped: string }) => sum + Number(row.dropped), 0), 4000);
  ok(steps.rollups.length >= 4 && steps.stepS === 3600);
  const labels = await one.get("/v1/rollups?since=5h&by=from:label:app&by=port");
  deepEqual(labels.rollups.map(({ keys }: { keys: unknown }) => keys), [
    { "from.label:app": "web", port: "5432" },
    { "from.label:app": "cart", port: "5432" },
  ]);
  await one.close();
});

Deno.test("GET /v1/rollups by end says who they are, with the pods of a workload together, and DNS names apart", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock);
  await one.history.load();
  const unixMs = START_MS, names = (name: string) => ({ destination_names: [name] });
  one.history.intake.take([
    flowBytes({ unixMs, from: "cart-1" }),
    flowBytes({ unixMs: unixMs + 500, from: "cart-2", isReply: true }),
    flowBytes({ unixMs, from: "cart-2", to: "", port: 443, more: names("a.example.com") }),
    flowBytes({ unixMs, from: "cart-2", to: "", port: 443, more: { ...names("b.example.com"), ...DROPPED } }),
  ]);
  const { rollups, ends, groups } = await one.get("/v1/rollups?by=end&by=port&by=verdict");
  // deno-lint-ignore no-explicit-any
  const endOf = (number: string) => ends.find((end: any) => end.number === number);
  deepEqual(
    // deno-lint-ignore no-explicit-any
    rollups.map(({ keys, flows, firstUnixS, lastUnixS }: any) => {
      const from = endOf(keys["from.end"]), to = endOf(keys["to.end"]);
      return [from.pods, to.pods ?? to.name, keys.port, keys.verdict, flows, lastUnixS - firstUnixS];
    }),
    [
      [["cart-1", "cart-2"], "b.example.com", "443", "DROPPED", "1", 0],
      [["cart-1", "cart-2"], ["db-1"], "5432", "FORWARDED", "2", 0.5],
      [["cart-1", "cart-2"], "a.example.com", "443", "FORWARDED", "1", 0],
    ],
  );
  const [{ endpoint }] = ends;
  deepEqual(endpoint.workloads, [{ name: "cart", kind: "Deployment" }]);
  deepEqual(endpoint.labels, ["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"]);
  equal(groups, "3");
  const first = await one.get("/v1/rollups?by=from:end&limit=1");
  equal(first.ends.length, 1, "only those that are in the answer");
  await one.close();
});
