/**
 * The series of one metric, within a budget. Who would make one more series than fits is counted in a series whose open labels (those
 * that traffic can fill with anything: names, addresses, ports) say "other", and in `weir_metric_series_folded_total`.
 * Series go when a thing that they name is gone.
 * @module
 */

/** Series that one metric holds. */
export const SERIES_MAX = 2000;
/** Series of folded events beside these. */
export const FOLDED_SERIES_MAX = 200;
/** Value of open labels in them. */
export const OTHER = "other";

/** A label, and whether traffic can fill it with anything. */
export interface MetricLabel {
  readonly name: string;
  readonly isOpen?: boolean;
}

/** What a metric is. */
export interface MetricSpec {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly MetricLabel[];
  /** Upper bounds: a histogram; absent: a counter. */
  readonly bounds?: readonly number[];
}

interface Series {
  readonly key: string;
  readonly values: readonly string[];
  /** "pod shop/cart" and the like, that it names. */
  readonly things: readonly string[];
  /** Of a counter its value, of a histogram the sum. */
  sum: number;
  count: number;
  readonly buckets: number[];
}

/** Values by label of one metric. */
export class SeriesTable {
  /** Events that were counted in a series of "other". */
  folded = 0;
  readonly spec: MetricSpec;
  readonly #seriesMax: number;
  readonly #series = new Map<string, Series>();
  readonly #folded = new Map<string, Series>();
  readonly #byThing = new Map<string, Set<Series>>();

  constructor(spec: MetricSpec, seriesMax: number = SERIES_MAX) {
    this.spec = spec;
    this.#seriesMax = seriesMax;
  }

  /** Series held. */
  get size(): number {
    return this.#series.size + this.#folded.size;
  }

  /** Adds `amount` to the series of `values` (one of each label); `things` is asked when the series is new. */
  add(values: readonly string[], things: () => readonly string[], amount = 1): void {
    const series = this.#get(values, things);
    series.sum += amount;
    const { bounds } = this.spec;
    if (bounds === undefined) return;
    series.count++;
    const first = bounds.findIndex((bound) => amount <= bound);
    if (first >= 0) series.buckets[first]++;
  }

  /** Value of a series, of a histogram the number of observations; 0 when there is none. */
  value(values: readonly string[]): number {
    const key = keyOf(values), series = this.#series.get(key) ?? this.#folded.get(key);
    return (this.spec.bounds === undefined ? series?.sum : series?.count) ?? 0;
  }

  /** Drops every series that names `thing`. */
  forget(thing: string): void {
    for (const series of this.#byThing.get(thing) ?? []) {
      this.#series.delete(series.key);
      for (const other of series.things) {
        const named = this.#byThing.get(other);
        named?.delete(series);
        if (named?.size === 0) this.#byThing.delete(other);
      }
    }
  }

  /** Prometheus' text format 0.0.4. */
  render(): string[] {
    const { name, help, labels, bounds } = this.spec;
    const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${bounds ? "histogram" : "counter"}`];
    for (const series of [...this.#series.values(), ...this.#folded.values()]) {
      const text = series.values.map((value, i) => `${labels[i].name}="${escaped(value)}"`).join(",");
      const braces = text === "" ? "" : `{${text}}`;
      if (bounds === undefined) {
        lines.push(`${name}${braces} ${series.sum}`);
        continue;
      }
      const comma = text === "" ? "" : ",";
      let below = 0;
      bounds.forEach((bound, i) => {
        below += series.buckets[i];
        lines.push(`${name}_bucket{${text}${comma}le="${bound}"} ${below}`);
      });
      lines.push(`${name}_bucket{${text}${comma}le="+Inf"} ${series.count}`);
      lines.push(`${name}_sum${braces} ${series.sum}`, `${name}_count${braces} ${series.count}`);
    }
    return lines;
  }

  #get(values: readonly string[], things: () => readonly string[]): Series {
    // Somebody may be called "other": one series has one place.
    const key = keyOf(values), known = this.#series.get(key) ?? this.#folded.get(key);
    if (known !== undefined) return known;
    if (this.#series.size >= this.#seriesMax) return this.#fold(values);
    const series = this.#make(key, values, things());
    this.#series.set(key, series);
    for (const thing of series.things) {
      const named = this.#byThing.get(thing);
      if (named === undefined) this.#byThing.set(thing, new Set([series]));
      else named.add(series);
    }
    return series;
  }

  #fold(values: readonly string[]): Series {
    this.folded++;
    const { labels } = this.spec;
    const folded = values.map((value, i) => labels[i].isOpen ? OTHER : value);
    const key = keyOf(folded), known = this.#series.get(key) ?? this.#folded.get(key);
    if (known !== undefined) return known;
    if (this.#folded.size < FOLDED_SERIES_MAX) {
      const series = this.#make(key, folded, []);
      this.#folded.set(key, series);
      return series;
    }
    const rest = labels.map(() => OTHER), restKey = keyOf(rest);
    const series = this.#series.get(restKey) ?? this.#folded.get(restKey) ?? this.#make(restKey, rest, []);
    if (!this.#series.has(restKey)) this.#folded.set(restKey, series);
    return series;
  }

  #make(key: string, values: readonly string[], things: readonly string[]): Series {
    const buckets = (this.spec.bounds ?? []).map(() => 0);
    return { key, values: [...values], things: [...new Set(things)], sum: 0, count: 0, buckets };
  }
}

const keyOf = (values: readonly string[]) => values.join("\0");

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
