import assert from "node:assert/strict";
import { MetricsRegistry } from "@weir/common";
import { EventBatch } from "@weir/proto/datapath";
import type { Flow } from "@weir/proto/flow";

import { answerFlows, type FlowAnswer, messageOf } from "./flow_query.ts";
import { FlowRing } from "./flow_ring.ts";
import { type Loss, Losses } from "./losses.ts";

const batch = (...lostBy: [holder: string, lost: number, towards?: string][]) =>
  EventBatch.create({ lostBy: lostBy.map(([holder, lost, towards]) => ({ holder, lost, towards })) });

Deno.test("Losses tells whose events were lost since it was told last, and nothing of before its time", () => {
  const metrics = new MetricsRegistry(), losses = new Losses(metrics), told: Loss[] = [];
  const stop = new AbortController();
  losses.follow((more) => told.push(...more), stop.signal);
  losses.take(batch(["default/noisy", 100]));
  assert.deepEqual(told, [], "that was before");
  losses.take(batch(["default/noisy", 140], ["outside", 5, "default/web"]));
  losses.take(batch());
  losses.take(batch(["default/noisy", 140]));
  assert.deepEqual(told, [{ holder: "default/noisy", lost: 40 }, {
    holder: "outside to default/web",
    lost: 5,
  }]);
  losses.take(batch(["default/noisy", 3]));
  assert.deepEqual(told.at(-1), { holder: "default/noisy", lost: 3 }, "another one of that name");
  stop.abort();
  losses.take(batch(["default/noisy", 9]));
  assert.equal(told.length, 3);
  assert.match(metrics.render(), /weir_flow_events_lost\{holder="outside",towards="default\/web"\} 5/);
});

Deno.test("who follows flows hears whose events were lost, whatever the filter", async () => {
  const losses = new Losses(new MetricsRegistry()), ring = new FlowRing<{ readonly flow: Flow }>(15);
  const stop = new AbortController();
  const request = { follow: true, whitelist: [{ source_pod: ["default/nobody"] }] };
  const answers = await answerFlows(ring, request, { nodeName: "n", signal: stop.signal, losses });
  const next = answers.next();
  losses.take(batch());
  losses.take(batch(["default/noisy", 7]));
  ring.push({ flow: { verdict: "DROPPED" } as Flow });
  const { value } = await next as { value: FlowAnswer<{ readonly flow: Flow }>[] };
  assert.deepEqual(
    value.map(messageOf).map((
      { lost_events, node_name },
    ) => [lost_events?.holder, lost_events?.num_events_lost, node_name]),
    [
      ["default/noisy", 7, "n"],
    ],
  );
  stop.abort();
});
