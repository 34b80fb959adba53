/**
 * Causes of the drops of a window, from the history's sums: every drop counts, also of flows that are not kept one by one. The
 * example, with the lines of its policies, is one of the newest drops that are kept; of a cause without one it is made of the sum.
 * @module
 */
import type { DropReason, Verdict } from "@weir/proto/flow";
import type { Rollup } from "@weir/proto/history";
import type { DropCause, FlowEnd, FlowPolicy, FlowRow } from "../api.ts";
import { causeKey, idOf, nameOf, reasonText } from "./drop_causes.ts";
import { cardOf, type End, type EndNames, nodeNameOf } from "./flow_end.ts";
import { policyObjectName, rowOf } from "./flow_row.ts";
import type { FilterParameters, HistoryReader, Window } from "./history_reader.ts";
import { MAP_LIMITS } from "./map_view.ts";
import { endOfSum, type IdentityLabels, pairText } from "./sum_ends.ts";

const TREND_STEPS = 30;
const EXAMPLES_MAX = 2000, NODES_MAX = 16;
const DIRECTIONS = ["INGRESS", "EGRESS", "TRAFFIC_DIRECTION_UNKNOWN"];
const ENDS = ["from.workload", "to.workload", "from.identity", "to.identity", "port", "protocol"];

/** What they are made from. */
export interface PastCausesParts {
  readonly reader: HistoryReader;
  readonly names: EndNames;
  readonly filter: FilterParameters;
  readonly labels: IdentityLabels;
}

