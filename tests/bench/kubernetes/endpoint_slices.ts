/**
 * What endpoints of pods cost at a real API server, in slices and as single objects: requests and bytes that are written, and
 * bytes that one who watches gets.
 *
 *     deno run -A tests/bench/kubernetes/endpoint_slices.ts [--pods 10000]
 *
 * Needs what tests/kubernetes/build builds.
 * @module
 */
import { parseArgs } from "node:util";
import { until } from "@weir/common/testing/until";
import { type ApiAccess, ApiClient, type Resource, RESOURCES } from "@weir/kubernetes/api";
import { KubernetesPod } from "@weir/proto/kubernetes";
import { keepDefinitions } from "../../../services/kubernetes/operator/crd_keeper.ts";
import { endpointPart } from "../../../services/kubernetes/operator/endpoint_part.ts";
import { endpointSlicePart, SLICE_PACE } from "../../../services/kubernetes/operator/endpoint_slice_part.ts";
import { Feeds } from "../../../services/kubernetes/operator/feeds.ts";
import { type Part, runPart } from "../../../services/kubernetes/operator/part.ts";
import { LEASE_TIMES, Term } from "../../../services/kubernetes/operator/term.ts";
import { RealApiServer } from "../../../services/kubernetes/testing/real_api_server.ts";
import { WeirServices } from "../../kubernetes/weir_services.ts";

const NAMESPACES = 20;
/** Pods come at this rate. */
const PODS_PER_S = 500;
/** As fast as the API server can: only the number of requests is compared. */
const NO_LIMIT = { ratePerS: 100_000, burst: 100_000, parallelMax: 16, delayMs: 500 };

/** Counts what is written. */
class CountingClient extends ApiClient {
  requests = 0;
  bytes = 0;
  constructor(access: ApiAccess) {
    super(access);
  }
  #count(body: unknown): void {
    this.requests++;
    this.bytes += JSON.stringify(body).length;
  }
  override create(...args: Parameters<ApiClient["create"]>) {
    this.#count(args[1]);
    return super.create(...args);
  }
  override patch(...args: Parameters<ApiClient["patch"]>) {
    this.#count(args[2]);
    return super.patch(...args);
  }
  override delete(...args: Parameters<ApiClient["delete"]>) {
    this.#count({});
    return super.delete(...args);
  }
}

const { values } = parseArgs({ options: { pods: { type: "string", default: "10000" } } });
const pods = Number(values.pods);
await using server = await RealApiServer.start();
const admin = server.client();
await keepDefinitions(admin);
for (let i = 0; i < NAMESPACES; i++) {
  await admin.create(RESOURCES.Namespace, { metadata: { name: `ns-${i}` } });
}
console.log(`${pods} pods in ${NAMESPACES} namespaces, ${PODS_PER_S} each second; then a tenth of them goes`);
console.log("what        phase   requests   KiB written   KiB of a watch   seconds");
await measure("slices", RESOURCES.CiliumEndpointSlice, (context) => endpointSlicePart(context, SLICE_PACE));
await measure("endpoints", RESOURCES.CiliumEndpoint, (context) => endpointPart(context, NO_LIMIT));

async function measure(
  what: string,
  resource: Resource,
  make: (context: Parameters<typeof endpointPart>[0]) => Part,
): Promise<void> {
  const weir = new WeirServices(), client = new CountingClient(server.access()), clock = client.clock;
  const term = new Term(clock, { ...LEASE_TIMES, renewMs: 3_600_000, leaseMs: 3_600_000 });
  const feeds = new Feeds(weir.targets, { clock });
  const part = make({ client, term, feeds, clock });
  feeds.start();
  const running = runPart(part, term);
  const stop = new AbortController(), watched = watchBytes(resource, stop.signal);
  const phase = async (name: string, work: () => Promise<void>) => {
    const before = { requests: client.requests, bytes: client.bytes, watched: watched.bytes };
    const startMs = performance.now();
    await work();
    await until("everything is written", () => part.writers.every(({ waiting }) => waiting === 0));
    const seconds = (performance.now() - startMs) / 1000;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const kib = (bytes: number) => Math.round(bytes / 1024);
    console.log(
      what.padEnd(11),
      name.padEnd(5),
      `${client.requests - before.requests}`.padStart(10),
      `${kib(client.bytes - before.bytes)}`.padStart(13),
      `${kib(watched.bytes - before.watched)}`.padStart(16),
      seconds.toFixed(1).padStart(9),
    );
  };
  await phase("come", async () => {
    for (let i = 0; i < pods; i++) {
      const namespace = `ns-${i % NAMESPACES}`, name = `web-${i}`;
      weir.pods.put(
        `${namespace}/${name}`,
        KubernetesPod.create({ name: `${namespace}/${name}`, uid: crypto.randomUUID() }),
      );
      weir.addPod(namespace, name, i);
      if (i % (PODS_PER_S / 10) === 0) await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
  await phase("go", async () => {
    for (let i = 0; i < pods; i++) {
      // From every namespace and every slice.
      if (Math.floor(i / NAMESPACES) % 10 === 0) weir.removePod(i);
      if (i % PODS_PER_S === 0) await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
  term.end();
  stop.abort();
  await Promise.all([running, feeds.stop(), watched.done]);
  client.close();
}

/** Bytes that one who watches is sent. */
function watchBytes(resource: Resource, signal: AbortSignal): { bytes: number; done: Promise<void> } {
  const counted = { bytes: 0, done: Promise.resolve() };
  const watch = async () => {
    const { resourceVersion } = await admin.list(resource);
    for await (const events of admin.watch(resource, { resourceVersion, timeoutS: 3600, signal })) {
      for (const event of events) counted.bytes += JSON.stringify(event).length;
    }
  };
  counted.done = watch().catch((error) => {
    if (!signal.aborted) throw error;
  });
  return counted;
}
