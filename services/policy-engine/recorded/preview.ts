/**
 * What becomes of recorded connections when policies change. Judged before and after by the same repository, so that nothing but the change
 * makes a difference; where the policies of before are not known, what the record says of a connection stands for them.
 * @module
 */
import type { RuleSource } from "@weir/proto/policy";
import type { Policy } from "../policy.ts";
import type { JudgedCluster, Judgement } from "./judged_cluster.ts";
import { type MapCost, mapCost, type MapCostOptions } from "./map_cost.ts";
import type { RecordedEnd } from "./recorded_end.ts";
import type { RecordedConnection } from "./recorder.ts";

/** What becomes of connections: `closes` what passed, `opens` what was denied, `judges` each request of what passes. */
export type Effect = "closes" | "opens" | "judges";

/** Connections between two workloads on one port, with one fate for one reason. */
export interface PreviewChange {
  readonly effect: Effect;
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly port: number;
  connections: number;
  firstMs: number;
  lastMs: number;
  readonly example: string;
  /** Rules that decide now; empty: none is about it any more, and `before` has those that were. */
  readonly rules: readonly RuleSource[];
  readonly before: readonly RuleSource[];
  /** Denied by default: a policy selects an end, and no rule allows it. */
  readonly byDefault: boolean;
}

/** The whole answer. */
export interface Preview {
  readonly changes: readonly PreviewChange[];
  /** Connections by what becomes of them. */
  readonly counts: {
    closes: number;
    opens: number;
    judges: number;
    staysOpen: number;
    staysClosed: number;
    /** An end is not known, its policy cannot be resolved, or what denied it is not known. */
    unjudged: number;
    /** The policies of before say another thing than the record: they were others then, or something else decided. */
    otherwise: number;
  };
  readonly maps: MapCost;
  /** Policies that the change puts in. */
  readonly policies: readonly string[];
  /** Against what it is compared. */
  readonly basis: "policies" | "record";
}

/** Options of {@link previewPolicies}. */
export interface PreviewOptions extends Omit<MapCostOptions, "cluster" | "before"> {
  /** The policies before are known, and are in the cluster. */
  readonly basis: "policies" | "record";
  /** Policies that are removed. */
  readonly removed?: readonly string[];
  /** Called now and then: lets others work. */
  readonly pause?: () => Promise<void>;
}

/** Connections between two pauses. */
const CONNECTIONS_AT_ONCE = 2000;

/** @throws {CidrNumberError} more prefixes than there are numbers */
export async function previewPolicies(
  cluster: JudgedCluster,
  connections: readonly RecordedConnection[],
  policies: readonly Policy[],
  options: PreviewOptions,
): Promise<Preview> {
  const { basis, removed = [], pause = () => Promise.resolve(), ...costs } = options;
  const judgeAll = async () => {
    const found: (Judgement | undefined)[] = [];
    for (const [at, connection] of connections.entries()) {
      if (at % CONNECTIONS_AT_ONCE === CONNECTIONS_AT_ONCE - 1) await pause();
      found.push(cluster.judge(connection));
    }
    return found;
  };
  const before = basis === "policies" ? await judgeAll() : [], placesBefore = cluster.sourcesOf(before);
  const beforeCost = mapCost({ ...costs, cluster });
  for (const name of removed) cluster.repository.removePolicy(name);
  for (const policy of policies) {
    cluster.repository.upsertPolicy(policy);
    await pause();
  }
  cluster.refresh();
  const now = await judgeAll(), places = cluster.sourcesOf(now);
  const counts = { closes: 0, opens: 0, judges: 0, staysOpen: 0, staysClosed: 0, unjudged: 0, otherwise: 0 };
  const changes = new Map<string, PreviewChange>();
  const note = (
    effect: Effect,
    connection: RecordedConnection,
    count: number,
    judged: Judgement,
    old: Judgement | undefined,
  ) => {
    counts[effect] += count;
    const rules = cluster.decidersOf(judged, places);
    const earlier = old === undefined ? [] : cluster.decidersOf(old, placesBefore);
    const { protocol, port, firstMs, lastMs, example } = connection;
    const from = groupName(connection.from, cluster), to = groupName(connection.to, cluster);
    const key = JSON.stringify([effect, from, to, protocol, port, placesOf(rules), placesOf(earlier)]);
    const known = changes.get(key);
    if (known !== undefined) {
      known.connections += count;
      known.firstMs = Math.min(known.firstMs, firstMs);
      known.lastMs = Math.max(known.lastMs, lastMs);
      return;
    }
    const byDefault = !judged.allowed &&
      [judged.egress, judged.ingress].some((verdict) =>
        verdict?.allowed === false && verdict.by === "default-deny"
      );
    const own = { effect, from, to, protocol, port, connections: count, firstMs, lastMs, example };
    changes.set(key, { ...own, rules, before: earlier, byDefault });
  };
  for (const [at, connection] of connections.entries()) {
    const judged = now[at], old = before[at], { passed, denied } = connection, all = passed + denied;
    if (judged === undefined || basis === "policies" && old === undefined) {
      counts.unjudged += all;
      continue;
    }
    if (old !== undefined) counts.otherwise += old.allowed ? denied : passed;
    const [open, closed] = old === undefined ? [passed, denied] : old.allowed ? [all, 0] : [0, all];
    if (judged.allowed) {
      // By policies that nobody gave: only a rule that allows it where it was denied says that it opens.
      if (closed > 0 && old === undefined && !isAllowedWhereDenied(connection, judged)) {
        counts.unjudged += closed;
      } else if (closed > 0) note("opens", connection, closed, judged, old);
      if (open > 0 && judged.isJudged && !old?.isJudged) note("judges", connection, open, judged, old);
      else counts.staysOpen += open;
    } else {
      if (open > 0) note("closes", connection, open, judged, old);
      counts.staysClosed += closed;
    }
  }
  return {
    changes: sorted(changes.values()),
    counts,
    maps: mapCost({ ...costs, cluster, before: beforeCost }),
    policies: policies.map(({ name }) => name).sort(),
    basis,
  };
}

function isAllowedWhereDenied({ deniedAt }: RecordedConnection, { egress, ingress }: Judgement): boolean {
  const isByRule = (verdict: Judgement["egress"]) => verdict?.allowed === true && verdict.by === "entry";
  const sides = [...deniedAt].map((direction) => direction === "EGRESS" ? egress : ingress);
  return sides.length === 0 ? isByRule(egress) || isByRule(ingress) : sides.every(isByRule);
}

/** Outside ends that policies treat alike are one: the world's, by names, and those of one prefix. */
function groupName(end: RecordedEnd, cluster: JudgedCluster): string {
  if (end.kind !== "address") return cluster.nameOf(end);
  const [name] = end.names;
  if (name !== undefined) return name;
  return cluster.prefixOf(end) ?? (end.address?.family === 6 ? "world (IPv6)" : "world (IPv4)");
}

function placesOf(sources: readonly RuleSource[]): string[] {
  return sources.map(({ policy, path }) => `${policy}#${path}`);
}

const EFFECTS: readonly Effect[] = ["closes", "opens", "judges"];

/** What closes comes first; of one effect what most connections have. */
function sorted(changes: Iterable<PreviewChange>): PreviewChange[] {
  const text = ({ from, to, protocol, port }: PreviewChange) => `${from} ${to} ${protocol} ${port}`;
  return [...changes].sort((a, b) =>
    EFFECTS.indexOf(a.effect) - EFFECTS.indexOf(b.effect) || b.connections - a.connections ||
    (text(a) < text(b) ? -1 : 1)
  );
}
