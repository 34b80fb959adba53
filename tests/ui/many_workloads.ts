/** 1,000 workloads that open 5,000 edges: flows of an Observer on a socket, through the page's real server. @module */
import { Health, Logger, MetricsRegistry, systemClock } from "@weir/common";
import { until } from "@weir/common/testing/until";
import { GrpcServer, keepListening, streamingBytes } from "@weir/grpc";
import { WeirClient } from "@weir/client";
import { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { startUi, type UiOptions } from "@weir/ui";

export const WORKLOADS = 1000, EDGES = 5000;
const NAMESPACES = 20, BATCH = 500;
const root = new URL("../../", import.meta.url).pathname;

/** What is served. */
export interface ManyWorkloads {
  readonly address: string;
  /** Questions for flows that are being answered. */
  readonly streams: number;
  stop(): Promise<void>;
}

/** Options of {@link serveWorkloads}. */
export interface WorkloadOptions {
  /** Flows that there are at the start, each over an edge of its own up to {@link EDGES}. */
  readonly flows?: number;
  /** New flows that go on to come, over the same edges; default none. */
  readonly flowsPerS?: number;
  /** How the page is served. */
  readonly ui?: Partial<UiOptions>;
}

/** Serves all of them, and waits until the server's map is whole. */
export async function serveManyWorkloads(options: WorkloadOptions = {}): Promise<ManyWorkloads> {
  const many = await serveWorkloads(options);
  await until("the map is whole", async () => {
    const { cards, edges } = await (await fetch(`${many.address}api/map?group=workload`)).json();
    return cards.length === WORKLOADS && edges.length === EDGES;
  });
  return many;
}

/** Serves some of them. */
export async function serveWorkloads(
  { flows = EDGES, flowsPerS = 0, ui: options = {} }: WorkloadOptions,
): Promise<ManyWorkloads> {
  const directory = await Deno.makeTempDir({ prefix: "weir-ui-" }), stop = new AbortController();
  const log = Logger.silent(), socket = `${directory}/hubble-relay.sock`;
  let streams = 0;
  const batch = (from: number, count: number) =>
    Array.from({ length: count }, (_, j) => GetFlowsResponse.encode({ flow: flowOf(from + j) }));
  const server = new GrpcServer({
    methods: {
      "/observer.Observer/GetFlows": streamingBytes(GetFlowsRequest, async function* (_request, { signal }) {
        streams++;
        try {
          for (let i = 0; i < flows; i += BATCH) yield batch(i, Math.min(BATCH, flows - i));
          for (let i = EDGES; flowsPerS > 0 && !signal.aborted; i += flowsPerS / 10) {
            await systemClock.sleep(100, signal);
            yield batch(i, flowsPerS / 10);
          }
          await systemClock.sleep(3_600_000, signal);
        } finally {
          streams--;
        }
      }),
    },
    log,
    clock: systemClock,
  });
  keepListening(server, {
    socket,
    tcp: undefined,
    tlsDirectory: "",
    health: new Health(),
    metrics: new MetricsRegistry(),
    log,
    clock: systemClock,
    signal: stop.signal,
  });
  const away = `unix:${directory}/nobody.sock`;
  const ui = await startUi({
    listen: "127.0.0.1:0",
    page: `${root}.build/ui`,
    log,
    services: {
      flowSockets: [socket],
      identityAllocator: away,
      policyEngine: away,
      status: { nodes: [], client: () => new WeirClient(away), clientAt: () => new WeirClient(away) },
    },
    ...options,
  });
  return {
    address: ui.address,
    get streams() {
      return streams;
    },
    async stop() {
      await ui.stop();
      stop.abort();
      server.stop();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** The i-th flow: flows that are {@link EDGES} apart have the same ends. */
function flowOf(i: number): Flow {
  const end = (n: number) => ({
    pod_name: `app-${n}`,
    namespace: `team-${n % NAMESPACES}`,
    identity: 1000 + n,
    labels: [`k8s:app=app-${n}`],
    workloads: [{ name: `app-${n}`, kind: "Deployment" }],
  });
  const at = i % EDGES, from = at % WORKLOADS;
  const to = (from + 1 + Math.floor(at / WORKLOADS) * 7) % WORKLOADS;
  const isDrop = at % 50 === 0, nowMs = Date.now();
  return Flow.create({
    time: { seconds: Math.floor(nowMs / 1000), nanos: 0 },
    verdict: isDrop ? "DROPPED" : "FORWARDED",
    drop_reason_desc: isDrop ? "POLICY_DENIED" : "DROP_REASON_UNKNOWN",
    event_type: { type: isDrop ? EVENT.DROP : EVENT.POLICY_VERDICT },
    IP: { source: `10.0.${from >> 8}.${from & 255}`, destination: `10.0.${to >> 8}.${to & 255}` },
    l4: { TCP: { source_port: 30_000 + i % 30_000, destination_port: 8080 } },
    source: end(from),
    destination: end(to),
    node_name: "default/node-1",
  });
}
