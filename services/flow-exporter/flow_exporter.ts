/**
 * Drains the datapath's event stream into the ring of flows, for as long as it runs: a stream that is cut begins anew,
 * and what could not be read or was lost on the way is counted.
 *
 *     datapath /v1/events ─▶ records ─▶ events, with their names ─▶ ring ─▶ flows, when asked for ─▶ /v1/flows
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { Backoff, type Clock, errorText, type Logger, type MetricsRegistry, systemClock } from "@weir/common";
import { EventBatch } from "@weir/proto/datapath";
import { readRecord, splitRecords } from "./event_record.ts";
import type { Flow } from "@weir/proto/flow";
import type { L7RecordBatch } from "@weir/proto/l7";
import type { Names } from "./flow_builder.ts";
import { FlowRing } from "./flow_ring.ts";
import { Losses } from "./losses.ts";
import { buildL7Flow } from "./l7/l7_flow.ts";
import type { HttpRedaction } from "./l7/redaction.ts";
import { CountedEvent, countedFlow } from "./metrics/counted_flow.ts";
import { HubbleMetrics } from "./metrics/hubble_metrics.ts";
import { SeenFlow, SeenNames } from "./seen_flow.ts";

/** What the exporter is made of. */
export interface FlowExporterParts {
  datapath: WeirClient;
  names: Names;
  metrics: MetricsRegistry;
  /** What is counted for Prometheus; default: nothing. */
  hubble?: HubbleMetrics;
  /** What is taken out of L7 flows; default: nothing. */
  redaction?: HttpRedaction;
  /** Flows held in memory, default 4095. */
  ringFlows?: number;
  clock?: Clock;
  log?: Logger;
}

/** A flow of the ring: of an event of the datapath, or of a record of the L7 proxy. */
export interface RingFlow {
  readonly flow: Flow;
  /** It is no packet, but what a connection has carried. */
  readonly isTraffic: boolean;
}

/** Raw records held in memory. */
export const RECORDS_MAX = 1023;

/** Reads the datapath's events into the ring. */
export class FlowExporter {
  readonly ring: FlowRing<RingFlow>;
  /** The newest records as they came, for `weir monitor`. */
  readonly records: FlowRing<Uint8Array> = new FlowRing<Uint8Array>(RECORDS_MAX);
  /** Whose events were lost. */
  readonly losses: Losses;
  readonly hubble: HubbleMetrics;
  /** Events that the kernel's ring or the stream could not take, since the datapath started. */
  lost = 0;
  #connected = false;
  #lastError = "";
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  readonly #clock: Clock;
  readonly #parts: FlowExporterParts;

  constructor(parts: FlowExporterParts) {
    this.#parts = parts;
    this.ring = new FlowRing(parts.ringFlows);
    this.losses = new Losses(parts.metrics);
    this.#clock = parts.clock ?? systemClock;
    this.hubble = parts.hubble ?? new HubbleMetrics({ options: "", clock: this.#clock });
    this.hubble.mount(parts.metrics);
    this.hubble.onGone((thing) => thing.startsWith("pod ") && this.losses.forget(thing.slice("pod ".length)));
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** What readiness waits for, or undefined. */
  waitingFor(): string | undefined {
    return this.#connected ? undefined : `the datapath's events${this.#lastError && `: ${this.#lastError}`}`;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 2000 });
    while (!signal.aborted) {
      try {
        for await (const batch of this.#parts.datapath.stream("/v1/events", EventBatch, { signal })) {
          this.#connected = true;
          backoff.reset();
          this.take(batch);
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#lastError = errorText(error);
        if (this.#connected) this.#parts.log?.warn("Lost the datapath's events", { error });
      }
      this.#connected = false;
      await this.#clock.sleep(backoff.nextMs(), signal);
    }
  }

  /** Turns a batch into flows. Nothing in a batch can end the process. */
  take(batch: EventBatch): void {
    const { metrics, names } = this.#parts, { hubble } = this;
    const unread = metrics.counter(
      "weir_flow_records_unread_total",
      "Records of the datapath that could not be read",
    );
    const { records, broken } = splitRecords(batch.records);
    if (broken > 0) unread.increment({ why: "broken batch" });
    for (const record of records) {
      this.records.push(record);
      const events = readRecord(record);
      if (events === undefined) {
        unread.increment({ why: "unknown record" });
        continue;
      }
      const seen = new SeenNames(events, names);
      for (const event of events) {
        this.ring.push(new SeenFlow(event, seen, batch.bootUnixS), event.kind !== "traffic");
        // What connections carry is no packet that passed.
        if (hubble.isOn && event.kind !== "traffic") hubble.count(new CountedEvent(event, seen));
      }
    }
    this.lost = batch.lostRing + batch.lostStream;
    hubble.lost(batch, this.ring.lost);
    hubble.sweep();
    this.losses.take(batch);
  }

  /** Turns records of the L7 proxy into flows. */
  takeRecords({ records, lost }: L7RecordBatch): void {
    const { names, redaction, metrics } = this.#parts;
    for (const record of records) {
      const flow = buildL7Flow(record, names, { uuid: crypto.randomUUID(), redaction });
      this.ring.push({ flow, isTraffic: false });
      if (this.hubble.isOn) this.hubble.count(countedFlow(flow));
    }
    metrics.gauge("weir_flow_l7_records_lost", "Records that the L7 proxy had no room for, since it started")
      .set(lost);
  }
}
