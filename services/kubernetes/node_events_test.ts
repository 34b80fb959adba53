import assert from "node:assert/strict";
import { ApiServer, WatchedTable } from "@weir/common";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { KubernetesPod, NodeEvent } from "@weir/proto/kubernetes";
import { ApiClient } from "./api/client.ts";
import { RESOURCES } from "./api/resource.ts";
import { NodeEvents } from "./node_events.ts";
import { FakeApiServer } from "./testing/fake_api_server.ts";

/** Events at an API server that takes what is written. */
class Bench implements AsyncDisposable {
  readonly clock = new FakeClock(1_700_000_000_000);
  readonly server = new FakeApiServer(RESOURCES.Event);
  readonly client = new ApiClient({ server: this.server.url, authorities: [] });
  readonly written: { method: string; path: string; body: Record<string, unknown> }[] = [];
  readonly pods = new WatchedTable<KubernetesPod>({ name: "pods" });
  readonly events: NodeEvents;
  gone = false;

  constructor() {
    this.server.intercept = async (request, url) => {
      if (request.method === "GET") {
        const body = {
          apiVersion: "v1",
          kind: "Service",
          metadata: { name: "web", namespace: "shop", uid: "svc-1" },
        };
        return Response.json(body);
      }
      if (request.method === "PATCH" && this.gone) {
        const body = { kind: "Status", status: "Failure", reason: "NotFound", code: 404, message: "gone" };
        return Response.json(body, { status: 404 });
      }
      const body = await request.json();
      this.written.push({ method: request.method, path: url.pathname, body });
      return Response.json({ ...body, metadata: { name: "e", ...body.metadata } });
    };
    this.pods.put("shop/web-0", KubernetesPod.create({ name: "shop/web-0", uid: "u1", node: "node-1" }));
    const { log, metrics } = new ApiServer({ name: "kubernetes" });
    this.events = new NodeEvents({ client: this.client, pods: this.pods, clock: this.clock, log, metrics });
  }

  tell(change: Partial<NodeEvent> = {}, node = "node-1") {
    const pod = { kind: "Pod", namespace: "shop", name: "web-0", uid: "u1" };
    const event = NodeEvent.create({
      node: "node-1",
      ...pod,
      reason: "AddressesExhausted",
      message: "no more",
      ...change,
    });
    // deno-lint-ignore no-explicit-any
    return this.events.tell(event, { role: "node", node } as any);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    await this.server[Symbol.asyncDispose]();
  }
}

Deno.test("NodeEvents writes an Event beside the pod, counts what is repeated, and begins anew when it is gone", async () => {
  await using bench = new Bench();
  assert.equal((await bench.tell()).written, true);
  assert.equal((await bench.tell()).written, false, "said a moment ago");
  await bench.clock.advance(15_000);
  await bench.tell({ message: "still no more" });
  const [first, second] = bench.written.splice(0);
  assert.deepEqual([first.method, first.path], ["POST", "/api/v1/namespaces/shop/events"]);
  const { involvedObject, reason, type, count, source } = first.body;
  assert.deepEqual({ involvedObject, reason, type, count, source }, {
    involvedObject: { apiVersion: "v1", kind: "Pod", namespace: "shop", name: "web-0", uid: "u1" },
    reason: "AddressesExhausted",
    type: "Warning",
    count: 1,
    source: { component: "weir", host: "node-1" },
  });
  assert.deepEqual([second.method, second.body.count, second.body.message], ["PATCH", 2, "still no more"]);
  bench.gone = true;
  await bench.clock.advance(15_000);
  await bench.tell();
  assert.deepEqual(bench.written.map(({ method, body }) => [method, body.count]), [["POST", 1]]);
});

Deno.test("NodeEvents looks a Service up by its name, for people ask by its uid", async () => {
  await using bench = new Bench();
  await bench.tell({ kind: "Service", name: "web", uid: "", reason: "HealthCheckPortFailed" });
  assert.equal((bench.written[0].body.involvedObject as { uid: string }).uid, "svc-1");
});

Deno.test("NodeEvents takes from a node only what is about its own pods, and no flood", async () => {
  await using bench = new Bench();
  const cases: [Partial<NodeEvent>, string, string][] = [
    [{}, "node-2", "NOT_OWNER"],
    [{ node: "node-2" }, "node-2", "NOT_OWNER"],
    [{ uid: "u0" }, "node-1", "NOT_OWNER"],
    [{ name: "other" }, "node-1", "NOT_OWNER"],
    [{ kind: "Secret" }, "node-1", "INVALID_ARGUMENT"],
    [{ reason: "no word" }, "node-1", "INVALID_ARGUMENT"],
    [{ namespace: "" }, "node-1", "INVALID_ARGUMENT"],
  ];
  for (const [change, node, code] of cases) {
    await assert.rejects(bench.tell(change, node), { code }, JSON.stringify(change));
  }
  let written = 0;
  for (let i = 0; i < 100; i++) {
    written += Number((await bench.tell({ kind: "Service", name: `s${i}`, uid: "" })).written);
  }
  assert.equal(written, 50);
  assert.equal(bench.written.length, 50);
});
