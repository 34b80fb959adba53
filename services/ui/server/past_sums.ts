/**
 * A window made of the history's sums. All flows are in those, also the ones that are not kept one by one: what it says is whole,
 * however many flows there were. Sums are of whole minutes.
 *
 *     sums by ends, identities, port, verdict, direction ─▶ pairs ─▶ flow_table ─▶ map_view by workload, namespace
 *     the same by pod and node, or by a label ──────────────────────────────────▶ map_view by node, by label
 *     sums of drops ─▶ past_causes
 *
 * A connection counts once, as the worst that became of it: sums say how many began and of how many something was dropped. Those that an
 * older version wrote do not: there what one end let go counts unless the other end let nothing through.
 * @module
 */
import { ProblemError } from "@weir/common";
import { Identity } from "@weir/proto/identity";
import type { Rollup, RollupAnswer } from "@weir/proto/history";
import type { Completeness, Group } from "../api.ts";
import { type End, type EndNames, nodeNameOf } from "./flow_end.ts";
import { FlowTable, type PairSum } from "./flow_table.ts";
import { type FilterParameters, type HistoryReader, wholeMinutes, type Window } from "./history_reader.ts";
import { MapView } from "./map_view.ts";
import { pastCauses } from "./past_causes.ts";
import { windowOfFlows } from "./past_flows.ts";
import type { HitsOf, ShownWindow } from "./shown_window.ts";
import { endOfSum, HOST, type IdentityLabels, pairText } from "./sum_ends.ts";

const ENDS = ["from.workload", "to.workload", "from.identity", "to.identity"] as const;
const BY_WORKLOAD = [...ENDS, "port", "protocol", "verdict", "direction"];
const BY_HOST = [...ENDS, "port", "protocol", "verdict", "node"];
const BY_NODE = ["from.pod", "to.pod", "port", "protocol", "verdict", "direction", "node"];

/** What it is made from. */
export interface PastSumsParts {
  readonly reader: HistoryReader;
  readonly names: EndNames;
  readonly filter: FilterParameters;
}

/** The window. @throws {ProblemError} FILTER_NOT_SUPPORTED, QUERY_INVALID: sums do not hold what the filter asks */
export async function windowOfSums(window: Window, parts: PastSumsParts): Promise<ShownWindow> {
  const { reader, names, filter } = parts, whole = wholeMinutes(window), { sinceS, untilS } = whole;
  const asked = { sinceS, untilS: untilS - 0.001 };
  const ask = (by: readonly string[]) => reader.sums(asked, by, { filter });
  const sums = await ask(BY_WORKLOAD);
  const [fromPods, toPods, labels] = await Promise.all([
    ask(["from.workload", "from.pod"]),
    ask(["to.workload", "to.pod"]),
    labelsAt(reader, untilS),
  ]);
  const hasHost = sums.rollups.some(({ keys }) =>
    [keys["from.identity"], keys["to.identity"]].includes(`${HOST}`)
  );
  const hosts = hasHost ? await ask(BY_HOST) : undefined;
  const causes = await pastCauses(asked, { reader, names, filter, labels });
  const own = new Sums({ labels, pods: podsOf([fromPods, toPods]), causes: causes.reasons });
  const pairs = own.byWorkload(sums, hosts), table = tableOf(names, pairs);
  const views = new Map<Group, Promise<MapView>>();
  let hits: Promise<HitsOf> | undefined;
  const viewOf = async (group: Group): Promise<MapView> => {
    if (group === "workload" || group === "namespace") return MapView.ofWindow(group, table, whole);
    if (group === "node") {
      return MapView.ofWindow(group, tableOf(names, own.byNode(await ask(BY_NODE))), whole);
    }
    const by = ["from.workload", "to.workload", `from.${group}`, `to.${group}`, ...BY_WORKLOAD.slice(4)];
    return MapView.ofWindow(group, tableOf(names, own.byLabel(await ask(by), group.slice(6))), whole);
  };
  return {
    ...whole,
    isPast: true,
    completeness: completenessOf(sums, Object.keys(filter).length > 0),
    causes: causes.list,
    foldedDrops: causes.folded,
    foldedPairs: table.folded + Math.max(0, sums.groups - sums.rollups.length),
    async hits() {
      hits ??= windowOfFlows(window, { reader, names, filter }).then((flows) => flows.hits());
      try {
        return await hits;
      } catch (error) {
        hits = undefined;
        throw error;
      }
    },
    async view(group) {
      let view = views.get(group);
      if (view === undefined) views.set(group, view = viewOf(group));
      try {
        return await view;
      } catch (error) {
        views.delete(group);
        throw error;
      }
    },
  };
}

