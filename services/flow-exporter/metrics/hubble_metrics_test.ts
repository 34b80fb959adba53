import { deepEqual, equal, match } from "node:assert/strict";
import { madeFlow, metricsOf, seriesOf } from "./testing.ts";
import { HandClock } from "./testing.ts";
import { SERIES_KEPT_MS } from "./pod_lifetimes.ts";
import { FOLDED_SERIES_MAX, SeriesTable } from "./series_table.ts";
import { workloadOf } from "@weir/common";
import { readExposition } from "@weir/common/testing/exposition";

const CART = { namespace: "shop", podName: "cart-7d4b9c6f5b-x2x4z" },
  DB = { namespace: "shop", podName: "db-0" };

Deno.test("HubbleMetrics drops the series of a pod one minute after its last address", () => {
  const clock = new HandClock();
  const metrics = metricsOf(
    "drop:sourceContext=pod flow:destinationContext=workload tcp:labelsContext=source_ip port-distribution",
    { clock },
  );
  const drop = madeFlow({ verdict: "DROPPED", event_type: { type: 1, sub_type: 133 } });
  metrics.pods.change(undefined, CART);
  metrics.pods.change(undefined, CART);
  metrics.pods.change(undefined, DB);
  equal(seriesOf(metrics, madeFlow(), drop).length, 5);
  metrics.pods.change(CART, undefined);
  clock.ms += SERIES_KEPT_MS;
  equal(seriesOf(metrics).length, 5, "it has its other address");
  metrics.pods.change(CART, undefined);
  clock.ms += SERIES_KEPT_MS - 1;
  equal(seriesOf(metrics).length, 5);
  clock.ms += 1;
  const names = seriesOf(metrics).map((line) => line.split("{")[0]);
  deepEqual([...new Set(names)], ["hubble_flows_processed_total", "hubble_port_distribution_total"]);
  metrics.pods.change(DB, undefined);
  clock.ms += SERIES_KEPT_MS;
  deepEqual(seriesOf(metrics).map((line) => line.split("{")[0]), ["hubble_port_distribution_total"]);
});

Deno.test("HubbleMetrics keeps the series of a pod that comes back within the minute, or only changes its address", () => {
  const clock = new HandClock(), metrics = metricsOf("tcp:sourceContext=pod", { clock });
  metrics.pods.change(undefined, CART);
  seriesOf(metrics, madeFlow());
  metrics.pods.change(CART, CART);
  clock.ms += 2 * SERIES_KEPT_MS;
  metrics.pods.change(CART, undefined);
  clock.ms += SERIES_KEPT_MS / 2;
  metrics.pods.change(undefined, CART);
  clock.ms += 2 * SERIES_KEPT_MS;
  equal(seriesOf(metrics).length, 1);
});

Deno.test("a metric folds what its budget has no room for into other, and counts it", () => {
  const metrics = metricsOf("port-distribution:sourceContext=ip flow", { seriesMax: 3 });
  const from = (n: number) =>
    madeFlow({
      IP: { source: `10.0.1.${n}`, destination: "10.0.2.7", ipVersion: "IPv4" },
      l4: { TCP: { source_port: 1, destination_port: 1000 + n, flags: {} } },
    });
  const lines = seriesOf(metrics, ...Array.from({ length: 10 }, (_, n) => from(n)), from(1));
  deepEqual(lines.filter((line) => line.startsWith("hubble_port")), [
    'hubble_port_distribution_total{protocol="TCP",port="1000",source="10.0.1.0"} 1',
    'hubble_port_distribution_total{protocol="TCP",port="1001",source="10.0.1.1"} 2',
    'hubble_port_distribution_total{protocol="TCP",port="1002",source="10.0.1.2"} 1',
    'hubble_port_distribution_total{protocol="TCP",port="other",source="other"} 7',
  ]);
  const folded = metrics.render().filter((line) => line.startsWith("weir_metric_series_folded_total"));
  deepEqual(folded, ['weir_metric_series_folded_total{metric="hubble_port_distribution_total"} 7']);
});

Deno.test("SeriesTable has a bound for folded series too, room again when things go, and escapes values", () => {
  const table = new SeriesTable({ name: "m", help: "h", labels: [{ name: "a" }] }, 2);
  for (let n = 0; n < 1000; n++) table.add([`${n}`], () => [`pod ${n}`]);
  equal(table.size, 2 + FOLDED_SERIES_MAX + 1);
  equal(table.value(["other"]), 1000 - 2 - FOLDED_SERIES_MAX);
  table.forget("pod 0");
  table.add(['"\\\n'], () => []);
  match(table.render().join("\n"), /^m\{a="\\"\\\\\\n"\} 1$/m);
  equal(table.value(["0"]), 0);
});

Deno.test("SeriesTable counts who is called other in the series of what was folded: no series comes twice", () => {
  for (const names of [["other", "a", "b", "c"], ["a", "b", "c", "other"]]) {
    const table = new SeriesTable({ name: "m", help: "h", labels: [{ name: "a", isOpen: true }] }, 2);
    for (const name of names) table.add([name], () => []);
    const samples = readExposition(`${table.render().join("\n")}\n`).get("m")!.samples;
    equal(samples.reduce((sum, { value }) => sum + value, 0), 4);
  }
});

Deno.test("SeriesTable shares no memory with who gives it values, and forgets each series whole", () => {
  const table = new SeriesTable({ name: "m", help: "h", labels: [{ name: "a" }, { name: "b" }] });
  const values = ["x", "y"];
  table.add(values, () => ["pod x", "pod y"]);
  values[0] = "z";
  deepEqual(table.render().at(-1), 'm{a="x",b="y"} 1');
  table.forget("pod y");
  table.forget("pod x");
  equal(table.size, 0);
});

Deno.test("HubbleMetrics tells what was lost by Hubble's three sources", () => {
  const metrics = metricsOf("");
  metrics.lost({ lostRing: 3, lostStream: 2 }, 1);
  deepEqual(metrics.render().filter((line) => line.startsWith("hubble_lost_events_total{")), [
    'hubble_lost_events_total{source="perf_event_ring_buffer"} 3',
    'hubble_lost_events_total{source="observer_events_queue"} 2',
    'hubble_lost_events_total{source="hubble_ring_buffer"} 1',
  ]);
  equal(metrics.isOn, false);
});

Deno.test("workloadOf() reads the names that Kubernetes' controllers give", () => {
  const cases: [string, string | undefined][] = [
    ["cart-7d4b9c6f5b-x2x4z", "Deployment cart"],
    ["cart-v2-6b474476c4-zzzzz", "Deployment cart-v2"],
    ["node-agent-x2x4z", "DaemonSet node-agent"],
    ["db-0", "StatefulSet db"],
    ["db", "Pod db"],
    ["web-apple", "Pod web-apple"],
    ["", undefined],
  ];
  for (const [pod, expected] of cases) {
    const found = workloadOf(pod);
    equal(found && `${found.kind} ${found.name}`, expected, pod);
  }
});
