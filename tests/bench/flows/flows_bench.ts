/**
 * What flows cost from the datapath's ring to a reader, on one core each: records taken, flows built, flows encoded, flows sent to one
 * and to ten readers, and to the real client where it is built. Figures are of one run; compare the ratios.
 *
 *     deno run -A tests/bench/flows/flows_bench.ts
 *
 * @module
 */
import process from "node:process";
import { MetricsRegistry } from "@weir/common";
import { FlowExporter, RING_FLOWS_DEFAULT, RING_FLOWS_MAX } from "@weir/flow-exporter";
import { AgentEvents, Namespaces, observerMethods } from "@weir/flow-exporter/hubble";
import { GrpcServer } from "@weir/grpc";
import { EventBatch } from "@weir/proto/datapath";
import type { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { eventRecords, podNames } from "./events.ts";

const BATCH = 1000, ROUND_CPU_S = 1;
const names = podNames();
const exporterOf = (ringFlows: number) =>
  new FlowExporter({ datapath: undefined as never, names, metrics: new MetricsRegistry(), ringFlows });
const exporter = exporterOf(RING_FLOWS_DEFAULT);
const batch = EventBatch.create({ records: eventRecords(BATCH), count: BATCH, bootUnixS: 1_795_000_000 });

/** Repeats a piece of work; units per second of processor time, which others on the machine change least. */
function rate(units: number, work: () => void): number {
  for (let warm = 0; warm < 3; warm++) work();
  const start = cpuS();
  let done = 0;
  while (cpuS() - start < ROUND_CPU_S) {
    work();
    done += units;
  }
  return done / (cpuS() - start);
}

function cpuS(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const rows: [string, number, string][] = [];
exporter.take(batch);
// A record of a new connection is two events.
const eventsPerRecord = exporter.ring.seen / BATCH;
rows.push([
  "events from the ring to flows in memory",
  rate(BATCH * eventsPerRecord, () => exporter.take(batch)),
  "/s",
]);

const fresh = () => {
  exporter.take(batch);
  return exporter.ring.last(BATCH, () => true);
};
const both = rate(BATCH, () => fresh().forEach((seen) => seen.flow));
rows.push(["the same, and each flow built", both, "/s"]);
const flows = fresh().map((seen) => seen.flow);
rows.push(["flows encoded (protobufjs)", rate(BATCH, () => flows.forEach((flow) => encode(flow))), "/s"]);
function encode(flow: Flow): Uint8Array {
  return GetFlowsResponse.encode({ flow, node_name: flow.node_name, time: flow.time });
}
rows.push(["bytes of a flow", encode(flows[0]).length, "B"]);

const large = exporterOf(RING_FLOWS_MAX);
for (let n = 0; n < RING_FLOWS_MAX; n += BATCH) large.take(batch);
const directory = await Deno.makeTempDir(), path = `${directory}/hubble.sock`;
const server = new GrpcServer({
  methods: observerMethods({
    exporter: large,
    events: new AgentEvents({ nowMs: Date.now, later: () => {} }),
    namespaces: new Namespaces(Date.now),
    nodeName: "node-1",
    cluster: "default",
    uptimeMs: () => 1,
    address: () => path,
    isTls: false,
  }),
});
await server.listen({ path });
try {
  for (const readers of [1, 1, 10]) {
    const children = Array.from({ length: readers }, () =>
      new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", new URL("reader.ts", import.meta.url).pathname, path],
        stdout: "piped",
      }).spawn());
    const outputs = await Promise.all(children.map((child) => child.output()));
    const rates = outputs.map(({ stdout }) => Number(new TextDecoder().decode(stdout)));
    rows.push([
      `flows to ${readers} reader${readers > 1 ? "s, in all" : ""}`,
      rates.reduce((a, b) => a + b, 0),
      "/s",
    ]);
  }
  const client = new URL("../../../.build/hubble/hubble", import.meta.url).pathname;
  if (await Deno.stat(client).then(() => true, () => false)) {
    for (const format of ["compact", "jsonpb"]) {
      const start = performance.now();
      const { stdout } = await new Deno.Command(client, {
        args: ["observe", "--all", "-o", format, "--server", `unix://${path}`, "--config", "/dev/null"],
      }).output();
      const lines = stdout.filter((byte) => byte === 10).length;
      rows.push([`flows to hubble observe -o ${format}`, lines / ((performance.now() - start) / 1000), "/s"]);
    }
  }
} finally {
  await server.stop();
  await Deno.remove(directory, { recursive: true });
}
for (const [what, value, unit] of rows) {
  console.log(`${what.padEnd(48)} ${Math.round(value).toLocaleString("en").padStart(12)} ${unit}`);
}
Deno.exit(0);
