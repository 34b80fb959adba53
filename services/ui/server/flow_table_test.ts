import assert from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { EVENT } from "@weir/proto/numbers";
import { FlowPicture } from "./flow_picture.ts";
import { FlowTable } from "./flow_table.ts";
import { MapView } from "./map_view.ts";

const names = { nodeAt: () => undefined, nodeOf: () => undefined };
const pod = (name: string) => ({
  pod_name: name,
  namespace: "shop",
  identity: 300,
  labels: [`k8s:app=${name}`],
});

/** A flow from one pod to another, of one node. */
function flow(from: string, to: string, port: number, more: Init<Flow> = {}, sourcePort = 40_000): Flow {
  return Flow.create({
    time: { seconds: 100, nanos: 0 },
    verdict: "FORWARDED",
    IP: { source: `10.0.0.${from.length}`, destination: `10.0.1.${to.length}` },
    l4: { TCP: { source_port: sourcePort, destination_port: port } },
    source: pod(from),
    destination: pod(to),
    event_type: { type: EVENT.POLICY_VERDICT },
    ...more,
  });
}
const drop: Init<Flow> = {
  verdict: "DROPPED",
  drop_reason_desc: "POLICY_DENIED",
  event_type: { type: EVENT.DROP },
};

Deno.test("FlowTable counts a connection once, as the worst that became of it, and every drop", () => {
  const table = new FlowTable(names);
  const pair = table.add(flow("cart", "web", 80, { traffic_direction: "EGRESS" }), 100)!;
  table.add(flow("cart", "web", 80, { traffic_direction: "INGRESS" }), 100);
  table.add(flow("cart", "web", 80, { event_type: { type: EVENT.TRACE } }), 100);
  assert.deepEqual([pair.allowed, pair.dropped], [1, 0]);
  table.add(flow("cart", "web", 80, {}, 40_001), 100);
  assert.equal(pair.allowed, 2);
  // Its own end lets it go, the other end denies it: the verdict, then the drop.
  table.add(flow("cart", "web", 80, {}, 40_002), 100);
  table.add(flow("cart", "web", 80, { verdict: "DROPPED" }, 40_002), 100);
  table.add(flow("cart", "web", 80, drop, 40_002), 100);
  assert.deepEqual([pair.allowed, pair.dropped], [2, 1]);
  table.add(flow("cart", "web", 80, {}, 40_002), 100);
  table.add(flow("cart", "web", 80, drop, 40_002), 100);
  assert.deepEqual([pair.allowed, pair.dropped], [2, 2]);
  table.add(flow("cart", "web", 80, { verdict: "AUDIT" }, 40_003), 100);
  assert.deepEqual([pair.allowed, pair.audited], [2, 1]);
});

Deno.test("FlowTable folds what it has no room for into one pair, and forgets what is silent", () => {
  const table = new FlowTable(names, { pairsMax: 3, endsMax: 10 });
  for (let i = 0; i < 20; i++) table.add(flow("cart", `web${"x".repeat(i)}`, 80 + i), 100);
  assert.equal(table.pairs.size, 4);
  assert.equal(table.folded, 17);
  const other = [...table.pairs.values()].find(({ from }) => from.end.kind === "other")!;
  assert.equal(other.allowed, 17);
  table.forget(101);
  assert.equal(table.pairs.size, 1, "only what stands for the others stays");
  assert.equal(table.gone.size, 3);
});

Deno.test("FlowTable takes a flow of the future for one of now, and one without anything as unknown", () => {
  const table = new FlowTable(names);
  const pair = table.add(flow("cart", "web", 80, { time: { seconds: 9e9, nanos: 0 } }), 100)!;
  assert.equal(pair.lastSeenS, 100);
  assert.equal(table.add(Flow.create({}), 100)!.from.end.kind, "unknown");
});

