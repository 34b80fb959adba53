/**
 * Hubble's metrics of one node.
 *
 *     event ─▶ CountedEvent ─┐
 *     flow of layer 7 ───────┴▶ handlers (one per name of --hubble-metrics) ─▶ series tables ─▶ /metrics
 *                                                      pod is gone for a minute ─▶ its series go
 *
 * @module
 */
import type { Clock, MetricsRegistry } from "@weir/common";
import type { EventBatch } from "@weir/proto/datapath";
import type { CountedFlow } from "./counted_flow.ts";
import { ContextOptions } from "./context_options.ts";
import { HANDLERS } from "./handlers.ts";
import { readMetricWords } from "./option_words.ts";
import { PodLifetimes } from "./pod_lifetimes.ts";
import { type MetricSpec, SERIES_MAX, SeriesTable } from "./series_table.ts";

/** What the metrics are made of. */
export interface HubbleMetricsParts {
  /** `--hubble-metrics`; "" counts nothing. */
  readonly options: string;
  readonly clock: Pick<Clock, "monotonicMs">;
  /** Series of one metric, default {@link SERIES_MAX}. */
  readonly seriesMax?: number;
}

/** Counts flows, and says the counts to Prometheus. */
export class HubbleMetrics {
  /** Which pods there are: their series go after them. */
  readonly pods: PodLifetimes;
  readonly #tables: SeriesTable[] = [];
  readonly #handlers: ((flow: CountedFlow) => void)[];
  readonly #forget: ((thing: string) => void)[] = [];
  #lost = { perf_event_ring_buffer: 0, observer_events_queue: 0, hubble_ring_buffer: 0 };

  /** @throws {ProblemError} HUBBLE_METRICS_INVALID */
  constructor({ options, clock, seriesMax = SERIES_MAX }: HubbleMetricsParts) {
    this.pods = new PodLifetimes(() => clock.monotonicMs());
    const table = (spec: MetricSpec) => {
      const made = new SeriesTable(spec, seriesMax);
      this.#tables.push(made);
      return made;
    };
    this.#handlers = readMetricWords(options).map(({ name, options }) => {
      // An option of its own counts when it is there, as in Hubble, unless it says false.
      const own = [...options].filter(([, value]) => value.toLowerCase() !== "false").map(([key]) => key);
      return HANDLERS[name].make({ context: new ContextOptions(options), own: new Set(own), table });
    });
  }

  /** Whether anything is counted. */
  get isOn(): boolean {
    return this.#handlers.length > 0;
  }

  /** Counts a flow. */
  count(flow: CountedFlow): void {
    for (const handler of this.#handlers) handler(flow);
  }

  /** What was lost, since the datapath started (ring, stream) and since this process did (readers). */
  lost(batch: Pick<EventBatch, "lostRing" | "lostStream">, readers: number): void {
    this.#lost = {
      perf_event_ring_buffer: batch.lostRing,
      observer_events_queue: batch.lostStream,
      hubble_ring_buffer: readers,
    };
  }

  /** Calls `forget` for each thing that is gone: "pod NAMESPACE/NAME" and the like. */
  onGone(forget: (thing: string) => void): void {
    this.#forget.push(forget);
  }

  /** Drops the series of what is gone; before each scrape, and now and then. */
  sweep(): void {
    for (const thing of this.pods.takeGone()) {
      for (const table of this.#tables) table.forget(thing);
      for (const forget of this.#forget) forget(thing);
    }
  }

  /** Serves them with the registry's own. */
  mount(registry: MetricsRegistry): void {
    registry.include(() => this.render());
  }

  /** Lines of Prometheus' text format. */
  render(): string[] {
    this.sweep();
    const folded = this.#tables.filter((table) => table.folded > 0);
    return [
      ...this.#tables.flatMap((table) => table.render()),
      "# HELP hubble_lost_events_total Number of lost events",
      "# TYPE hubble_lost_events_total counter",
      ...Object.entries(this.#lost).map(([source, count]) =>
        `hubble_lost_events_total{source="${source}"} ${count}`
      ),
      '# HELP weir_metric_series_folded_total Events counted as "other": their metric has no room for more series',
      "# TYPE weir_metric_series_folded_total counter",
      ...folded.map((table) =>
        `weir_metric_series_folded_total{metric="${table.spec.name}"} ${table.folded}`
      ),
    ];
  }
}