/** Labels of identities as they held; none where that is not known. */
async function labelsAt(reader: HistoryReader, untilS: number): Promise<IdentityLabels> {
  try {
    const identities = await reader.held(untilS, "identity", Identity);
    return new Map(identities.map(({ number, labels }) => [number, labels]));
  } catch (error) {
    if (error instanceof ProblemError && error.code === "HISTORY_TOO_YOUNG") return new Map();
    throw error;
  }
}

/** Workload -> names of its pods, without the namespace. */
function podsOf(answers: readonly RollupAnswer[]): Map<string, string[]> {
  const pods = new Map<string, Set<string>>();
  for (const { rollups } of answers) {
    for (const { keys } of rollups) {
      const workload = keys["from.workload"] ?? keys["to.workload"], pod = keys["from.pod"] ?? keys["to.pod"];
      if (!pod.includes("/")) continue;
      const names = pods.get(workload) ?? new Set();
      pods.set(workload, names.add(pod.slice(pod.indexOf("/") + 1)));
    }
  }
  return new Map([...pods].map(([workload, names]) => [workload, [...names]]));
}

function tableOf(names: EndNames, pairs: Iterable<PairSum>): FlowTable {
  const table = new FlowTable(names);
  for (const pair of pairs) table.addSum(pair);
  return table;
}

/** Rows of one pair, while they are added up. */
interface Sum {
  readonly from: End;
  readonly to: End;
  readonly fromPods: readonly string[];
  readonly toPods: readonly string[];
  readonly protocol: string;
  readonly port: number;
  flows: number;
  /** Connections that began, those of rows that were not dropped, and those that had a drop. */
  connections: number;
  letIn: number;
  denied: number;
  /** Events that were not dropped, and of these the ones that the destination's end told of. */
  passed: number;
  arrived: number;
  dropped: number;
  droppedAtDestination: number;
  /** Audited events by direction: a connection can be told of by both its ends. */
  readonly audited: Map<string, number>;
  trouble: number;
  firstSeenS: number;
  lastSeenS: number;
}

/** Makes pairs of sums. */
class Sums {
  readonly #labels: IdentityLabels;
  readonly #pods: ReadonlyMap<string, readonly string[]>;
  readonly #causes: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** The identity of a workload, of the busiest where there are several. */
  readonly #identities = new Map<string, number>();

  constructor({ labels, pods, causes }: {
    labels: IdentityLabels;
    pods: ReadonlyMap<string, readonly string[]>;
    /** Reasons by {@link pairText}. */
    causes: ReadonlyMap<string, ReadonlyMap<string, number>>;
  }) {
    this.#labels = labels;
    this.#pods = pods;
    this.#causes = causes;
  }

