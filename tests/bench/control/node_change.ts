/**
 * What one changed ipcache entry costs a node, through the real allocator, endpoint manager, datapath service and kernel
 * map, with many entries beside it.
 *
 *     iso deno run -A tests/bench/control/node_change.ts [--entries 100000] [--changes 500] [--every-ms 20]
 *
 * CPU of all threads, from /proc/PID/task/TID/schedstat: of the changes, beside the same time at rest. Then the same changes in
 * a burst. A change counts when the datapath's API shows it.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { MapDump } from "@weir/proto/datapath";
import {
  AllocateRequest,
  AllocateResponse,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
} from "@weir/proto/identity";
import { until } from "@weir/common/testing/until";
import { BENCH_NODE, BenchHost } from "./bench_host.ts";

const { values } = parseArgs({
  options: {
    entries: { type: "string", default: "100000" },
    changes: { type: "string", default: "500" },
    "every-ms": { type: "string", default: "20" },
  },
});
const entriesCount = Number(values.entries), changes = Number(values.changes);
const everyMs = Number(values["every-ms"]);
const SERVICES = ["endpoint-manager", "datapath", "identity-allocator"] as const;
const PODS_PER_NODE = 100, REST_MS = 10_000;
/** Label sets of the pods. */
const LABEL_SETS = 300;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** CPU of all threads of a process, in ms. */
function cpuMs(pid: number): number {
  let ns = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0]);
    } catch { /* the thread has ended */ }
  }
  return ns / 1e6;
}

const nodeOf = (i: number) => Math.floor(i / PODS_PER_NODE);
const nodeIpv4 = (n: number) => `172.16.${n >> 8}.${n & 255}`;
const prefixOf = (i: number) => `10.${100 + (nodeOf(i) >> 8)}.${nodeOf(i) & 255}.${2 + i % PODS_PER_NODE}/32`;
const entryOf = (i: number, identity: number) => ({
  prefix: prefixOf(i),
  identity,
  node: `far-${nodeOf(i)}`,
  nodeIpv4: nodeIpv4(nodeOf(i)),
  endpoint: `default/p${i}`,
});
const identities: number[] = [];
let serial = 0;
const nextIdentity = () => identities[serial++ % identities.length];

await using host = new BenchHost();
await host.start();
const allocator = host.client("identity-allocator"), datapath = host.client("datapath");
const pids = await host.pids();
/** Each service's CPU so far, in ms. */
const moment = () => SERVICES.map((name) => cpuMs(pids.get(name)!));
const print = (what: string, ms: readonly number[], per: number) =>
  console.log(
    `${what.padEnd(44)} ${SERVICES.map((name, i) => `${name} ${(ms[i] / per).toFixed(2)} ms`).join("  ")}`,
  );

for (let set = 0; set < LABEL_SETS; set++) {
  const labels = [`k8s:app=a${set}`, "k8s:io.kubernetes.pod.namespace=default"];
  const { identity } = await allocator.call("/v1/identities:allocate", {
    request: { message: AllocateRequest, value: { labels, node: BENCH_NODE, holder: `bench-${set}` } },
    response: AllocateResponse,
  });
  identities.push(identity!.number);
}
let last = 0;
for (let n = 0; n <= nodeOf(entriesCount - 1); n++) {
  const name = `far-${n}`;
  await allocator.collection("nodes", Node).put(name, { name, ipv4: nodeIpv4(n) });
  const upserts = [];
  for (let i = n * PODS_PER_NODE; i < Math.min(entriesCount, (n + 1) * PODS_PER_NODE); i++) {
    upserts.push(entryOf(i, last = nextIdentity()));
  }
  await allocator.call("/v1/ipcache:update", {
    request: { message: IpcacheBatch, value: { node: name, upserts } },
    response: IpcacheBatchResponse,
  });
}
const ipcache = allocator.collection("ipcache", IpcacheEntry);
/** Waits until the kernel has these; what looking costs the services meanwhile. */
async function inKernel(wanted: ReadonlyMap<string, number>): Promise<number[]> {
  const before = moment();
  await until(() => `${wanted.size} changed entries in the kernel`, async () => {
    const dump = await datapath.call("/v1/maps/ipcache", { method: "GET", response: MapDump });
    let found = 0;
    for (const { fields } of dump.rows) {
      if (wanted.get(fields.prefix) === Number(fields.identity)) found++;
    }
    return found === wanted.size;
  }, 2000);
  return moment().map((ms, i) => ms - before[i]);
}
await inKernel(new Map([[prefixOf(entriesCount - 1), last]]));
await pause(REST_MS);
let before = moment();
await pause(REST_MS);
const restPerMs = moment().map((ms, i) => (ms - before[i]) / REST_MS);
console.log(`${entriesCount} entries, ${changes} changes; load ${Deno.loadavg()[0].toFixed(1)}`);
print("at rest, each second", restPerMs, 1 / 1000);

for (const [what, gapMs] of [[`one change each ${everyMs} ms`, everyMs], ["in a burst", 0]] as const) {
  const wanted = new Map<string, number>(), startMs = performance.now();
  before = moment();
  for (let k = 0; k < changes; k++) {
    const i = k * 7919 % entriesCount, identity = nextIdentity();
    wanted.set(prefixOf(i), identity);
    await ipcache.put(prefixOf(i), entryOf(i, identity));
    if (gapMs > 0) await pause(gapMs);
  }
  await pause(3000);
  const spent = moment(), elapsedMs = performance.now() - startMs;
  await inKernel(wanted);
  print(
    `${what}, CPU per change beyond rest`,
    spent.map((ms, i) => ms - before[i] - restPerMs[i] * elapsedMs),
    changes,
  );
}
allocator.close();
datapath.close();
