/**
 * What changes when one set of policies takes the place of another: connections that open, and connections that close. Both sets are
 * resolved over the same ends: the workloads that either of them comes with, pods by labels that their selectors tell apart, the world, and the
 * prefixes and names that they mean. Ends whom both sets treat alike are one class, of which one is judged.
 * @module
 */
import { LabelSet, Prefix } from "@weir/common";
import type { RuleSource } from "@weir/proto/policy";
import { OwnCidrNumbers } from "../cidr_numbers.ts";
import type { PeerSource } from "../peer_source.ts";
import { type Direction, DIRECTIONS, type Policy } from "../policy.ts";
import { type End, EndNumbers, ENDS_OUTSIDE, isSubjectEnd } from "./end.ts";
import { compareText, type Inventory } from "./inventory.ts";
import { describeLabels, labelCandidates, selectorsOf } from "./label_candidates.ts";
import { OfflineCluster } from "./offline_cluster.ts";
import { formatRanges, joinRanges, type PortRange } from "./port_range.ts";
import { kindsTowards, RemoteEnds, type Segment, segmentsBetween } from "./reach.ts";

/** Connections of one kind that open or close for one reason. */
export interface Difference {
  readonly effect: "opens" | "closes";
  readonly ports: readonly PortRange[];
  /** A pair that shows it. */
  readonly from: End;
  readonly to: End;
  /** Classes of pairs that it is so for. */
  readonly pairs: number;
  /** Rules that decided before, and those that decide now; empty: no policy was about it. */
  readonly before: readonly RuleSource[];
  readonly now: readonly RuleSource[];
}

/** All differences, those that open first. */
export interface Comparison {
  readonly differences: readonly Difference[];
  /** Policies whose rules are not the same, or that only one set has. */
  readonly changed: readonly string[];
  /** Classes of ends that were compared. */
  readonly classes: number;
  /** There were more sets of labels than are tried: something may be missing. */
  readonly isCut: boolean;
}

/** Options of {@link compare}. */
export interface CompareOptions {
  /** Name of the cluster; default `default`. */
  readonly cluster?: string;
  /** Most sets of labels that nobody wrote down; default 3,000. */
  readonly candidatesMax?: number;
}

/** @throws {CidrNumberError} more prefixes than there are numbers */
export function compare(old: Inventory, fresh: Inventory, options: CompareOptions = {}): Comparison {
  const { cluster = "default", candidatesMax = 3000 } = options;
  const changed = changedPolicies(old.policies, fresh.policies);
  const all = [...old.policies, ...fresh.policies];
  const sources = all.flatMap(({ name, source }) => source && changed.has(name) ? [source] : []);
  // What a policy says hangs on the objects that it names.
  const isChanged = (policy: Policy) => changed.has(policy.name) || names(policy, sources);
  const { sets, isCut } = labelCandidates(
    selectorsOf(all.filter(isChanged)),
    selectorsOf(all.filter((policy) => !isChanged(policy))),
    { cluster, max: candidatesMax },
  );
  const numbers = new EndNumbers(), workloads = new Map<string, End>();
  for (const workload of [...fresh.workloads, ...old.workloads]) {
    const key = `${workload.namespace}/${workload.name}/${workload.labels.key}`;
    if (!workloads.has(key) && numbers.room > sets.length) workloads.set(key, numbers.workload(workload));
  }
  const ends = [...workloads.values(), ...sets.map((set) => numbers.labels(describeLabels(set), set))];
  const cidrNumbers = new OwnCidrNumbers();
  const before = new OfflineCluster({ policies: old.policies, ends, numbers: cidrNumbers });
  const now = new OfflineCluster({ policies: fresh.policies, ends, numbers: cidrNumbers });
  const outside = new Map(
    [...ENDS_OUTSIDE, ...before.outside(), ...now.outside()].map((end) => [end.name, end]),
  );
  const classes = [...classesOf(ends, all, before, now), ...outside.values()];
  const found = comparePairs(classes, before, now);
  return { differences: sorted(found), changed: [...changed].sort(), classes: classes.length, isCut };
}

