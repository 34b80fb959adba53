/**
 * The HTTP face of the endpoint manager.
 * @module
 */
import type { ApiServer, MetricsRegistry } from "@weir/common";
import { DatapathService } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import type { EndpointManager } from "./endpoint_manager.ts";

/** Adds the routes of the endpoint manager to a server. */
export function mountEndpointManager(api: ApiServer, manager: EndpointManager): void {
  api.collection<Endpoint>({
    name: "endpoints",
    message: Endpoint,
    table: manager.endpoints,
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
    list: () => [...manager.services?.list() ?? []],
    get: (name) => manager.services?.get(Number(name)),
    description: "Service ports as this node serves them, by id, with why the datapath could not",
  });
  mountServiceMetrics(api.metrics, manager);
  const endpoints = api.metrics.gauge("weir_endpoints", "Endpoints of this node by state");
  const states = new Set<string>();
  const count = () => {
    for (const state of states) endpoints.set(0, { state });
    for (const endpoint of manager.endpoints.list()) {
      const state = (endpoint.status?.state ?? "").toLowerCase();
      states.add(state);
      endpoints.set(endpoints.value({ state }) + 1, { state });
    }
  };
  manager.endpoints.onChange(count);
}

function mountServiceMetrics(metrics: MetricsRegistry, manager: EndpointManager): void {
  const failed = metrics.gauge("weir_services_failed", "Services that the datapath could not realize");
  failed.collect(() => manager.services?.failures ?? 0);
  const totals: [string, string, "updates" | "objects" | "mapWrites" | "datapathSeconds"][] = [
    ["weir_service_updates", "Updates of services that the datapath took", "updates"],
    ["weir_service_objects", "Services and backends in these updates", "objects"],
    ["weir_service_map_writes", "System calls on maps that these updates took", "mapWrites"],
    ["weir_service_update_seconds", "Time that these updates took in the datapath", "datapathSeconds"],
  ];
  for (const [name, help, key] of totals) {
    metrics.gauge(name, help).collect(() => manager.services?.totals[key] ?? 0);
  }
}
