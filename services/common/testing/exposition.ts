/**
 * Prometheus' text format 0.0.4, read as strictly as its description has it: what any reader might stop at is an error here.
 * @module
 */

/** One line of a value. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric with its samples. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/, LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*/;
const VALUE = /^(?:[+-]?Inf|NaN|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/;
const TYPES = ["counter", "gauge", "histogram"];

/**
 * Reads a whole text: each metric has one HELP, then one TYPE, then its samples in one group; no sample comes twice; a histogram's
 * buckets grow up to +Inf, which is its count; a counter is not negative.
 * @throws {Error} the line, and what is wrong with it
 */
export function readExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  if (!text.isWellFormed()) throw new Error("the text is no UTF-8");
  let helped: { name: string; help: string } | undefined, family: Family | undefined;
  const seen = new Set<string>();
  for (const [i, line] of text.slice(0, -1).split("\n").entries()) {
    const wrong = (what: string) =>
      new Error(`Line ${i + 1}, ${JSON.stringify(line.slice(0, 200))}: ${what}`);
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (families.has(name) || helped !== undefined) throw wrong("a second HELP");
      if (/\\(?![\\n])/.test(rest)) throw wrong("a HELP with an escape that there is not");
      helped = { name, help: rest };
    } else if (kind === "TYPE") {
      if (helped?.name !== name) throw wrong("a TYPE without its HELP");
      if (!TYPES.includes(rest)) throw wrong("no such TYPE");
      family = { name, help: helped.help, type: rest, samples: [] };
      helped = undefined;
      families.set(name, family);
    } else {
      if (family === undefined || helped !== undefined) throw wrong("a sample without a TYPE");
      const sample = readSample(line, wrong);
      const names = family.type === "histogram"
        ? ["_bucket", "_sum", "_count"].map((end) => family!.name + end)
        : [family.name];
      if (!names.includes(sample.name)) throw wrong(`a sample that is not of ${family.name}`);
      if (family.type === "counter" && !(sample.value >= 0)) throw wrong("a counter below 0");
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (seen.has(key)) throw wrong("the same sample twice");
      seen.add(key);
      family.samples.push(sample);
    }
  }
  for (const one of families.values()) if (one.type === "histogram") ensureHistogram(one);
  return families;
}

function readSample(line: string, wrong: (what: string) => Error): Sample {
  const name = NAME.exec(line)?.[0];
  if (name === undefined) throw wrong("no name");
  let at = name.length;
  const labels: Record<string, string> = {};
  if (line[at] === "{") {
    at++;
    while (line[at] !== "}") {
      const label = LABEL.exec(line.slice(at))?.[0];
      if (label === undefined) throw wrong(`no label at ${at}`);
      if (Object.hasOwn(labels, label)) throw wrong(`label ${label} twice`);
      at += label.length;
      const quoted = /^="((?:[^"\\]|\\[\\"n])*)"/.exec(line.slice(at));
      if (quoted === null) throw wrong(`no value of label ${label}`);
      labels[label] = quoted[1].replace(/\\(.)/g, (_, one) => one === "n" ? "\n" : one);
      at += quoted[0].length;
      if (line[at] === ",") at++;
      else if (line[at] !== "}") throw wrong(`neither , nor } at ${at}`);
    }
    if (line[at - 1] === ",") throw wrong("a comma before }");
    at++;
  }
  const value = line.slice(at + 1);
  if (line[at] !== " " || !VALUE.test(value)) throw wrong("no value");
  return { name, labels, value: Number(value.replace("Inf", "Infinity")) };
}

function ensureHistogram({ name, samples }: Family): void {
  const series = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...own } = sample.labels, key = JSON.stringify(Object.entries(own).sort());
    series.set(key, [...series.get(key) ?? [], sample]);
  }
  for (const [key, own] of series) {
    const buckets = own.filter((one) => one.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels: { le } }) => Number((le ?? "").replace("Inf", "Infinity")));
    const count = own.find((one) => one.name === `${name}_count`)?.value;
    const grows = buckets.every(({ value }, i) =>
      i === 0 || (value >= buckets[i - 1].value && bounds[i] > bounds[i - 1])
    );
    if (
      !grows || bounds.at(-1) !== Infinity || buckets.at(-1)!.value !== count ||
      own.length !== buckets.length + 2
    ) {
      throw new Error(`${name}${key} is no histogram`);
    }
  }
}
