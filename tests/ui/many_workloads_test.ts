/** The page with 1,000 workloads and 5,000 edges: flows of an Observer on a socket, through the real server, into the browser. @module */
import assert from "node:assert/strict";
import { Health, Logger, MetricsRegistry, systemClock } from "@weir/common";
import { GrpcServer, keepListening, streamingBytes } from "@weir/grpc";
import { WeirClient } from "@weir/client";
import { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { startUi } from "@weir/ui";
import { until } from "@weir/common/testing/until";
import { Chromium, hasChromium, seriousFindings } from "./browser.ts";

const WORKLOADS = 1000, EDGES = 5000, NAMESPACES = 20;
const root = new URL("../../", import.meta.url).pathname;

/** The i-th flow: always the same ends. */
function flowOf(i: number): Flow {
  const end = (n: number) => ({
    pod_name: `app-${n}`,
    namespace: `team-${n % NAMESPACES}`,
    identity: 1000 + n,
    labels: [`k8s:app=app-${n}`],
    workloads: [{ name: `app-${n}`, kind: "Deployment" }],
  });
  const from = i % WORKLOADS, to = (from + 1 + Math.floor(i / WORKLOADS) * 7) % WORKLOADS;
  const isDrop = i % 50 === 0, nowMs = Date.now();
  return Flow.create({
    time: { seconds: Math.floor(nowMs / 1000), nanos: 0 },
    verdict: isDrop ? "DROPPED" : "FORWARDED",
    drop_reason_desc: isDrop ? "POLICY_DENIED" : "DROP_REASON_UNKNOWN",
    event_type: { type: isDrop ? EVENT.DROP : EVENT.POLICY_VERDICT },
    IP: { source: `10.0.${from >> 8}.${from & 255}`, destination: `10.0.${to >> 8}.${to & 255}` },
    l4: { TCP: { source_port: 30_000 + i, destination_port: 8080 } },
    source: end(from),
    destination: end(to),
    node_name: "default/node-1",
  });
}

Deno.test({
  name:
    "the map of 1,000 workloads and 5,000 edges is there, folds nothing, and says nothing serious to axe-core",
  ignore: !await hasChromium(),
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "weir-ui-" }), stop = new AbortController();
    const log = Logger.silent(), socket = `${directory}/hubble-relay.sock`;
    const server = new GrpcServer({
      methods: {
        "/observer.Observer/GetFlows": streamingBytes(
          GetFlowsRequest,
          async function* (_request, { signal }) {
            for (let i = 0; i < EDGES; i += 500) {
              const batch = Array.from(
                { length: 500 },
                (_, j) => GetFlowsResponse.encode({ flow: flowOf(i + j) }),
              );
              yield batch;
            }
            await systemClock.sleep(600_000, signal);
          },
        ),
      },
      log,
      clock: systemClock,
    });
    keepListening(server, {
      socket,
      tcp: undefined,
      tlsDirectory: "",
      health: new Health(),
      metrics: new MetricsRegistry(),
      log,
      clock: systemClock,
      signal: stop.signal,
    });
    const away = `unix:${directory}/nobody.sock`;
    const ui = await startUi({
      listen: "127.0.0.1:0",
      page: `${root}.build/ui`,
      log,
      services: {
        flowSockets: [socket],
        identityAllocator: away,
        policyEngine: away,
        status: { nodes: [], client: () => new WeirClient(away), clientAt: () => new WeirClient(away) },
      },
    });
    let browser: Chromium | undefined;
    try {
      const map = async () => await (await fetch(`${ui.address}api/map?group=workload`)).json();
      await until("the map is whole", async () => {
        const { cards, edges } = await map();
        return cards.length === WORKLOADS && edges.length === EDGES;
      });
      const { foldedCards, foldedEdges } = await map();
      assert.deepEqual([foldedCards, foldedEdges], [0, 0]);
      browser = await Chromium.start();
      const { page, complaints } = await browser.open(`${ui.address}map`);
      await page.getByText("1,000 cards, 5,000 edges").first().waitFor();
      assert.deepEqual(await seriousFindings(page), []);
      assert.deepEqual(complaints, []);
      await page.close();
      const drops = await browser.open(`${ui.address}drops`);
      await drops.page.getByText("100 causes").first().waitFor();
      await drops.page.close();
    } finally {
      await browser?.stop();
      await ui.stop();
      stop.abort();
      server.stop();
      await Deno.remove(directory, { recursive: true });
    }
  },
});
