import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer, MetricsRegistry, systemClock } from "@weir/common";
import { EventBatch } from "@weir/proto/datapath";
import { GetFlowsResponse } from "@weir/proto/observer";
import { FlowExporter } from "./flow_exporter.ts";
import { HubbleMetrics } from "./metrics/hubble_metrics.ts";
import { AgentEvents } from "./hubble/agent_events.ts";
import { mountFlowExporter } from "./server.ts";

const names = {
  nodeName: "node-1",
  cluster: "default",
  address: () => undefined,
  identityLabels: () => undefined,
  rule: () => undefined,
  endpointAddresses: () => [],
  endpoint: () => undefined,
  interfaceName: () => "",
  service: () => undefined,
  serviceAt: () => undefined,
};

function batch(reasons: number[]): Uint8Array {
  const bytes = new Uint8Array(reasons.length * 72);
  const view = new DataView(bytes.buffer);
  for (const [i, reason] of reasons.entries()) {
    view.setUint32(i * 72, 64, true);
    bytes[i * 72 + 4] = 1;
    bytes[i * 72 + 5] = reason;
  }
  return bytes;
}

Deno.test("FlowExporter follows the datapath through a cut stream and answers over HTTP", async () => {
  const datapath = new ApiServer({ name: "datapath" });
  let streams = 0;
  datapath.stream({
    path: "/v1/events",
    message: EventBatch,
    source: async function* ({ signal }) {
      streams++;
      yield [EventBatch.create({ records: batch([132, 155]), count: 2, lostRing: 3 })];
      if (streams === 1) return;
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const metrics = new MetricsRegistry();
  const client = new WeirClient({ handler: datapath.fetch });
  const hubble = new HubbleMetrics({ options: "drop flow", clock: systemClock });
  const exporter = new FlowExporter({ datapath: client, names, metrics, hubble });
  const api = new ApiServer({ name: "flow-exporter", metrics });
  const events = new AgentEvents({ nowMs: () => 1_000_000, later: () => {} });
  mountFlowExporter(api, exporter, { nodeName: "node-1", events });
  exporter.start();
  try {
    for (let tries = 0; exporter.ring.seen < 4 && tries < 200; tries++) {
      await new Promise((r) => setTimeout(r, 10));
    }
    assert.equal(streams, 2);
    assert.equal(exporter.waitingFor(), undefined);
    assert.equal(exporter.lost, 3);
    const answer = await api.fetch(new Request("http://x/v1/flows?drop-reason-desc=INVALID_SOURCE_IP"));
    const lines = (await answer.text()).trim().split("\n").map((l) =>
      GetFlowsResponse.fromJson(JSON.parse(l))
    );
    assert.deepEqual(lines.map((l) => l.flow?.drop_reason_desc), ["INVALID_SOURCE_IP", "INVALID_SOURCE_IP"]);
    const masked = await api.fetch(
      new Request("http://x/v1/flows?last=1&field-mask=drop_reason_desc,IP.source"),
    );
    assert.deepEqual(await masked.json(), { flow: { drop_reason_desc: "CT_MAP_INSERTION_FAILED" } });
    const unknown = await api.fetch(new Request("http://x/v1/flows?field-mask=no_such_field"));
    assert.equal(unknown.status, 400);
    const told = await api.fetch(new Request("http://x/v1/agent-events?last=18446744073709551615"));
    assert.deepEqual(await told.json(), {
      agent_event: { type: "AGENT_STARTED", agent_start: { time: "1970-01-01T00:16:40Z" } },
      node_name: "node-1",
      time: "1970-01-01T00:16:40Z",
    });
    assert.equal((await api.fetch(new Request("http://x/v1/agent-events?pod=x"))).status, 400);
    const bad = await api.fetch(new Request("http://x/v1/flows?nonsense=1"));
    assert.equal(bad.status, 400);
    const status = await (await api.fetch(new Request("http://x/v1/status"))).json();
    assert.equal(status.seen_flows, "4");
    const counted = await (await api.fetch(new Request("http://x/metrics"))).text();
    assert.match(counted, /^hubble_drop_total\{reason="INVALID_SOURCE_IP",protocol="Unknown L4"\} 2$/m);
    assert.match(counted, /^hubble_lost_events_total\{source="perf_event_ring_buffer"\} 3$/m);
  } finally {
    await exporter.stop();
  }
});

Deno.test("FlowExporter.take() counts what it cannot read and goes on", () => {
  const metrics = new MetricsRegistry();
  const exporter = new FlowExporter({
    datapath: new WeirClient({ handler: () => new Response() }),
    names,
    metrics,
  });
  const good = batch([132]);
  const bytes = new Uint8Array(good.length + 8);
  bytes.set(good);
  bytes[good.length] = 255;
  exporter.take(EventBatch.create({ records: bytes }));
  assert.equal(exporter.ring.seen, 1);
  assert.match(metrics.render(), /weir_flow_records_unread_total\{why="broken batch"\} 1/);
});
