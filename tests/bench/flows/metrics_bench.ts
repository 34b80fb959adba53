/**
 * What counting for Prometheus adds to taking note of flows: CPU per event from the datapath's record to the ring, without metrics, with
 * those of the default, and with the names of pods on both sides. Ratios of one run, in turns.
 *
 *     deno run -A tests/bench/flows/metrics_bench.ts [--before FOLDER]
 *
 * `--before`: another checkout, measured beside it.
 * @module
 */
import process from "node:process";
import { WeirClient } from "@weir/client";
import { MetricsRegistry, systemClock } from "@weir/common";
import { EventBatch } from "@weir/proto/datapath";
import { EVENT_FLAG } from "@weir/proto/numbers";

const CONNECTIONS = 5000, ROUNDS = 7;
const root = new URL("../../../", import.meta.url).pathname;

/** A TCP SYN of 10.0.a.b to 10.0.2.c:80, allowed on both sides and delivered: three events of one record. */
function batch(): Uint8Array {
  const size = 136, bytes = new Uint8Array(CONNECTIONS * size), view = new DataView(bytes.buffer);
  for (let n = 0; n < CONNECTIONS; n++) {
    const at = n * size, record = at + 4, packet = record + 64;
    view.setUint32(at, size - 4, true);
    bytes[record] = 5;
    view.setUint16(record + 2, 1 + n % 100, true);
    view.setUint16(record + 4, 101 + n % 20, true);
    view.setUint16(record + 6, 60, true);
    view.setUint32(record + 16, 256 + n % 100, true);
    view.setUint32(record + 20, 400 + n % 20, true);
    // Both ends were asked.
    bytes[record + 36] = EVENT_FLAG.EGRESS_VERDICT | EVENT_FLAG.INGRESS_VERDICT;
    bytes.set([0x08, 0x00, 0x45], packet + 12);
    bytes[packet + 23] = 6;
    bytes.set([10, 0, 1, n % 100, 10, 0, 2, n % 20], packet + 26);
    view.setUint16(packet + 34, 32768 + n);
    view.setUint16(packet + 36, 80);
    bytes[packet + 47] = 2;
  }
  return bytes;
}

const names = {
  nodeName: "n",
  cluster: "c",
  address: (ip: string) => ({
    identity: 300,
    namespace: "shop",
    podName: `pod-${ip}`,
    labels: ["k8s:app=x"],
  }),
  identityLabels: () => ["k8s:app=x", "k8s:io.kubernetes.pod.namespace=shop"],
  rule: () => undefined,
  endpointAddresses: () => ["10.0.2.1"],
  endpoint: () => undefined,
  interfaceName: () => "weir1",
  service: () => undefined,
  serviceAt: () => undefined,
};

/** Processor time so far: what others on the machine do changes it least. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

interface Taker {
  take(batch: EventBatch): void;
  readonly ring: { readonly seen: number };
}

async function exporterOf(tree: string, options: string): Promise<Taker> {
  const { FlowExporter } = await import(`${tree}services/flow-exporter/flow_exporter.ts`);
  let hubble;
  if (options !== "before") {
    const { HubbleMetrics } = await import(`${tree}services/flow-exporter/metrics/hubble_metrics.ts`);
    hubble = new HubbleMetrics({ options, clock: systemClock });
  }
  const datapath = new WeirClient({ handler: () => new Response() });
  return new FlowExporter({ datapath, names, metrics: new MetricsRegistry(), hubble });
}

const PODS = "sourceContext=pod|reserved-identity;destinationContext=pod|reserved-identity";
const before = Deno.args[0] === "--before" ? `${Deno.realPathSync(Deno.args[1])}/` : undefined;
const takers: [string, Taker][] = [
  ...(before ? [["before", await exporterOf(before, "before")] as [string, Taker]] : []),
  ["no metrics", await exporterOf(root, "")],
  ["default", await exporterOf(root, "default")],
  ["flow by pods", await exporterOf(root, `flow:${PODS}`)],
];
const taken = EventBatch.create({ records: batch() }), spent = takers.map((): number[] => []);
for (let round = 0; round < ROUNDS; round++) {
  for (const [i, [, taker]] of takers.entries()) {
    const startMs = cpuMs();
    for (let n = 0; n < 4; n++) taker.take(taken);
    if (round > 0) spent[i].push(cpuMs() - startMs);
  }
}
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const first = median(spent[0]);
console.log(`${takers[0][1].ring.seen / ROUNDS / 4 / CONNECTIONS} events per connection`);
for (const [i, [name]] of takers.entries()) {
  const ms = median(spent[i]);
  const events = takers[i][1].ring.seen / ROUNDS / (ms / 1000);
  console.log(
    `${name.padEnd(14)} ${(ms * 1000 / 4 / CONNECTIONS).toFixed(1)} us per connection, ${
      (Math.round(events / 1000) * 1000).toLocaleString("en-US")
    } events/s  ${(ms / first).toFixed(2)} of ${takers[0][0]}`,
  );
}
