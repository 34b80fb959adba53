import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { Flow } from "@weir/proto/flow";
import { answerFlows, messageOf } from "./flow_query.ts";
import { FlowRing } from "./flow_ring.ts";
import { readEventTypes, readFlowsQuery, readTime } from "@weir/flow-filter";

function ringOf(count: number): FlowRing<{ flow: Flow }> {
  const ring = new FlowRing<{ flow: Flow }>(63);
  for (let n = 1; n <= count; n++) {
    const verdict = n % 2 ? "DROPPED" : "FORWARDED";
    ring.push({ flow: Flow.create({ uuid: `${n}`, time: { seconds: n, nanos: 0 }, verdict }) });
  }
  return ring;
}
async function ask(ring: FlowRing<{ flow: Flow }>, query: string): Promise<string[]> {
  const request = readFlowsQuery(new URLSearchParams(query), 100_000);
  const got: string[] = [];
  for await (
    const batch of await answerFlows(ring, request, { nodeName: "n", signal: AbortSignal.timeout(1000) })
  ) {
    got.push(...batch.map((answer) => messageOf(answer).flow!.uuid));
  }
  return got;
}

Deno.test("answerFlows() says what connections carry only to who asks for it", async () => {
  const ring = new FlowRing<{ flow: Flow; isTraffic?: boolean }>(7);
  ring.push({ flow: Flow.create({ uuid: "a flow" }) });
  ring.push({ flow: Flow.create({ uuid: "traffic" }), isTraffic: true }, false);
  assert.equal(ring.seen, 1);
  for (const [traffic, expected] of [[false, ["a flow"]], [true, ["a flow", "traffic"]]] as const) {
    const context = { nodeName: "n", signal: AbortSignal.timeout(60_000) };
    const got: string[] = [];
    for await (const batch of await answerFlows(ring, { number: 9, traffic }, context)) {
      got.push(...batch.map((answer) => messageOf(answer).flow!.uuid));
    }
    assert.deepEqual(got, expected);
  }
});

Deno.test("answerFlows() counts matches, from the newest, the oldest or a time on", async () => {
  const ring = ringOf(30);
  const cases: [string, string[]][] = [
    ["last=2", ["29", "30"]],
    ["last=2&verdict=dropped", ["27", "29"]],
    ["first=2&verdict=FORWARDED", ["2", "4"]],
    ["since=1970-01-01T00:00:28Z", ["28", "29", "30"]],
    ["since=1970-01-01T00:00:10Z&last=2", ["10", "11"]],
    ["until=1970-01-01T00:00:03Z", ["1", "2", "3"]],
    ["since=72s", ["28", "29", "30"]],
    ["last=3&not-verdict=dropped", ["26", "28", "30"]],
  ];
  for (const [query, expected] of cases) assert.deepEqual(await ask(ring, query), expected, query);
  assert.equal((await ask(ring, "")).length, 20);
  assert.equal((await ask(ring, "all=true")).length, 30);
});

Deno.test("Names that nobody knows are refused: they would match nothing, silently", () => {
  for (
    const query of [
      "verdict=FOO",
      "drop-reason-desc=FOO",
      "drop-reason=POLICY_DENIED&drop-reason=x",
      "not-verdict=x",
    ]
  ) {
    assert.throws(() => readFlowsQuery(new URLSearchParams(query), 0), { code: "QUERY_INVALID" }, query);
  }
  assert.throws(() => readFlowsQuery(new URLSearchParams("traffic-direction=up"), 0), /INGRESS/);
  assert.deepEqual(readEventTypes(["drop", "lost"]), ["drop", "lost"]);
  assert.throws(() => readEventTypes(["foo"]), /foo.*policy-verdict/);
});

Deno.test("readFlowsQuery() makes two filters of an either-side parameter and copies the rest into both", () => {
  const { whitelist } = readFlowsQuery(new URLSearchParams("pod=shop/cart&port=80&verdict=dropped"), 0);
  assert.deepEqual(whitelist, [
    { source_pod: ["shop/cart"], source_port: ["80"], verdict: ["DROPPED"] },
    { destination_pod: ["shop/cart"], destination_port: ["80"], verdict: ["DROPPED"] },
  ]);
  const cases: [string, unknown[]][] = [
    ["service=shop/db", [{ source_service: ["shop/db"] }, { destination_service: ["shop/db"] }]],
    ["to-service=db&to-namespace=shop", [{ destination_service: ["shop/db"] }]],
    ["from-service=x", [{ source_service: ["x"] }]],
    ["to-namespace=a&to-namespace=b&to-pod=p", [{ destination_pod: ["a/p", "b/p"] }]],
    ["drop-reason=service_backend_not_found", [{ drop_reason_desc: ["SERVICE_BACKEND_NOT_FOUND"] }]],
  ];
  for (const [query, expected] of cases) {
    assert.deepEqual(readFlowsQuery(new URLSearchParams(query), 0).whitelist, expected, query);
  }
  assert.deepEqual(readFlowsQuery(new URLSearchParams("type=trouble&type=unconfirmed"), 0).whitelist, [
    { event_type: [{ type: 200 }, { type: 200, match_sub_type: true, sub_type: 5 }] },
  ]);
  assert.deepEqual(readFlowsQuery(new URLSearchParams("type=trace:to-endpoint"), 0).whitelist, [
    { event_type: [{ type: 4, match_sub_type: true, sub_type: 0 }] },
  ]);
});

Deno.test("readFlowsQuery() refuses what it does not know, by name", async () => {
  for (
    const query of [
      "pods=x",
      "type=nothing",
      "type=drop:x",
      "last=-1",
      "since=yesterday",
      "identity=nobody",
      "tcp-flags=SYN,ACKK",
    ]
  ) {
    assert.throws(() => readFlowsQuery(new URLSearchParams(query), 0), ProblemError, query);
  }
  const ring = ringOf(1);
  const both = { first: true, follow: true };
  await assert.rejects(answerFlows(ring, both, { nodeName: "n", signal: AbortSignal.abort() }), ProblemError);
  assert.deepEqual(readTime("since", "1h30m", 5_400_000), { seconds: 0, nanos: 0 });
});

Deno.test("readFlowsQuery() takes every filter of hubble observe under its name", () => {
  const whitelist = (query: string) => readFlowsQuery(new URLSearchParams(query), 0).whitelist;
  assert.deepEqual(whitelist("workload=Deployment/cart"), [
    { source_workload: [{ kind: "Deployment", name: "cart" }] },
    { destination_workload: [{ kind: "Deployment", name: "cart" }] },
  ]);
  assert.deepEqual(whitelist("namespace=&to-port=80"), [
    { source_pod: ["/"], destination_port: ["80"] },
    { destination_pod: ["/"], destination_port: ["80"] },
  ]);
  assert.deepEqual(
    whitelist("http-status=4%2B&http-header=X-Id:7&ip-trace-id=5&encrypted=false&ip-version=none"),
    [{
      http_status_code: ["4+"],
      http_header: [{ key: "X-Id", value: "7" }],
      ip_trace_id: [5],
      encrypted: [false],
      ip_version: ["IP_NOT_USED"],
    }],
  );
  for (const query of ["http-header=x", "ip-trace-id=0", "encrypted=no", "ip-version=5"]) {
    assert.throws(() => whitelist(query), { code: "QUERY_INVALID" }, query);
  }
});
