/** What the kernel holds, as messages: status, pressure, programs, dumps. @module */
import type { MetricsRegistry } from "@weir/common";
import { type Gate, probeKernel, type Verifier } from "@weir/loader";
import { DatapathStatus, Holder, type MapDump, MapPressure, Program } from "@weir/proto/datapath";
import type { Attachments } from "../hooks/attachments.ts";
import type { Collector } from "../kernel/collector.ts";
import { dumpMap } from "../dumps/registry.ts";
import type { EndpointStore } from "../endpoints/store.ts";
import type { EventHub } from "./events.ts";
import type { IpcacheStore } from "../node/ipcache.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { PolicyStore } from "../endpoints/policies.ts";
import type { Retries } from "../retries.ts";
import type { ServiceReport } from "./services.ts";
import type { ServiceStore } from "../services/store.ts";

/** What a report looks at. */
export interface KernelReportParts {
  kernel: Kernel;
  gate: Gate;
  verifier: Verifier;
  instance: string;
  hz: number;
  attachments: Attachments;
  collector: Collector;
  endpoints: EndpointStore;
  events: EventHub;
  ipcache: IpcacheStore;
  policies: PolicyStore;
  retries: Retries;
  services: ServiceStore;
  serviceReport: ServiceReport;
}

/** What the kernel holds, as messages. */
export class KernelReport {
  readonly #parts: KernelReportParts;

  constructor(parts: KernelReportParts) {
    this.#parts = parts;
  }

  /** @param synced whether leftovers were swept */
  status(synced: boolean): DatapathStatus {
    const { kernel, endpoints, policies, services, retries, events, verifier, instance } = this.#parts;
    const links = synced ? this.#parts.attachments.leftovers().length : 0;
    return DatapathStatus.create({
      gate: verifier.mode,
      features: probeKernel().map(({ name, answer, sinceKernel }) => ({ name, answer, sinceKernel })),
      adopted: endpoints.adopted + policies.adopted + services.adopted + kernel.programsAdopted,
      rebuilt: endpoints.rebuilt + kernel.mapsRebuilt.length,
      leftovers: endpoints.leftoverCount + policies.leftovers().length + services.leftovers().length + links,
      synced,
      errors: [...retries.list(), ...services.errors(), ...this.#parts.ipcache.errors()],
      pressure: this.pressure(),
      instance,
      lostEvents: events.lostRing() + events.lostStream,
      holders: this.holders(),
    });
  }

  /** Who holds what of the tables that traffic fills, by name. */
  holders(): Holder[] {
    const { collector, endpoints } = this.#parts;
    return collector.holders.list().map(({ kind, endpoint, ...counts }) =>
      Holder.create({
        ...counts,
        kind,
        name: endpoint === 0 ? "" : endpoints.nameOf(endpoint) || `${endpoint}`,
        ctRefused: Number(counts.ctRefused),
        natRefused: Number(counts.natRefused),
        portsRefused: Number(counts.portsRefused),
      })
    );
  }

  pressure(): MapPressure[] {
    const { kernel, collector, ipcache, policies, endpoints, events } = this.#parts;
    const { ct, nat } = collector.holders;
    return [
      { map: "weir_ct", entries: ct, entriesMax: kernel.ct.entriesMax },
      { map: "weir_nat", entries: nat, entriesMax: kernel.map("weir_nat").info.entriesMax },
      { map: "weir_ipcache", entries: ipcache.size, entriesMax: ipcache.entriesMax },
      { map: "weir_policies", entries: policies.size, entriesMax: kernel.policySlots.entriesMax },
      { map: "weir_endpoints", entries: endpoints.ids.size, entriesMax: kernel.endpoints.entriesMax },
      { map: "weir_events", entries: events.pressure.bytes, entriesMax: events.pressure.bytesMax },
    ].map((row) => MapPressure.create(row)).concat(this.#parts.serviceReport.pressure());
  }

  /** Every attached program, with what the gate said of it. */
  programs(): Program[] {
    const byName = new Map(this.#parts.kernel.decisions.map((decision) => [decision.program, decision]));
    return this.#parts.attachments.list().map((attachment) => {
      const decision = byName.get(attachment.program);
      return Program.create({
        name: attachment.program,
        object: decision?.object,
        attachedTo: attachment.target,
        attachType: attachment.attachType,
        id: attachment.programId,
        tag: attachment.tag,
        // Kernels hash in two ways; where neither gives the running tag, the newer one is shown beside it.
        verifiedTag: decision?.tags.find((tag) => tag === attachment.tag) ?? decision?.tags.at(-1),
        verdict: decision?.report.verdict,
        verifier: decision?.verifier,
        visits: decision?.report.visits,
        timeUs: decision?.report.timeUs,
        hash: decision?.contentHash,
        cached: decision?.cached,
      });
    });
  }

  /** @throws {ProblemError} MAP_UNKNOWN */
  dump(name: string): MapDump {
    const { kernel, endpoints, policies, services, hz } = this.#parts;
    return dumpMap(kernel, name, {
      endpoint: (id) => endpoints.nameOf(id),
      policy: (slot) => policies.nameOf(slot),
      service: (id) => services.nameOf(id),
      hz,
    });
  }

  /** The same as metrics, read at each scrape. */
  mountMetrics(metrics: MetricsRegistry): void {
    const { gate, events, retries, services, ipcache } = this.#parts;
    metrics.gauge("weir_datapath_packets", "Packets by reason and direction, as the programs counted them")
      .collect(() =>
        this.dump("metrics").rows.map(({ fields }) => [
          { reason: fields.name || fields.reason, direction: fields.direction },
          Number(fields.packets),
        ])
      );
    metrics.gauge("weir_datapath_lost_events", "Events that the ring had no room for").collect(() =>
      events.lostRing()
    );
    metrics.gauge("weir_datapath_unread_events", "Events that readers of the stream were too slow for")
      .collect(() => events.lostStream);
    metrics.gauge("weir_datapath_map_entries", "Entries of maps").collect(() =>
      this.pressure().map((map) => [{ map: map.map }, map.entries])
    );
    metrics.gauge("weir_datapath_map_entries_max", "Entries that maps have room for").collect(() =>
      this.pressure().map((map) => [{ map: map.map }, map.entriesMax])
    );
    metrics.gauge("weir_datapath_gate", "Programs by the gate's answer").collect(() =>
      Object.entries(gate.counts).map(([answer, count]) => [{ answer }, count])
    );
    metrics.gauge("weir_datapath_objects_in_error", "Kernel objects that could not be made")
      .collect(() => retries.list().length + services.errors().length + ipcache.errors().length);
  }
}
