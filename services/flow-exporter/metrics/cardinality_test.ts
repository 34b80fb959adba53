/** Traffic that is made to fill the metrics: names, addresses and ports without end. @module */
import assert from "node:assert/strict";
import { readExposition } from "@weir/common/testing/exposition";
import { countedFlow } from "./counted_flow.ts";
import { HANDLERS } from "./handlers.ts";
import { SERIES_KEPT_MS } from "./pod_lifetimes.ts";
import { FOLDED_SERIES_MAX, SERIES_MAX } from "./series_table.ts";
import { HandClock, madeFlow, metricsOf } from "./testing.ts";

const EVENTS = 100_000;
const CONTEXT =
  "sourceContext=pod;destinationContext=dns|ip;labelsContext=source_ip,destination_pod,source_workload";
const NASTY = ["other", 'x"} 1', "a\nb", "c\\", "é\u2028", "", "\0"];

/** One of a hundred thousand, each from another pod and address, to another name and port. */
function flowOf(n: number) {
  const pod = { namespace: "shop", pod_name: `attack-${n}` };
  const port = 1 + (n % 60_000);
  const name = NASTY[n] ?? `${n}.example`;
  return madeFlow({
    verdict: n % 2 ? "DROPPED" : "FORWARDED",
    event_type: n % 2 ? { type: 1, sub_type: 133 } : { type: 4, sub_type: 0 },
    IP: {
      source: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`,
      destination: `192.0.2.${n & 255}`,
      ipVersion: "IPv4",
    },
    l4: n % 3
      ? { TCP: { source_port: 40_000, destination_port: port, flags: { SYN: true } } }
      : { UDP: { source_port: 40_000, destination_port: port } },
    source: { ...pod, identity: 300, labels: [], workloads: [{ kind: "Deployment", name: `w-${n}` }] },
    destination: { identity: 2 },
    destination_names: [name],
  });
}

Deno.test("a hundred thousand of everything keep each metric within its budget, and what was folded is told", () => {
  const clock = new HandClock();
  const names = Object.keys(HANDLERS).filter((name) => name !== "http");
  const metrics = metricsOf(names.map((name) => `${name}:${CONTEXT}`).join(" "), { clock });
  for (let n = 0; n < EVENTS; n++) {
    if (n < 500) metrics.pods.change(undefined, { namespace: "shop", podName: `attack-${n}` });
    metrics.count(countedFlow(flowOf(n)));
  }
  const families = readExposition(`${metrics.render().join("\n")}\n`);
  const folded = new Map(
    families.get("weir_metric_series_folded_total")!.samples.map((
      { labels, value },
    ) => [labels.metric, value]),
  );
  let full = 0;
  for (const { name, type, samples } of families.values()) {
    const series = type === "histogram" ? samples.filter((one) => one.name.endsWith("_count")) : samples;
    assert.ok(series.length <= SERIES_MAX + FOLDED_SERIES_MAX + 1, `${name} has ${series.length}`);
    if (series.length >= SERIES_MAX) {
      full++;
      assert.ok(folded.get(name)! > 1000, `${name} does not tell`);
      const other = series.filter(({ labels }) => Object.values(labels).includes("other"));
      const told = other.reduce((sum, { value }) => sum + value, 0);
      assert.ok(told >= folded.get(name)!, `${name}: ${told} under other, ${folded.get(name)} folded`);
    }
  }
  assert.ok(full >= 3, `${full} metrics were filled`);
  const all = families.get("hubble_flows_processed_total")!.samples.reduce(
    (sum, { value }) => sum + value,
    0,
  );
  assert.equal(all, EVENTS, "no event is missing");

  for (let n = 0; n < 500; n++) metrics.pods.change({ namespace: "shop", podName: `attack-${n}` }, undefined);
  clock.ms += SERIES_KEPT_MS;
  const after = readExposition(`${metrics.render().join("\n")}\n`);
  for (const { name, samples } of after.values()) {
    const gone = samples.find(({ labels }) => /^shop\/attack-(\d|\d\d|[0-4]\d\d)$/.test(labels.source ?? ""));
    assert.equal(gone, undefined, `${name} still names a pod that is gone`);
  }
});
