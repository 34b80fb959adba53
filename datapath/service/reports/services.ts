/** Services as messages: what is realized, what was counted, how full the maps are. @module */
import type { ApiServer, MetricsRegistry } from "@weir/common";
import type { BpfMap } from "@weir/loader";
import { u32 } from "@weir/loader";
import { ServiceCounters } from "@weir/maps";
import {
  DatapathService,
  DatapathServiceStatus,
  type MapPressure,
  ServicesUpdate,
  ServicesUpdateResponse,
} from "@weir/proto/datapath";
import { bytesOf } from "../services/selection_table.ts";
import type { HeldService } from "../services/planner.ts";
import type { ServiceMaps } from "../kernel/service_maps.ts";
import type { ServiceStore } from "../services/store.ts";

/** Largest update: 50,000 backends are some 8 MB of JSON. */
const UPDATE_BYTES_MAX = 64 << 20;

/** Services as messages. */
export class ServiceReport {
  readonly #store: ServiceStore;
  readonly #maps: ServiceMaps;

  constructor(store: ServiceStore, maps: ServiceMaps) {
    this.#store = store;
    this.#maps = maps;
  }

  mount(api: ApiServer): void {
    api.collection({
      name: "services",
      message: DatapathService,
      list: () => [...this.#store.services()].map((held) => this.service(held)),
      get: (name) => {
        const held = this.#store.get(Number(name)) ??
          [...this.#store.services()].find(({ wanted }) => wanted.name === name);
        return held && this.service(held);
      },
    });
    api.action({
      path: "/v1/services:update",
      request: ServicesUpdate,
      response: ServicesUpdateResponse,
      bodyBytesMax: UPDATE_BYTES_MAX,
      handle: (update) => this.#store.apply(update),
    });
    this.#mountMetrics(api.metrics);
  }

  /** A service with its status. */
  service(held: HeldService): DatapathService {
    const counted = this.counted(held.wanted.id);
    return DatapathService.create({
      ...held.given,
      status: DatapathServiceStatus.create({
        backends: held.ids.size,
        activeBackends: [...held.backends.values()].filter(({ state }) => state === "ACTIVE").length,
        ...counted,
        error: held.error,
      }),
    });
  }

  /** What the programs counted, all CPUs together. */
  counted(service: number): { [K in keyof ServiceCounters]: number } {
    const sum = { connections: 0, refused: 0, packets: 0, bytes: 0 };
    for (const part of this.#maps.counters.lookupPerCpu(u32(service)) ?? []) {
      const cpu = ServiceCounters.decode(part);
      sum.connections += Number(cpu.connections);
      sum.refused += Number(cpu.refused);
      sum.packets += Number(cpu.packets);
      sum.bytes += Number(cpu.bytes);
    }
    return sum;
  }

  /** How full, and how much of the kernel's memory. */
  pressure(): MapPressure[] {
    const { frontends, backends, selections, ranges } = this.#store, maps = this.#maps;
    const row = (map: BpfMap, entries: number, entriesMax: number, more = 0): MapPressure => ({
      map: map.name,
      entries,
      entriesMax,
      bytes: bytesOf(map.fd) + more,
    });
    return [
      row(maps.frontends, frontends.size, frontends.entriesMax),
      row(maps.backends, backends.size, backends.idsMax - 1),
      row(maps.selections, selections.size, selections.slotsMax - 1, selections.bytes),
      row(maps.sourceRanges, ranges.size, ranges.entriesMax),
    ];
  }

  #mountMetrics(metrics: MetricsRegistry): void {
    const store = this.#store;
    const counts = { services: () => store.size, frontends: () => store.frontends.size } as const;
    metrics.gauge("weir_datapath_services", "Services that are realized").collect(counts.services);
    metrics.gauge("weir_datapath_frontends", "Frontends in the kernel").collect(counts.frontends);
    metrics.gauge("weir_datapath_backends", "Backends in the kernel, and ids that rest").collect(() => [
      [{ state: "live" }, store.backends.size],
      [{ state: "resting" }, store.backends.resting],
    ]);
    metrics.gauge("weir_datapath_service_map_writes", "System calls that wrote maps of services")
      .collect(() => store.writes.count);
    metrics.gauge("weir_datapath_service", "What the programs counted of each service").collect(() =>
      [...store.services()].flatMap(({ wanted: { id, name } }) =>
        Object.entries(this.counted(id)).map((
          [what, count],
        ): [Record<string, string>, number] => [{ service: name, what }, count])
      )
    );
  }
}
