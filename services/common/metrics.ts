/** Counters, gauges and histograms in Prometheus' text format. @module */

/** Label values of one series. */
export type MetricLabels = Record<string, string | number>;
/** Series that one metric holds; more are counted in `weir_metric_series_dropped_total`, never stored. */
export const METRIC_SERIES_MAX = 2000;

/** Upper bounds in seconds that suit requests and reconcile runs. */
export const DURATION_BUCKETS = [
  0.0005,
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10,
];

abstract class Metric {
  protected series = new Map<string, number>();
  constructor(
    readonly name: string,
    readonly help: string,
    readonly kind: "counter" | "gauge" | "histogram",
    protected readonly registry: MetricsRegistry,
  ) {}

  protected key(labels: MetricLabels | undefined): string | undefined {
    const key = labelText(labels);
    if (!this.series.has(key) && this.series.size >= METRIC_SERIES_MAX) {
      this.registry.countDropped();
      return undefined;
    }
    return key;
  }

  /** Present value of a series, 0 when there is none. */
  value(labels?: MetricLabels): number {
    return this.series.get(labelText(labels)) ?? 0;
  }

  /** Forgets a series, for example of an object that is gone. */
  remove(labels?: MetricLabels): void {
    this.series.delete(labelText(labels));
  }

  render(): string[] {
    return [...this.series].map(([key, value]) => `${this.name}${key} ${value}`);
  }
}

/** A number that only grows. */
export class Counter extends Metric {
  /** Adds `by` (default 1) to the series. */
  increment(labels?: MetricLabels, by = 1): void {
    const key = this.key(labels);
    if (key !== undefined) this.#add(key, by);
  }

  /** Adds 1 to one series, for who does so again and again: its labels are put into words once. */
  of(labels: MetricLabels): () => void {
    let key: string | undefined;
    return () => {
      key ??= this.key(labels);
      if (key !== undefined) this.#add(key, 1);
    };
  }

  #add(key: string, by: number): void {
    this.series.set(key, (this.series.get(key) ?? 0) + by);
  }
}

/** A number that goes up and down; `collect` asks for it at the moment of the scrape. */
export class Gauge extends Metric {
  #collect?: () => number | [MetricLabels, number][];

  set(value: number, labels?: MetricLabels): void {
    const key = this.key(labels);
    if (key !== undefined) this.series.set(key, value);
  }

  /** `source` is called at every scrape. */
  collect(source: () => number | [MetricLabels, number][]): this {
    this.#collect = source;
    return this;
  }

  override render(): string[] {
    if (this.#collect !== undefined) {
      const found = this.#collect();
      this.series.clear();
      if (typeof found === "number") this.set(found);
      else for (const [labels, value] of found) this.set(value, labels);
    }
    return super.render();
  }
}

/** Counts observations by upper bound. */
export class Histogram extends Metric {
  #counts = new Map<string, { labels: MetricLabels; counts: number[]; sum: number; count: number }>();
  readonly bounds: readonly number[];

  constructor(name: string, help: string, registry: MetricsRegistry, bounds: readonly number[]) {
    super(name, help, "histogram", registry);
    this.bounds = bounds;
  }

  observe(value: number, labels: MetricLabels = {}): void {
    const key = this.key(labels);
    if (key === undefined) return;
    this.series.set(key, value);
    let entry = this.#counts.get(key);
    if (entry === undefined) {
      entry = { labels, counts: this.bounds.map(() => 0), sum: 0, count: 0 };
      this.#counts.set(key, entry);
    }
    entry.sum += value;
    entry.count++;
    for (let i = 0; i < this.bounds.length; i++) if (value <= this.bounds[i]) entry.counts[i]++;
  }

  override value(labels?: MetricLabels): number {
    return this.#counts.get(labelText(labels))?.count ?? 0;
  }

  override render(): string[] {
    const lines: string[] = [];
    for (const { labels, counts, sum, count } of this.#counts.values()) {
      counts.forEach((n, i) =>
        lines.push(`${this.name}_bucket${labelText({ ...labels, le: this.bounds[i] })} ${n}`)
      );
      lines.push(`${this.name}_bucket${labelText({ ...labels, le: "+Inf" })} ${count}`);
      lines.push(
        `${this.name}_sum${labelText(labels)} ${sum}`,
        `${this.name}_count${labelText(labels)} ${count}`,
      );
    }
    return lines;
  }
}

/** All metrics of one service. Asking for a name again gives the same metric. */
export class MetricsRegistry {
  #metrics = new Map<string, Metric>();
  #dropped = 0;
  readonly #included: (() => readonly string[])[] = [];

  /** Lines of the text format that somebody else keeps; asked for at every scrape. */
  include(source: () => readonly string[]): void {
    this.#included.push(source);
  }

  counter(name: string, help: string): Counter {
    return this.#get(name, () => new Counter(name, help, "counter", this));
  }
  gauge(name: string, help: string): Gauge {
    return this.#get(name, () => new Gauge(name, help, "gauge", this));
  }
  histogram(name: string, help: string, bounds: readonly number[] = DURATION_BUCKETS): Histogram {
    return this.#get(name, () => new Histogram(name, help, this, bounds));
  }

  /** A series was refused because its metric is full. */
  countDropped(): void {
    this.#dropped++;
  }

  /** Prometheus' text format 0.0.4. */
  render(): string {
    const lines: string[] = [];
    for (const metric of this.#metrics.values()) {
      lines.push(
        `# HELP ${metric.name} ${metric.help.replaceAll("\n", " ")}`,
        `# TYPE ${metric.name} ${metric.kind}`,
      );
      lines.push(...metric.render());
    }
    for (const source of this.#included) lines.push(...source());
    lines.push("# HELP weir_metric_series_dropped_total Series refused because their metric is full");
    lines.push(
      "# TYPE weir_metric_series_dropped_total counter",
      `weir_metric_series_dropped_total ${this.#dropped}`,
    );
    return lines.join("\n") + "\n";
  }

  #get<M extends Metric>(name: string, make: () => M): M {
    const metric = this.#metrics.get(name) ?? make();
    this.#metrics.set(name, metric);
    return metric as M;
  }
}

/** Once for each thing that is counted: no more work than it takes. */
function labelText(labels: MetricLabels | undefined): string {
  let text = "";
  for (const key in labels) {
    text += `${text === "" ? "{" : ","}${key}="${escapeValue(String(labels[key]))}"`;
  }
  return text === "" ? "" : text + "}";
}

function escapeValue(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