/** Names of policies that say something else, or are in one set alone. */
function changedPolicies(old: readonly Policy[], fresh: readonly Policy[]): Set<string> {
  const texts = new Map(old.map((policy) => [policy.name, rulesText(policy)])), changed = new Set<string>();
  for (const policy of fresh) {
    if (texts.get(policy.name) !== rulesText(policy)) changed.add(policy.name);
    texts.delete(policy.name);
  }
  return changed.union(new Set(texts.keys()));
}

/** Whether some peer of a policy is what one of these objects says. */
function names({ rules }: Policy, sources: readonly PeerSource[]): boolean {
  if (sources.length === 0) return false;
  const peers = rules.flatMap(({ directions }) =>
    DIRECTIONS.flatMap((direction) => directions[direction].sections)
  )
    .flatMap((section) => section.peers);
  return peers.some(({ selector }) =>
    selector.type === "source" &&
    sources.some(({ kind, labels }) => kind === selector.kind && selector.selector.matches(labels))
  );
}

/** What a policy says, wherever it stands. */
function rulesText({ rules, source }: Policy): string {
  return JSON.stringify([rules, source], (key, value) => {
    if (key === "line" || key === "description") return undefined;
    if (value instanceof LabelSet) return value.key;
    return value instanceof Prefix ? value.text : value;
  });
}

/** One end of those whom the same rules select and the same peers mean: workloads before labels, few labels before many. */
function classesOf(ends: readonly End[], policies: readonly Policy[], ...clusters: OfflineCluster[]): End[] {
  const selectors = selectorsOf(policies),
    groups = new Map<object, number>(),
    classes = new Map<string, End>();
  for (const end of ends) {
    if (!isSubjectEnd(end)) continue;
    const signature = clusters.map((cluster) => {
      const group = cluster.groupOf(end);
      if (group === undefined) return -1;
      if (!groups.has(group)) groups.set(group, groups.size);
      return groups.get(group)!;
    });
    for (const [at, selector] of selectors.entries()) if (selector.matches(end.labels)) signature.push(at);
    const key = `${signature.join()}/${JSON.stringify(end.ports)}`, known = classes.get(key);
    if (known === undefined || isPlainer(end, known)) classes.set(key, end);
  }
  return [...classes.values()];
}

function isPlainer(a: End, b: End): boolean {
  if (a.type !== b.type) return a.type === "workload";
  return a.type === "labels" && a.labels!.size < b.labels!.size;
}

/** What became of some ports of a pair. */
type Outcome = Omit<Difference, "from" | "to" | "pairs"> & { readonly key: string };

/** All pairs of which one end at least has a policy. Those of one kind are judged once. */
function comparePairs(
  ends: readonly End[],
  before: OfflineCluster,
  now: OfflineCluster,
): Iterable<Difference> {
  const clusters = [before, now] as const, remotes = clusters.map((cluster) => new RemoteEnds(cluster, ends));
  /** For each end and each remote end how both clusters take it, as one number. */
  const kinds = new Map<number, number>();
  const sidesOf = (direction: Direction) =>
    ends.map((end) => {
      const [old, fresh] = clusters.map((cluster, at) => kindsTowards(cluster, end, direction, remotes[at]));
      return old.map((kind, at) => numbered(kinds, pairOf(kind + 1, fresh[at] + 1)));
    });
  const egress = sidesOf("EGRESS"), ingress = sidesOf("INGRESS");
  const outcomes = new Map<number, readonly Outcome[]>(), found = new Map<string, Difference>();
  for (const [i, from] of ends.entries()) {
    for (const [j, to] of ends.entries()) {
      const kind = pairOf(egress[i][j], ingress[j][i]);
      let list = outcomes.get(kind);
      if (list === undefined) outcomes.set(kind, list = outcomesOf(from, to, before, now));
      for (const { key, ...outcome } of list) {
        const known = found.get(key);
        const isPlainer = known === undefined ||
          weight(from) + weight(to) < weight(known.from) + weight(known.to);
        const shown = isPlainer ? { from, to } : { from: known.from, to: known.to };
        found.set(key, { ...outcome, ...shown, pairs: (known?.pairs ?? 0) + 1 });
      }
    }
  }
  return found.values();
}

