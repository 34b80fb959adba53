/**
 * What policies take in the kernels of nodes: for each identity that a node hosts one hash map without preallocation, which all of its
 * endpoints share. An estimate: what addresses of names add, and ports that differ between endpoints, is not in it.
 * @module
 */
import type { RuleSource } from "@weir/proto/policy";
import type { PolicyGroup } from "../policy_group.ts";
import type { JudgedCluster } from "./judged_cluster.ts";

/** As the datapath has it where nobody says otherwise (`--policy-entries-max`). */
export const POLICY_ENTRIES_MAX = 16_384;
/**
 * Bytes of one entry: 48 of the kernel's `struct htab_elem`, 8 of the key, 12 of the value rounded up to 16, 8 before them, in an object of the
 * next size that its allocator has (kernel/bpf/hashtab.c, kernel/bpf/memalloc.c); of a bucket, of which there are as many as entries, up to the next power of two.
 */
const ENTRY_BYTES = 96, BUCKET_BYTES = 16;
/** Of one map: its head, and locks. */
const MAP_BYTES = 1024;
const TOO_LARGE_SHOWN = 20, RULES_SHOWN = 3;

/** Policies of one node. */
export interface NodeCost {
  readonly node: string;
  /** Identities that it hosts. */
  readonly identities: number;
  readonly entries: number;
  readonly bytes: number;
  readonly entriesBefore: number;
  readonly bytesBefore: number;
}

/** A map that would not hold its policy. */
export interface TooLarge {
  readonly name: string;
  readonly entries: number;
  /** Why it cannot be resolved at all; "": it is only too large. */
  readonly error: string;
  /** The rules that cost most. */
  readonly rules: readonly { readonly source: RuleSource; readonly entries: number }[];
}

/** All of it. */
export interface MapCost {
  readonly entriesMax: number;
  readonly nodes: readonly NodeCost[];
  /** The policy with most entries. */
  readonly largest: { readonly name: string; readonly entries: number } | undefined;
  readonly tooLarge: readonly TooLarge[];
  /** More than are in the list. */
  readonly tooLargeCount: number;
}

/** Options of {@link mapCost}. */
export interface MapCostOptions {
  readonly cluster: JudgedCluster;
  /** Most entries of one policy. Default {@link POLICY_ENTRIES_MAX}. */
  readonly entriesMax?: number;
  /** Identities by the node that hosts them; default: as the record says. */
  readonly hosted?: ReadonlyMap<string, ReadonlySet<number>>;
  /** The same before a change. */
  readonly before?: MapCost;
}

/** Adds up. */
export function mapCost(
  { cluster, entriesMax = POLICY_ENTRIES_MAX, hosted, before }: MapCostOptions,
): MapCost {
  const counts = new Map<PolicyGroup, number>(), nodes = hosted ?? cluster.hosted();
  const countOf = (subject: number) => {
    const group = cluster.repository.group(subject);
    if (group === undefined) return 0;
    let count = counts.get(group);
    if (count === undefined) counts.set(group, count = group.state().count);
    return count;
  };
  const earlier = new Map(before?.nodes.map((node) => [node.node, node]));
  const costs: NodeCost[] = [];
  for (const [node, subjects] of nodes) {
    let entries = 0, bytes = 0;
    for (const subject of subjects) {
      const count = countOf(subject);
      entries += count;
      bytes += bytesOf(count);
    }
    const old = earlier.get(node);
    const was = { entriesBefore: old?.entries ?? 0, bytesBefore: old?.bytes ?? 0 };
    costs.push({ node, identities: subjects.size, entries, bytes, ...was });
  }
  let largest: MapCost["largest"];
  const tooLarge: TooLarge[] = [];
  let tooLargeCount = 0;
  for (const subject of new Set([...nodes.values()].flatMap((subjects) => [...subjects]))) {
    const group = cluster.repository.group(subject);
    if (group === undefined) continue;
    const entries = countOf(subject), name = cluster.subjectName(subject);
    if (entries > (largest?.entries ?? 0)) largest = { name, entries };
    const error = group.isFaulty ? group.state().errorOf(subject) : "";
    if (entries <= entriesMax && error === "") continue;
    if (++tooLargeCount > TOO_LARGE_SHOWN) continue;
    tooLarge.push({ name, entries, error, rules: costliest(cluster, group) });
  }
  return {
    entriesMax,
    nodes: costs.sort((a, b) => a.node < b.node ? -1 : 1),
    largest,
    tooLarge,
    tooLargeCount,
  };
}

/** Memory of one policy's map. */
function bytesOf(entries: number): number {
  const buckets = 2 ** Math.ceil(Math.log2(Math.max(1, entries)));
  return MAP_BYTES + entries * ENTRY_BYTES + buckets * BUCKET_BYTES;
}

function costliest({ repository }: JudgedCluster, group: PolicyGroup): TooLarge["rules"] {
  const byCookie = new Map<number, number>();
  for (const { cookie } of group.state().entries()) byCookie.set(cookie, (byCookie.get(cookie) ?? 0) + 1);
  const bySource = new Map<string, { source: RuleSource; entries: number }>();
  for (const [cookie, entries] of byCookie) {
    for (const source of repository.cookies.get(cookie)?.sources ?? []) {
      const key = `${source.policy}#${source.path}`, known = bySource.get(key);
      if (known === undefined) bySource.set(key, { source, entries });
      else known.entries += entries;
    }
  }
  return [...bySource.values()].sort((a, b) => b.entries - a.entries).slice(0, RULES_SHOWN);
}