  byWorkload({ rollups }: RollupAnswer, hosts: RollupAnswer | undefined): PairSum[] {
    const sums = new Map<string, Sum>();
    for (const row of rollups) {
      const { keys } = row, numbers = [Number(keys["from.identity"]), Number(keys["to.identity"])];
      for (const [i, side] of (["from.workload", "to.workload"] as const).entries()) {
        if (!this.#identities.has(keys[side])) this.#identities.set(keys[side], numbers[i]);
      }
      if (hosts !== undefined && numbers.includes(HOST)) continue;
      this.#add(sums, row, this.#ends(keys, numbers));
    }
    // What a host does is told by its own node.
    for (const row of hosts?.rollups ?? []) {
      const { keys } = row, numbers = [Number(keys["from.identity"]), Number(keys["to.identity"])];
      if (!numbers.includes(HOST)) continue;
      const node = nodeNameOf(keys.node);
      this.#add(sums, row, this.#ends(keys, numbers, numbers.map((number) => number === HOST ? node : "")));
    }
    return [...sums].map(([text, sum]) => this.#finish(text, sum));
  }

  byNode({ rollups }: RollupAnswer): PairSum[] {
    const sums = new Map<string, Sum>(), nodes = new Map<string, string>();
    for (const { keys } of rollups) {
      if (keys.direction === "EGRESS") nodes.set(keys["from.pod"], nodeNameOf(keys.node));
      if (keys.direction === "INGRESS") nodes.set(keys["to.pod"], nodeNameOf(keys.node));
    }
    for (const row of rollups) {
      const end = (text: string) => {
        const identity = this.#identities.get(text) ?? 0;
        const node = identity === HOST ? nodeNameOf(row.keys.node) : nodes.get(text) ?? "";
        return endOfSum(text, identity, this.#labels, text.includes("/") || identity === HOST ? node : "");
      };
      this.#add(sums, row, [end(row.keys["from.pod"]), end(row.keys["to.pod"])]);
    }
    return [...sums].map(([text, sum]) => this.#finish(text, sum));
  }

  byLabel({ rollups }: RollupAnswer, key: string): PairSum[] {
    const sums = new Map<string, Sum>();
    for (const row of rollups) {
      const end = (side: "from" | "to") => {
        const text = row.keys[`${side}.workload`], value = row.keys[`${side}.label:${key}`] ?? "";
        const own = endOfSum(text, this.#identities.get(text) ?? 0, this.#labels);
        if (own.kind !== "workload") return own;
        return { ...own, key: `${own.key} ${value}`, labels: value === "" ? [] : [`${key}=${value}`] };
      };
      this.#add(sums, row, [end("from"), end("to")]);
    }
    return [...sums].map(([text, sum]) => this.#finish(text, sum));
  }

  #ends(
    keys: Rollup["keys"],
    numbers: readonly number[],
    nodes: readonly string[] = ["", ""],
  ): [from: End, to: End] {
    return [
      endOfSum(keys["from.workload"], numbers[0], this.#labels, nodes[0]),
      endOfSum(keys["to.workload"], numbers[1], this.#labels, nodes[1]),
    ];
  }

  #add(sums: Map<string, Sum>, row: Rollup, [from, to]: [from: End, to: End]): void {
    const { keys } = row, port = Number(keys.port), { protocol, direction } = keys;
    const texts = [keys["from.workload"] ?? "", keys["to.workload"] ?? ""];
    const key = `${pairText(from, to, protocol, port)}\n${from.key}\n${to.key}`;
    let sum = sums.get(key);
    if (sum === undefined) {
      sum = {
        ...{
          from,
          to,
          protocol,
          port,
          flows: 0,
          connections: 0,
          letIn: 0,
          denied: 0,
          passed: 0,
          arrived: 0,
          trouble: 0,
        },
        fromPods: from.pod !== "" ? [from.pod] : this.#pods.get(texts[0]) ?? [],
        toPods: to.pod !== "" ? [to.pod] : this.#pods.get(texts[1]) ?? [],
        ...{ dropped: 0, droppedAtDestination: 0, audited: new Map() },
        firstSeenS: row.firstUnixS,
        lastSeenS: row.lastUnixS,
      };
      sums.set(key, sum);
    }
    const isPassed = keys.verdict !== "DROPPED" && keys.verdict !== "ERROR";
    sum.flows += row.flows;
    sum.dropped += row.dropped;
    sum.trouble += row.troubles;
    sum.connections += row.connections;
    sum.denied += row.denied;
    if (isPassed) {
      sum.letIn += row.connections;
      sum.passed += row.flows - row.troubles;
    }
    // Without a direction (a host's own sums) nothing is taken away.
    if (direction !== "EGRESS" && isPassed) sum.arrived += row.flows;
    if (direction === "INGRESS") sum.droppedAtDestination += row.dropped;
    if (row.audited > 0) {
      sum.audited.set(direction ?? "", (sum.audited.get(direction ?? "") ?? 0) + row.audited);
    }
    sum.firstSeenS = Math.min(sum.firstSeenS, row.firstUnixS);
    sum.lastSeenS = Math.max(sum.lastSeenS, row.lastUnixS);
  }

  #finish(text: string, sum: Sum): PairSum {
    const passed = passedOf(sum);
    const audited = Math.min(passed, Math.max(0, ...sum.audited.values()));
    return {
      ...sum,
      allowed: passed - audited,
      audited,
      reasons: this.#causes.get(text.slice(0, text.indexOf("\n"))) ?? new Map(),
    };
  }
}

/** Connections of which nothing was dropped. One that goes on since before the window is one all the same. Pure. */
function passedOf(
  { connections, letIn, denied, passed, arrived, dropped, droppedAtDestination }: Sum,
): number {
  // Where one end denies, what the other end let go came nowhere.
  const goesOn = droppedAtDestination > 0 ? arrived > 0 : passed > 0;
  const isTold = denied > 0 || dropped === 0;
  if (!isTold && !goesOn) return 0;
  return Math.max(isTold ? connections - denied : letIn, goesOn ? 1 : 0);
}

/** How much of what happened is in sums. Pure. */
function completenessOf(
  { rollups, groups, completeness, folded }: RollupAnswer,
  isFiltered: boolean,
): Completeness {
  const { seen = 0, lost = 0, countedText = "", missingText = "" } = completeness ?? {};
  const number = (value: number) => value.toLocaleString("en-US");
  const shown = rollups.reduce((sum, { flows }) => sum + flows, 0);
  const parts = isFiltered
    ? [`${number(shown)} of ${number(seen)} flows match`, `${countedText} counted`]
    : [`${number(seen)} flow${seen === 1 ? "" : "s"}`, countedText];
  if (missingText !== "") parts.push(missingText);
  if (groups > rollups.length) parts.push(`the largest ${number(rollups.length)} of ${number(groups)} sums`);
  if (folded > 0) parts.push(`${number(folded)} as “other”`);
  return { seen: seen + lost, shown, lost, sampled: 1, text: parts.join(", ") };
}
