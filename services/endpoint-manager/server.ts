/**
 * The HTTP face of the endpoint manager.
 * @module
 */
import { type ApiServer, invalidArgument, type MetricsRegistry, ProblemError } from "@weir/common";
import { DatapathService, EndpointSockets } from "@weir/proto/datapath";
import { AddressBlock, Endpoint, PeerStatus } from "@weir/proto/endpoint";
import type { EndpointManager } from "./endpoint_manager.ts";
import { mountNames } from "./names/routes.ts";

/** Reads the sockets of an endpoint: the datapath can. Undefined: it has no such endpoint. */
export type SocketReader = (name: string) => Promise<EndpointSockets | undefined>;

/** Adds the routes of the endpoint manager to a server. */
export function mountEndpointManager(
  api: ApiServer,
  manager: EndpointManager,
  readSockets: SocketReader = () => Promise.resolve(undefined),
): void {
  api.collection<Endpoint>({
    name: "endpoints",
    message: Endpoint,
    table: manager.table.view,
    put: (name, value) => manager.put(name, value),
    delete: async (name) => {
      await manager.delete(name);
      return true;
    },
    filters: {
      identity: (text) => (endpoint) => endpoint.status?.identity === Number(text),
      namespace: (text) => (endpoint) => endpoint.namespace === text,
      state: (text) => (endpoint) => endpoint.status?.state === text.toUpperCase().replaceAll("-", "_"),
    },
    description: "Workloads on this node",
  });
  // Computed when asked: a second copy of 50,000 backends is not worth being watched.
  api.collection<DatapathService>({
    name: "services",
    message: DatapathService,
    list: () => [...manager.services.list()],
    get: (name) => manager.services.get(Number(name)),
    filters: {
      failed: (text) => ({ status }) =>
        (text === "true") === Boolean(status?.error || status?.healthCheck?.error),
    },
    description: "Service ports as this node serves them, by id, with why the datapath could not",
  });
  // Nothing is kept: sockets come and go, and only the kernel knows.
  api.collection<EndpointSockets>({
    name: "sockets",
    message: EndpointSockets,
    list: () => {
      throw invalidArgument("Cannot list the sockets of every endpoint", {
        found: "no endpoint",
        expected: "GET /v1/sockets/<endpoint>",
      });
    },
    get: async (name) => {
      const endpoint = manager.table.view.get(name);
      if (endpoint === undefined) return undefined;
      const sockets = await readSockets(name);
      if (sockets !== undefined) return sockets;
      throw new ProblemError("SOCKETS_NOT_VISIBLE", {
        status: 409,
        detail: `Cannot read the sockets of endpoint ${name}: the datapath does not have it (yet)`,
        found: endpoint.status?.state ?? "no state",
        expected: "READY",
      });
    },
    description: "Sockets of an endpoint, read now: what listens where, connections in trouble",
  });
  api.collection<AddressBlock>({
    name: "addresses",
    message: AddressBlock,
    list: () => manager.addresses(),
    get: (name) => manager.addresses().find((block) => block.name === name),
    description: "Prefixes that this node's endpoints get addresses of, and why it has too few of a pool",
  });
  // Computed when asked: how long somebody was silent changes by itself.
  api.collection<PeerStatus>({
    name: "peers",
    message: PeerStatus,
    list: () => manager.peers(),
    get: (name) => manager.peers().find((peer) => peer.name === name),
    description:
      "The processes that this node needs: whether they answer, since when, and what follows from it",
  });
  mountNames(api, manager.names);
  mountServiceMetrics(api.metrics, manager);
  mountPeerMetrics(api.metrics, manager);
  const endpoints = api.metrics.gauge("weir_endpoints", "Endpoints of this node by state");
  const states = new Set<string>();
  const count = () => {
    for (const state of states) endpoints.set(0, { state });
    for (const endpoint of manager.table.view.list()) {
      const state = (endpoint.status?.state ?? "").toLowerCase();
      states.add(state);
      endpoints.set(endpoints.value({ state }) + 1, { state });
    }
  };
  manager.table.view.onChange(count);
}

function mountPeerMetrics(metrics: MetricsRegistry, manager: EndpointManager): void {
  metrics.gauge("weir_peer_ok", "1 while a process that this node needs answers and is up to date")
    .collect(() => manager.peers().map(({ name, state }) => [{ peer: name }, Number(state === "OK")]));
  metrics.gauge(
    "weir_peer_last_heard_seconds",
    "Unix time at which a process that this node needs was heard last",
  )
    .collect(() => manager.peers().map(({ name, lastHeardUnixS }) => [{ peer: name }, lastHeardUnixS]));
}

function mountServiceMetrics(metrics: MetricsRegistry, manager: EndpointManager): void {
  const failed = metrics.gauge("weir_services_failed", "Services that the datapath could not realize");
  failed.collect(() => manager.services.failures);
  const totals: [string, string, "updates" | "objects" | "mapWrites" | "datapathSeconds"][] = [
    ["weir_service_updates", "Updates of services that the datapath took", "updates"],
    ["weir_service_objects", "Services and backends in these updates", "objects"],
    ["weir_service_map_writes", "System calls on maps that these updates took", "mapWrites"],
    ["weir_service_update_seconds", "Time that these updates took in the datapath", "datapathSeconds"],
  ];
  for (const [name, help, key] of totals) {
    metrics.gauge(name, help).collect(() => manager.services.totals[key]);
  }
  metrics.gauge("weir_health_check_node_ports", "Health check node ports on which this node answers")
    .collect(() => manager.healthChecks?.ports ?? 0);
  const health = metrics.gauge(
    "weir_health_checks",
    "Health checks of services since the start, by whether they were answered or closed (limits, deadlines, no request)",
  );
  health.collect(() => {
    const { answered = 0, refused = 0 } = manager.healthChecks?.totals ?? {};
    return [[{ result: "answered" }, answered], [{ result: "refused" }, refused]];
  });
}