/** The causes, the most frequent first. */
export interface PastCauses {
  readonly list: readonly DropCause[];
  /** Drops of causes that there was no room for. */
  readonly folded: number;
  /** Reasons and their counts, by `pairText()`. */
  readonly reasons: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

type Made = { -readonly [K in keyof DropCause]: DropCause[K] } & { readonly known: readonly string[] };

/** @throws {ProblemError} */
export async function pastCauses(window: Window, parts: PastCausesParts): Promise<PastCauses> {
  const { reader, names, labels } = parts, filter = dropsOf(parts.filter);
  const nothing = { list: [], folded: 0, reasons: new Map() };
  if (filter === undefined) return nothing;
  const directions = filter["traffic-direction"]?.map((one) => one.toUpperCase()) ?? DIRECTIONS;
  const of = (direction: string) => ({ ...filter, "traffic-direction": [direction] });
  const sums = await Promise.all(
    directions.map(async (direction) => ({
      direction,
      answer: await reader.sums(window, [...ENDS, "reason", "policy"], { filter: of(direction) }),
    })),
  );
  const causes = new Map<string, Made>(), reasons = new Map<string, Map<string, number>>();
  let folded = 0;
  const untilS = Math.ceil(window.untilS);
  const stepS = Math.max(60, Math.ceil((untilS - window.sinceS) / TREND_STEPS / 60) * 60);
  for (const { direction, answer } of sums) {
    for (const row of answer.rollups) {
      if (row.dropped === 0) continue;
      const found = causeOf(row, direction, labels), pair = found.pair;
      const counts = reasons.get(pair) ?? new Map<string, number>();
      reasons.set(pair, counts.set(row.keys.reason, (counts.get(row.keys.reason) ?? 0) + row.dropped));
      const cause = causes.get(found.key);
      if (cause !== undefined) add(cause, row);
      else if (causes.size >= MAP_LIMITS.causesMax) folded += row.dropped;
      else causes.set(found.key, newCause(found, row, stepS));
    }
  }
  if (causes.size === 0) return { ...nothing, folded, reasons };
  await Promise.all([
    ...directions.map(async (direction) => {
      const answer = await reader.sums(window, [...ENDS, "reason", "policy"], {
        filter: of(direction),
        stepS,
      }).catch(() => undefined);
      // A part of them would be a wrong picture: then there is no trend.
      if (answer === undefined || answer.groups > answer.rollups.length) return;
      for (const row of answer.rollups) {
        const cause = row.dropped === 0 ? undefined : causes.get(causeOf(row, direction, labels).key);
        if (cause !== undefined) addStep(cause, row, untilS);
      }
    }),
    addNodes(causes, window, parts, filter),
    addExamples(causes, window, { reader, names, filter }),
  ]);
  const list = [...causes.values()].map(({ known: _, ...cause }) => cause)
    .sort((a, b) => b.count - a.count || b.lastSeenUnixS - a.lastSeenUnixS);
  return { list, folded, reasons };
}

/** The filter, of drops alone; undefined where it asks for none. */
function dropsOf(filter: FilterParameters): FilterParameters | undefined {
  const verdicts = filter.verdict?.map((one) => one.toUpperCase());
  if (verdicts !== undefined && !verdicts.includes("DROPPED")) return undefined;
  return { ...filter, verdict: ["DROPPED"] };
}

interface Found {
  readonly key: string;
  readonly pair: string;
  readonly from: End;
  readonly to: End;
  readonly direction: string;
  readonly policies: readonly FlowPolicy[];
}

function causeOf({ keys }: Rollup, direction: string, labels: IdentityLabels): Found {
  const from = endOfSum(keys["from.workload"], Number(keys["from.identity"]), labels);
  const to = endOfSum(keys["to.workload"], Number(keys["to.identity"]), labels);
  const port = Number(keys.port), way = wayOf(direction);
  const policies = policiesOf(keys.policy ?? "", way);
  const key = causeKey({
    ...{ from: cardOf(from, "workload").id, to: cardOf(to, "workload").id, protocol: keys.protocol, port },
    ...{ reason: keys.reason, direction: way, policies: policies.map(({ name }) => name) },
  });
  return { key, pair: pairText(from, to, keys.protocol, port), from, to, direction: way, policies };
}

const wayOf = (direction: string): "ingress" | "egress" | "" =>
  direction === "INGRESS" ? "ingress" : direction === "EGRESS" ? "egress" : "";

/** "CiliumNetworkPolicy:shop/web,default-deny": as the history calls them. */
function policiesOf(text: string, way: "ingress" | "egress" | ""): FlowPolicy[] {
  return text.split(",").filter((one) => one !== "").map((one) => {
    const colon = one.indexOf(":"), kind = one.slice(0, Math.max(0, colon));
    const path = kind === "" ? "" : one.slice(colon + 1), slash = path.indexOf("/");
    const namespace = slash < 0 ? "" : path.slice(0, slash), policyName = path.slice(slash + 1);
    return {
      name: policyObjectName({ kind, namespace, name: policyName }),
      ...{ kind, namespace, policyName, path: "", file: "", line: 0 },
      direction: way === "egress" ? "egress" : "ingress",
      effect: "denied",
    };
  });
}

function newCause({ key, from, to, direction, policies }: Found, row: Rollup, stepS: number): Made {
  const { keys } = row, [a, b] = [cardOf(from, "workload"), cardOf(to, "workload")];
  return {
    id: idOf(key),
    ...{ from: a.id, fromName: nameOf(a), to: b.id, toName: nameOf(b) },
    ...{ protocol: keys.protocol, port: Number(keys.port), reason: keys.reason, direction, policies },
    reasonText: reasonText(keys.reason, policies.length > 0),
    count: row.dropped,
    firstSeenUnixS: row.firstUnixS,
    lastSeenUnixS: row.lastUnixS,
    trend: [],
    trendStepS: stepS,
    nodes: [],
    example: exampleOf(row, { from, to, direction, policies }),
    known: policies.map(({ name }) => name),
  };
}

function add(cause: Made, row: Rollup): void {
  cause.count += row.dropped;
  cause.firstSeenUnixS = Math.min(cause.firstSeenUnixS, row.firstUnixS);
  cause.lastSeenUnixS = Math.max(cause.lastSeenUnixS, row.lastUnixS);
}

function addStep(cause: Made, { startUnixS, dropped }: Rollup, untilS: number): void {
  const trend = cause.trend.length === 0 ? new Array<number>(TREND_STEPS).fill(0) : [...cause.trend];
  const index = TREND_STEPS - 1 - Math.floor((untilS - 1 - startUnixS) / cause.trendStepS);
  if (index >= 0 && index < TREND_STEPS) trend[index] += dropped;
  cause.trend = trend;
}

/** A row as the sum tells it. */
function exampleOf(
  row: Rollup,
  { from, to, direction, policies }: {
    from: End;
    to: End;
    direction: string;
    policies: readonly FlowPolicy[];
  },
): FlowRow {
  const end = (one: End, port: number): FlowEnd => ({
    card: cardOf(one, "workload").id,
    ...{ namespace: one.namespace, pod: one.pod, workload: one.workload, workloadKind: one.workloadKind },
    ...{ ip: "", port, identity: one.identity, labels: one.labels, service: "" },
    names: one.kind === "dns" ? [one.name] : [],
  });
  return {
    uuid: "",
    timeUnixS: row.lastUnixS,
    node: "",
    verdict: "DROPPED" satisfies Verdict,
    ...{ dropReason: row.keys.reason satisfies string as DropReason, direction, kind: "drop", reply: null },
    ...{ source: end(from, 0), destination: end(to, Number(row.keys.port)), protocol: row.keys.protocol },
    ...{ summary: "", request: [], policies, trouble: "" },
  };
}

async function addNodes(
  causes: ReadonlyMap<string, Made>,
  window: Window,
  { reader, labels }: PastCausesParts,
  filter: FilterParameters,
): Promise<void> {
  const answer = await reader.sums(window, [...ENDS, "reason", "node"], { filter });
  const nodes = new Map<string, Set<string>>();
  const textOf = (cause: { from: string; to: string; protocol: string; port: number; reason: string }) =>
    `${cause.from} ${cause.to} ${cause.protocol} ${cause.port} ${cause.reason}`;
  for (const row of answer.rollups) {
    if (row.dropped === 0) continue;
    const { from, to } = causeOf(row, "", labels), { keys } = row;
    const text = textOf({
      ...{ from: cardOf(from, "workload").id, to: cardOf(to, "workload").id },
      ...{ protocol: keys.protocol, port: Number(keys.port), reason: keys.reason },
    });
    const known = nodes.get(text) ?? new Set();
    nodes.set(text, known.add(nodeNameOf(keys.node)));
  }
  for (const cause of causes.values()) {
    cause.nodes = [...nodes.get(textOf(cause)) ?? []].sort().slice(0, NODES_MAX);
  }
}

async function addExamples(
  causes: ReadonlyMap<string, Made>,
  window: Window,
  { reader, names, filter }: { reader: HistoryReader; names: EndNames; filter: FilterParameters },
): Promise<void> {
  const { flows } = await reader.flows(window, EXAMPLES_MAX, { ...filter, type: ["drop"] });
  for (const flow of flows) {
    const example = rowOf(flow, names, window.untilS), { source, destination, protocol } = example;
    const isIcmp = protocol.startsWith("ICMP");
    const cause = causes.get(causeKey({
      ...{ from: source.card, to: destination.card, protocol, port: isIcmp ? 0 : destination.port },
      ...{ reason: example.dropReason, direction: example.direction },
      policies: example.policies.map(({ name }) => name),
    }));
    if (cause === undefined) continue;
    cause.example = example;
    cause.policies = example.policies;
    cause.reasonText = reasonText(example.dropReason, example.policies.length > 0);
  }
}
