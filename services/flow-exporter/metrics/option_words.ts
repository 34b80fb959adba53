/**
 * Reads `--hubble-metrics` as Hubble writes it: names between spaces, options after a colon between semicolons, alternatives between `|`.
 *
 *     drop:sourceContext=workload|reserved-identity;labelsContext=source_namespace,destination_namespace flow tcp dns:query;ignoreAAAA
 *
 * The word `default` stands for {@link METRICS_DEFAULT}: `default sctp` counts that and one more.
 * It needs none of what counts, so that the agent can refuse wrong words before it starts anything.
 * @module
 */
import { ProblemError } from "@weir/common";

/** Options of its own, by the name that enables a metric. */
export const METRIC_OPTIONS = {
  dns: ["query", "ignoreAAAA"],
  drop: [],
  flow: [],
  "flows-to-world": ["any-drop", "port", "syn-only"],
  http: [],
  httpV2: [],
  icmp: [],
  policy: [],
  "port-distribution": [],
  sctp: [],
  tcp: [],
} as const;
/** A name that enables a metric. */
export type MetricName = keyof typeof METRIC_OPTIONS;

/** Ways to say who somebody is, for the labels `source` and `destination`. */
export const IDENTIFIERS = [
  "identity",
  "namespace",
  "pod",
  "pod-name",
  "dns",
  "ip",
  "reserved-identity",
  "workload",
  "workload-name",
  "app",
] as const;
/** One of {@link IDENTIFIERS}. */
export type IdentifierName = typeof IDENTIFIERS[number];

/** What follows `source_` and `destination_` in `labelsContext`. */
export const END_LABELS = ["ip", "pod", "namespace", "workload", "workload_kind", "app"] as const;
/** The two sides of a flow. */
export const SIDES = ["source", "destination"] as const;
/** Every label of `labelsContext`, in the order in which they are served. */
export const LABELS_CONTEXT: readonly string[] = [
  ...SIDES.flatMap((side) => END_LABELS.map((name) => `${side}_${name}`)),
  "traffic_direction",
];

const CONTEXTS: readonly string[] = [
  ...SIDES.flatMap((side) => ["Context", "EgressContext", "IngressContext"].map((name) => side + name)),
  "labelsContext",
];

const NAMESPACES = "labelsContext=source_namespace,destination_namespace";
const WORKLOADS = "sourceContext=workload|reserved-identity;destinationContext=workload|reserved-identity";

/** What the word "default" stands for: what the dashboards in deploy/grafana show. */
export const METRICS_DEFAULT: string = [
  ...[`drop:${WORKLOADS};${NAMESPACES}`, `flow:${NAMESPACES}`, "tcp", "icmp", "port-distribution"],
  ...["policy", "flows-to-world", `dns:${NAMESPACES}`, `httpV2:${WORKLOADS};${NAMESPACES}`],
].join(" ");

/** A metric with the options that were given, keys in lower case. */
export interface MetricWords {
  readonly name: MetricName;
  readonly options: ReadonlyMap<string, string>;
}

/**
 * Reads names and options; "" is none.
 * @throws {ProblemError} HUBBLE_METRICS_INVALID, with what is known
 */
export function readMetricWords(text: string): MetricWords[] {
  const words = text.split(/\s+/).map((word) => word === "default" ? METRICS_DEFAULT : word).join(" ");
  const read = words.split(" ").filter((word) => word !== "").map(readMetric);
  const names = read.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw invalid(`${twice} is named twice`, twice, "each metric once");
  if (names.includes("http") && names.includes("httpV2")) {
    throw invalid("http and httpV2 have metrics of the same names", "http httpV2", "one of them");
  }
  return read;
}

function readMetric(word: string): MetricWords {
  const colon = word.indexOf(":"), name = colon < 0 ? word : word.slice(0, colon);
  if (!isMetric(name)) {
    throw invalid(
      `there is no metric "${name}"`,
      name,
      ["default", ...Object.keys(METRIC_OPTIONS)].join(", "),
    );
  }
  const known: readonly string[] = [...CONTEXTS, ...METRIC_OPTIONS[name]];
  const options = new Map<string, string>();
  for (const option of colon < 0 ? [] : word.slice(colon + 1).split(";")) {
    if (option === "") continue;
    const [key, value] = option.split(/=(.*)/s), lower = key.toLowerCase();
    if (!known.some((each) => each.toLowerCase() === lower)) {
      throw invalid(`${name} has no option "${key}"`, key, known.join(", "));
    }
    if (options.has(lower)) throw invalid(`${name} has option "${key}" twice`, key, "it once");
    if (lower.endsWith("context")) checkContext(name, lower, value ?? "");
    options.set(lower, value ?? "");
  }
  return { name, options };
}

function isMetric(name: string): name is MetricName {
  return Object.hasOwn(METRIC_OPTIONS, name);
}

function checkContext(name: string, key: string, value: string): void {
  const isLabels = key === "labelscontext";
  const known: readonly string[] = isLabels ? LABELS_CONTEXT : IDENTIFIERS;
  for (const part of value.split(isLabels ? "," : "|")) {
    if (!known.includes(part)) {
      throw invalid(`${name}: there is no "${part}" for ${key}`, part, known.join(", "));
    }
  }
}

function invalid(what: string, found: string, expected: string): ProblemError {
  return new ProblemError("HUBBLE_METRICS_INVALID", {
    detail: `Cannot read --hubble-metrics: ${what}; expected ${expected}`,
    found,
    expected,
  });
}