Deno.test("MapView tells each reader what became other since the reader looked, and what went", () => {
  const table = new FlowTable(names), view = new MapView("workload");
  const tick = (nowS: number) => {
    for (const pair of table.changed) view.change(pair);
    for (const pair of table.gone) view.remove(pair);
    table.changed.clear();
    table.gone.clear();
    return view.update(nowS);
  };
  table.add(flow("cart", "web", 80), 100);
  assert.ok(tick(100));
  const first = view.tick;
  assert.deepEqual(
    view.snapshot().cards.map((text) => JSON.parse(text).id),
    ["workload:shop/Pod/cart", "workload:shop/Pod/web"],
  );
  table.add(flow("thief", "web", 80, { ...drop, time: { seconds: 101, nanos: 0 } }), 101);
  assert.ok(tick(101));
  const news = view.since(first)!;
  assert.deepEqual(
    news.cards.map((text) => JSON.parse(text).id).sort(),
    ["workload:shop/Pod/cart", "workload:shop/Pod/thief", "workload:shop/Pod/web"],
    "cart too: its rate fell",
  );
  const edge = JSON.parse(news.edges.find((text) => text.includes("thief"))!);
  assert.deepEqual([edge.verdict, edge.dropped, edge.reasons], ["dropped", 1, [{
    reason: "POLICY_DENIED",
    count: 1,
  }]]);
  assert.deepEqual(view.since(view.tick), { cards: [], edges: [], goneCards: [], goneEdges: [] });
  assert.equal(view.since(view.tick + 1), undefined, "a place that there was not begins anew");
  table.forget(101);
  tick(102);
  const gone = view.since(first)!;
  assert.deepEqual(gone.goneCards, ["workload:shop/Pod/cart"]);
  assert.deepEqual(gone.goneEdges, ["workload:shop/Pod/cart>workload:shop/Pod/web"]);
  for (let i = 0; i < 200; i++) {
    table.add(flow("thief", "web", 80, { ...drop, time: { seconds: 103 + i, nanos: 0 } }, 1000 + i), 103 + i);
    tick(103 + i);
  }
  assert.equal(view.since(first), undefined, "too far behind");
});

Deno.test("MapView folds cards and edges beyond their maxima into other, and says how many", () => {
  const table = new FlowTable(names),
    view = new MapView("workload", { cardsMax: 3, edgesMax: 2, portsPerCardMax: 2, causesMax: 9 });
  for (let i = 0; i < 6; i++) table.add(flow("cart", `web${"x".repeat(i)}`, 80), 100);
  view.begin(table);
  view.update(100);
  const { cards, edges } = view.snapshot();
  assert.ok(cards.some((text) => JSON.parse(text).kind === "other"));
  assert.ok(cards.length <= 4 && edges.length <= 3, `${cards.length} cards, ${edges.length} edges`);
  const flows = edges.reduce((sum, text) => sum + JSON.parse(text).flows, 0);
  assert.equal(flows, 6, "nothing is left out of the sum");
  assert.ok(view.foldedCards.size > 0 && view.foldedEdges.size > 0);
});

Deno.test("FlowPicture adds drops up to causes and verdicts to hits of rules", () => {
  const picture = new FlowPicture({ names }),
    policy = { name: "web", namespace: "shop", kind: "CiliumNetworkPolicy" };
  for (let i = 0; i < 3; i++) {
    const denied = {
      ingress_denied_by: [{ ...policy, path: "spec.ingress", line: 7 }],
      traffic_direction: "INGRESS" as const,
    };
    picture.add(flow("thief", "web", 80, { ...denied, verdict: "DROPPED" }, 50 + i), 100);
    picture.add(flow("thief", "web", 80, { ...drop, ...denied }, 50 + i), 100);
  }
  const causes = picture.causes.list(100);
  assert.equal(causes.length, 1);
  const [{ count, reason, fromName, toName, port, trend }] = causes;
  assert.deepEqual([count, reason, fromName, toName, port], [
    3,
    "POLICY_DENIED",
    "shop/thief",
    "shop/web",
    80,
  ]);
  assert.equal(trend.at(-1), 3);
  const hits = picture.hits.byPolicy().get("cnp:shop/web")!;
  assert.deepEqual(hits.map(({ denied, allowed, line }) => [denied, allowed, line]), [[3, 0, 7]]);
  assert.equal(picture.hits.ofCard("workload:shop/Pod/web")[0].denied, 3);
  assert.deepEqual(picture.strip.since(0).buckets.map(({ flows, dropped }) => [flows, dropped]), [[6, 3]]);
});
