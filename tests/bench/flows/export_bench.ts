/**
 * What exporting flows takes from taking them: records taken per second on a loop that is never idle, and the longest time that the loop was
 * held up, without an export, with a file of drops alone (there are none), a file of everything, and an OTLP endpoint (of another
 * process) that takes everything. Ratios of one run, in turns.
 *
 *     deno run -A tests/bench/flows/export_bench.ts
 *
 * @module
 */
import { Health, Logger, MetricsRegistry, systemClock } from "@weir/common";
import { FlowExporter } from "@weir/flow-exporter";
import { runExports } from "@weir/flow-exporter/exports";
import { readStaticLog } from "@weir/flow-exporter/export-specs";
import { readOtlp } from "@weir/flow-exporter/otlp-options";
import { EventBatch } from "@weir/proto/datapath";
import { eventRecords, podNames } from "./events.ts";

const BATCH = 100, ROUNDS = 3, ROUND_MS = 2000;
const directory = await Deno.makeTempDir();
const endpoint = new Deno.Command(Deno.execPath(), {
  args: [
    "eval",
    `Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: ({ port }) => console.log(port) }, async (request) => {
       await request.arrayBuffer();
       return Response.json({});
     });`,
  ],
  stdout: "piped",
}).spawn();
const reader = endpoint.stdout.getReader();
const port = new TextDecoder().decode((await reader.read()).value).trim();

const file = (allowlist: string) =>
  readStaticLog({
    hubbleExportFilePath: `${directory}/flows.log`,
    hubbleExportFileMaxSizeMb: 10,
    hubbleExportFileMaxBackups: 1,
    hubbleExportFileCompress: false,
    hubbleExportAllowlist: allowlist,
    hubbleExportDenylist: "",
    hubbleExportFieldmask: "",
  });
const otlp = readOtlp({
  otlpEndpoint: `http://127.0.0.1:${port}`,
  otlpHeaders: "",
  otlpSignals: ["logs"],
  otlpAllowlist: "",
  otlpDenylist: "",
  otlpFieldmask: "",
  otlpCompression: "none",
  otlpCaFile: "",
  otlpMetricsIntervalS: 60,
});
const kinds = [
  { name: "no export", fixed: undefined, otlp: undefined },
  { name: "file of drops", fixed: file('{"verdict":["DROPPED"]}'), otlp: undefined },
  { name: "file of everything", fixed: file(""), otlp: undefined },
  { name: "OTLP of everything", fixed: undefined, otlp },
].map((kind) => ({ ...kind, taken: 0, sent: 0, ms: 0, heldMs: [] as number[] }));

const batch = EventBatch.create({ records: eventRecords(BATCH), count: BATCH, bootUnixS: 1_795_000_000 });
for (let round = 0; round <= ROUNDS; round++) {
  for (const kind of kinds) {
    const metrics = new MetricsRegistry(), stop = new AbortController();
    const exporter = new FlowExporter({ datapath: undefined as never, names: podNames(), metrics });
    const exporting = runExports({
      ...{ ring: exporter.ring, fixed: kind.fixed, configPath: "", directory, otlp: kind.otlp, services: {} },
      ...{ nodeName: "n", clock: systemClock, metrics, health: new Health(), log: Logger.silent() },
    }, stop.signal);
    const startMs = performance.now();
    let held = 0, count = 0;
    while (performance.now() - startMs < ROUND_MS) {
      exporter.take(batch);
      count += BATCH;
      const beforeMs = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 0));
      held = Math.max(held, performance.now() - beforeMs);
    }
    const ms = performance.now() - startMs;
    stop.abort();
    await exporting;
    if (round === 0) continue;
    kind.taken += count;
    kind.ms += ms;
    kind.heldMs.push(held);
    kind.sent += Number(/^weir_flow_export_flows_total\S* (\d+)$/m.exec(metrics.render())?.[1] ?? 0);
  }
}
const rate = ({ taken, ms }: { taken: number; ms: number }) => taken / ms * 1000;
for (const kind of kinds) {
  const held = kind.heldMs.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)];
  console.log(
    `${kind.name.padEnd(20)} ${Math.round(rate(kind)).toLocaleString("en").padStart(9)} records/s  ${
      (rate(kind) / rate(kinds[0])).toFixed(2)
    } of no export  held up ${held.toFixed(0).padStart(4)} ms  ${
      Math.round(kind.sent / kind.ms * 1000).toLocaleString("en").padStart(7)
    } flows/s exported`,
  );
}
endpoint.kill("SIGKILL");
await reader.cancel();
await Deno.remove(directory, { recursive: true });
Deno.exit(0);
