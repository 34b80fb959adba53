/**
 * A large cluster by its objects alone: 5,000 nodes and 100,000 pods through the reflectors, and through the operator in slices and as
 * single endpoints. Memory and processor time are this process's, requests and bytes are counted by the API server, which
 * makes the objects up in a process of its own.
 *
 *     deno run -A tests/bench/kubernetes/large_cluster.ts [--nodes 5000] [--pods 100000] [--namespaces 500]
 *
 * @module
 */
import { parseArgs } from "node:util";
import process from "node:process";
import { ApiServer } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { ApiClient } from "@weir/kubernetes/api";
import { KubernetesPod } from "@weir/proto/kubernetes";
import { createIdentityAllocator } from "../../../services/identity-allocator/mod.ts";
import { createLoadBalancer } from "../../../services/load-balancer/mod.ts";
import { createPolicyEngine } from "../../../services/policy-engine/mod.ts";
import { createKubernetesService } from "../../../services/kubernetes/mod.ts";
import { endpointPart } from "../../../services/kubernetes/operator/endpoint_part.ts";
import { endpointSlicePart, SLICE_PACE } from "../../../services/kubernetes/operator/endpoint_slice_part.ts";
import { Feeds } from "../../../services/kubernetes/operator/feeds.ts";
import { type Part, runPart } from "../../../services/kubernetes/operator/part.ts";
import { LEASE_TIMES, Term } from "../../../services/kubernetes/operator/term.ts";
import { waitFor } from "../../kubernetes/cluster/process.ts";
import { WeirServices } from "../../kubernetes/weir_services.ts";

const WAIT_S = 1800;
/** One of so many pods goes: from every namespace, and nearly every slice. */
const GO_EACH = 101;
/** As fast as it goes: only the number of requests is compared. */
const NO_LIMIT = { ratePerS: 100_000, burst: 100_000, parallelMax: 16, delayMs: 500 };

interface Counted {
  requests: Record<string, number>;
  bytesRead: number;
  bytesWritten: number;
  bytesWatched: number;
}

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "5000" },
    pods: { type: "string", default: "100000" },
    namespaces: { type: "string", default: "500" },
  },
});
const pods = Number(values.pods), namespaces = Number(values.namespaces);
const child = new Deno.Command(Deno.execPath(), {
  args: [
    ...["run", "-A", "--quiet", "--no-check", new URL("made_up_api_server.ts", import.meta.url).pathname],
    ...[values.nodes, values.pods, values.namespaces],
  ],
  stdout: "piped",
}).spawn();
try {
  const { value } = await child.stdout.getReader().read();
  const server = `http://127.0.0.1:${new TextDecoder().decode(value).trim()}`;
  console.log(`${values.nodes} nodes, ${pods} pods, ${namespaces} namespaces`);
  console.log(
    "what           seconds   CPU s   MiB more   reads   writes   MiB read   MiB written   MiB of a watch",
  );
  await reflectors(server);
  const services = new WeirServices();
  for (let i = 0; i < pods; i++) {
    const namespace = `ns-${i % namespaces}`, name = `web-${i}`;
    services.pods.put(
      `${namespace}/${name}`,
      KubernetesPod.create({ name: `${namespace}/${name}`, uid: crypto.randomUUID() }),
    );
    services.addPod(namespace, name, i, 1000 + i % 1000);
  }
  await operator(server, services, "slices", (context) => endpointSlicePart(context, SLICE_PACE));
  await operator(server, services, "endpoints", (context) => endpointPart(context, NO_LIMIT));
} finally {
  child.kill();
  await child.status;
}

async function reflectors(server: string): Promise<void> {
  const allocator = createIdentityAllocator({ database: new Database("sqlite::memory:") });
  await allocator.start();
  const engine = createPolicyEngine({
    database: new Database("sqlite::memory:"),
    allocator: new WeirClient({ handler: allocator.api.fetch }),
  });
  engine.start();
  const lb = createLoadBalancer({ database: new Database("sqlite::memory:") });
  lb.start();
  await Promise.all([engine.waitReady(), lb.waitReady()]);
  const client = new ApiClient({ server, authorities: [] });
  const service = createKubernetesService({
    client,
    policyEngine: new WeirClient({ handler: engine.handler }),
    loadBalancer: new WeirClient({ handler: lb.handler }),
    identityAllocator: new WeirClient({ handler: allocator.api.fetch }),
    cluster: "default",
    namespace: "weir-system",
    nodeServiceAccount: "weir-node",
    api: new ApiServer({ name: "kubernetes" }),
  });
  await measured("reflectors", server, async () => {
    service.start();
    await waitFor(
      "everything is read",
      () => !service.pods.table.pending && service.pods.table.size === pods,
      { seconds: WAIT_S },
    );
  });
  await service.stop();
  await Promise.all([engine.stop(), lb.stop(), allocator.stop()]);
  client.close();
}

async function operator(
  server: string,
  services: WeirServices,
  what: string,
  make: (context: Parameters<typeof endpointPart>[0]) => Part,
): Promise<void> {
  const client = new ApiClient({ server, authorities: [] }), clock = client.clock;
  const term = new Term(clock, { ...LEASE_TIMES, renewMs: 3_600_000, leaseMs: 3_600_000 });
  const feeds = new Feeds(services.targets, { clock });
  const part = make({ client, term, feeds, clock });
  let running: Promise<void> | undefined;
  const done = () => part.writers.every(({ waiting }) => waiting === 0);
  await measured(what, server, async () => {
    feeds.start();
    running = runPart(part, term);
    await waitFor("the first write", () => !done(), { seconds: 300 });
    await waitFor("everything is written", done, { seconds: WAIT_S });
  });
  await measured(`${what}, 1 % go`, server, async () => {
    for (let i = 0; i < pods; i += GO_EACH) services.removePod(i);
    await waitFor("the first write", () => !done(), { seconds: 300 });
    await waitFor("everything is written", done, { seconds: WAIT_S });
  });
  for (let i = 0; i < pods; i += GO_EACH) {
    services.addPod(`ns-${i % namespaces}`, `web-${i}`, i, 1000 + i % 1000);
  }
  term.end();
  await Promise.all([running, feeds.stop()]);
  client.close();
}

/** Runs it and prints what it took. */
async function measured(what: string, server: string, work: () => Promise<void>): Promise<void> {
  const counted = async () => await (await fetch(`${server}/counted`)).json() as Counted;
  await counted();
  const cpu = process.cpuUsage(), rss = Deno.memoryUsage().rss, startMs = performance.now();
  await work();
  const seconds = (performance.now() - startMs) / 1000, used = process.cpuUsage(cpu);
  const more = Deno.memoryUsage().rss - rss, { requests, ...bytes } = await counted();
  const mib = (count: number) => (count / (1 << 20)).toFixed(1);
  console.log(
    what.padEnd(16),
    seconds.toFixed(1).padStart(5),
    ((used.user + used.system) / 1e6).toFixed(1).padStart(7),
    mib(more).padStart(10),
    `${requests.read ?? 0}`.padStart(7),
    `${requests.write ?? 0}`.padStart(8),
    mib(bytes.bytesRead).padStart(10),
    mib(bytes.bytesWritten).padStart(13),
    mib(bytes.bytesWatched).padStart(16),
  );
}