/** Two numbers below 2^26 as one. */
function pairOf(a: number, b: number): number {
  return a * 0x400_0000 + b;
}

function numbered(numbers: Map<number, number>, value: number): number {
  const known = numbers.get(value) ?? numbers.size;
  numbers.set(value, known);
  return known;
}

function outcomesOf(from: End, to: End, before: OfflineCluster, now: OfflineCluster): Outcome[] {
  const old = segmentsBetween(before, from, to), fresh = segmentsBetween(now, from, to);
  const kinds = new Map<string, { sample: [Segment, Segment]; ranges: PortRange[] }>();
  for (const [a, b] of overlaps(old, fresh)) {
    if (a.allowed === b.allowed) continue;
    const cookies = [a.egress, a.ingress, b.egress, b.ingress].map((verdict) => verdict?.cookie ?? 0);
    const key = `${b.allowed}/${cookies.join()}`, kind = kinds.get(key) ?? { sample: [a, b], ranges: [] };
    kinds.set(key, kind);
    const { protocol } = a;
    kind.ranges.push({ protocol, first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) });
  }
  return [...kinds.values()].map(({ sample: [a, b], ranges }) => {
    const ports = joinRanges(ranges), effect = b.allowed ? "opens" : "closes";
    const sources = { before: decidersOf(a, before), now: decidersOf(b, now) };
    const key = [effect, formatRanges(ports), sourcesText(sources.before), sourcesText(sources.now)].join(
      "|",
    );
    return { effect, ports, ...sources, key };
  });
}

/** Ends that say most to people weigh least. */
const WEIGHTS: Readonly<Record<End["type"], number>> = {
  workload: 0,
  world: 1,
  labels: 2,
  prefix: 3,
  name: 3,
  host: 4,
};

function weight({ type, labels }: End): number {
  return WEIGHTS[type] + (labels?.size ?? 0) / 1000;
}

/** Pairs of segments that have ports in common. Both lists have every port, in one order. */
function* overlaps(a: readonly Segment[], b: readonly Segment[]): Generator<[Segment, Segment]> {
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const x = a[i], y = b[j];
    yield [x, y];
    if (x.last <= y.last) i++;
    if (y.last <= x.last) j++;
  }
}

/** The rules that decide: of a refusal those of the sides that refuse, of a connection those that allow. */
function decidersOf({ allowed, egress, ingress }: Segment, cluster: OfflineCluster): RuleSource[] {
  const found = new Map<string, RuleSource>();
  for (const [at, verdict] of [egress, ingress].entries()) {
    if (verdict === undefined || verdict.allowed !== allowed) continue;
    for (const source of cluster.sourcesOf(verdict.cookie)) {
      found.set(`${at}/${source.policy}#${source.path}`, source);
    }
  }
  return [...found.values()];
}

function sourcesText(sources: readonly RuleSource[]): string {
  return sources.map(({ policy, path }) => `${policy}#${path}`).join();
}

/** What opens comes first; then what touches most. */
function sorted(differences: Iterable<Difference>): Difference[] {
  return [...differences].sort((a, b) =>
    (a.effect === b.effect ? 0 : a.effect === "opens" ? -1 : 1) || b.pairs - a.pairs ||
    compareText(`${a.from.name} ${a.to.name}`, `${b.from.name} ${b.to.name}`)
  );
}
