import assert from "node:assert/strict";
import { ApiServer, Health, listenUnix, Logger, MetricsRegistry } from "@weir/common";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { GetFlowsResponse } from "@weir/proto/observer";
import { FlowHistory } from "../../flow-history/history.ts";
import { mountHistory } from "../../flow-history/routes.ts";
import { DROPPED, flowBytes } from "../../flow-history/testing/flows.ts";
import { NOBODY } from "../../flow-history/testing/history.ts";
import type { DropCause, Edge } from "../api.ts";
import { FlowPicture } from "./flow_picture.ts";
import { MapView } from "./map_view.ts";
import { filterOf, Past } from "./past.ts";

const START_MS = 1_790_000_000_000 - 1_790_000_000_000 % 60_000, MINUTES = 10;
const names = { nodeAt: () => undefined, nodeOf: () => undefined };
const window = { sinceS: START_MS / 1000 + 60, untilS: START_MS / 1000 + 60 * (MINUTES - 1) };
const verdict = { event_type: { type: 5, sub_type: 0 }, is_reply: undefined } as const;
const ingress = { traffic_direction: "INGRESS" } as const, egress = { traffic_direction: "EGRESS" } as const;

/** A history of `flows`, its clock at the end of them, and the past that asks it. */
async function pastOf(flows: readonly Uint8Array[]) {
  const directory = await Deno.makeTempDir({ prefix: "weir-past-" }), socket = `${directory}/history.sock`;
  const clock = new FakeClock(START_MS), database = new Database("sqlite::memory:", { clock });
  const history = new FlowHistory({
    ...{ database, clock, health: new Health(), log: Logger.silent(), metrics: new MetricsRegistry() },
    ...{ flowsPerSMax: 1_000_000, owner: "one", onLost() {} },
    limits: { ageMsMax: 7 * 86_400_000, rollupAgeMsMax: 30 * 86_400_000, bytesMax: 1 << 30 },
  });
  await history.load();
  const perMinute = Math.ceil(flows.length / MINUTES);
  for (let n = 0; n < flows.length; n += perMinute) {
    await clock.advance(60_000);
    history.intake.take(flows.slice(n, n + perMinute));
    await history.flush();
  }
  const api = new ApiServer({ name: "flow-history", clock });
  mountHistory(api, history, { clock, relayAway: () => "", ...NOBODY });
  const listener = await listenUnix((request) => api.fetch(request), socket);
  const past = new Past({ address: `unix:${socket}`, names, clock, cluster: "default" });
  return {
    past,
    async close() {
      past.close();
      await listener.shutdown();
      await history.stop();
      await database.close();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** Connection `n` of `count`, evenly over the minutes; each is told of by both ends. */
function connections(count: number, of: (n: number) => [from: string, to: string, isDenied: boolean]) {
  return Array.from({ length: count }, (_, n) => {
    const [from, to, isDenied] = of(n), unixMs = START_MS + Math.floor(n / count * MINUTES * 60_000);
    const words = { unixMs, from, to, port: 8080, sourcePort: 20_000 + n % 40_000 };
    return [
      flowBytes({ ...words, node: "node-a", more: { ...verdict, ...egress } }),
      flowBytes({
        ...words,
        unixMs: unixMs + 1,
        node: "node-b",
        more: isDenied ? { ...DROPPED, ...ingress } : { ...verdict, ...ingress },
      }),
    ];
  }).flat();
}

const numbersOf = ({ id, verdict, flows, allowed, dropped, audited, protocols, reasons }: Edge) => ({
  ...{ id, verdict, flows, allowed, dropped, audited },
  ports: protocols.map(({ protocol, port, flows }) => `${protocol} ${port} ${flows}`),
  reasons: reasons.map(({ reason, count }) => `${reason} ${count}`),
});
const edgesOf = (view: MapView) =>
  view.snapshot().edges.map((text) => numbersOf(JSON.parse(text))).sort((a, b) => a.id < b.id ? -1 : 1);
const causeOf = ({ id, fromName, toName, count, reason, direction, policies }: DropCause) => ({
  ...{ id, fromName, toName, count, reason, direction },
  policies: policies.map(({ name, line }) => `${name}:${line}`),
});

Deno.test("Past makes the same map and causes of sums as flows do, by workload, namespace and label", async () => {
  const flows = connections(200, (n) => [
    ["cart-1", "cart-2", "web-1", ""][n % 4],
    n % 4 === 2 ? "db-1" : "api-1",
    // Some of those of cart come through, and some do not.
    n % 4 === 2 || n % 12 === 0,
  ]);
  const { past, close } = await pastOf(flows);
  try {
    const all = await past.window({ sinceS: START_MS / 1000, untilS: START_MS / 1000 + 60 * MINUTES });
    const picture = new FlowPicture({ names });
    for (const bytes of flows) picture.add(GetFlowsResponse.decode(bytes).flow!, all.untilS);
    for (const group of ["workload", "namespace", "label:app"] as const) {
      const wanted = MapView.ofWindow(group, picture.table, all);
      assert.deepEqual(edgesOf(await all.view(group)), edgesOf(wanted), group);
    }
    assert.deepEqual(all.causes.map(causeOf), picture.causes.list(all.untilS).map(causeOf));
    const [cause] = all.causes;
    assert.equal(cause.trend.reduce((a, b) => a + b, 0), cause.count);
    assert.deepEqual(cause.nodes, ["node-b"]);
    const card = JSON.parse(
      (await all.view("workload")).snapshot().cards.find((text) => text.includes("cart"))!,
    );
    assert.equal(card.pods, 2);
    const nodes = edgesOf(await all.view("node")).map(({ id, dropped }) => `${id} ${dropped}`);
    assert.deepEqual(nodes, ["node:node-a>node:node-b 67", "world>node:node-b 0"]);
  } finally {
    await close();
  }
});

Deno.test("Past counts all flows of a window, also those beyond what it would take one by one", async () => {
  const { past, close } = await pastOf(connections(13_000, (n) => [`cart-${n % 9}`, "db-1", n % 10 === 0]));
  try {
    const { completeness, view, hits, sinceS, untilS, causes } = await past.window({
      sinceS: window.sinceS + 7,
      untilS: window.untilS - 7,
    });
    assert.deepEqual({ sinceS, untilS }, window, "whole minutes");
    assert.equal(completeness.text, "20,800 flows, 100 %");
    const [edge] = edgesOf(await view("workload"));
    assert.deepEqual([edge.verdict, edge.dropped], ["mixed", 1040]);
    assert.equal(causes[0].count, 1040);
    assert.match(
      (await hits()).text,
      /^the newest 20,000 of 20,[0-9]{3} flows/,
      "rules are counted of single flows",
    );
  } finally {
    await close();
  }
});

Deno.test("Past filters sums, and where they hold nothing of it flows, and says so", async () => {
  const { past, close } = await pastOf(
    connections(300, (n) => [n % 3 === 0 ? "web-1" : "cart-1", "db-1", n % 3 === 0]),
  );
  const at = async (text: string) => await past.window(window, filterOf(new URLSearchParams(text)));
  try {
    const web = await at("from-pod=shop/web&last=5");
    assert.deepEqual(edgesOf(await web.view("workload")).map(({ id, dropped }) => `${id} ${dropped}`), [
      "workload:shop/Deployment/web>workload:shop/Deployment/db 80",
    ]);
    assert.equal(web.completeness.text, "160 of 480 flows match, 100 % counted");
    const allowed = await at("verdict=forwarded");
    assert.deepEqual([allowed.causes, edgesOf(await allowed.view("workload")).length], [[], 2]);
    assert.deepEqual((await at("not-from-pod=shop/web")).causes, []);
    const single = await at("ip-version=4&verdict=dropped");
    assert.match(
      single.completeness.text,
      /^80 match, of \d+ flows, 100 %; made of single flows: .*ip_version/,
    );
    assert.equal(single.causes[0].count, 80);
    await assert.rejects(at("verdict=nonsense"), { code: "QUERY_INVALID" });
  } finally {
    await close();
  }
});
