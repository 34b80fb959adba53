/** Reads Prometheus' text format 0.0.4, as services of Weir write it. @module */

/** Values of one set of labels. */
export interface Point {
  readonly labels: readonly (readonly [name: string, value: string])[];
  /** Of counters and gauges. */
  value: number;
  /** Of histograms: upper bound and how many are at most that. */
  buckets?: [bound: number, below: number][];
  sum: number;
  count: number;
}

/** A metric with its points. */
export interface Family {
  readonly name: string;
  help: string;
  kind: "counter" | "gauge" | "histogram";
  readonly points: Point[];
}

/** The metrics of a text; lines that cannot be read, and values that are no numbers, are left out. */
export function readPrometheusText(text: string): Family[] {
  const families = new Map<string, Family>();
  const points = new Map<Family, Map<string, Point>>();
  const familyOf = (name: string) => {
    const family = families.get(name) ?? { name, help: "", kind: "gauge", points: [] };
    families.set(name, family);
    return family;
  };
  for (const line of text.split("\n")) {
    const said = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (said !== null) {
      const family = familyOf(said[2]);
      if (said[1] === "HELP") family.help = said[3];
      else if (said[3] === "counter" || said[3] === "histogram") family.kind = said[3];
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample === null) continue;
    const value = sample[3] === "+Inf" ? Infinity : Number(sample[3]);
    if (!Number.isFinite(value)) continue;
    const labels = readLabels(sample[2] ?? "");
    const part = /^(.*)_(bucket|sum|count)$/.exec(sample[1]);
    const isPart = part !== null && families.get(part[1])?.kind === "histogram";
    const family = familyOf(isPart ? part[1] : sample[1]);
    const bound = labels.find(([name]) => name === "le")?.[1];
    const own = isPart ? labels.filter(([name]) => name !== "le") : labels;
    const key = JSON.stringify(own), known = points.get(family) ?? new Map<string, Point>();
    points.set(family, known);
    let point = known.get(key);
    if (point === undefined) {
      point = { labels: own, value: 0, sum: 0, count: 0, ...(isPart ? { buckets: [] } : {}) };
      known.set(key, point);
      family.points.push(point);
    }
    if (!isPart) point.value = value;
    else if (part[2] === "sum") point.sum = value;
    else if (part[2] === "count") point.count = value;
    else point.buckets?.push([bound === "+Inf" ? Infinity : Number(bound), value]);
  }
  return [...families.values()].filter(({ points }) => points.length > 0);
}

function readLabels(text: string): [string, string][] {
  return [...text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [
    name,
    value.replace(/\\(.)/g, (_, letter) => letter === "n" ? "\n" : letter),
  ]);
}
