/**
 * Sums by end: the pods of a workload are one end where they have one identity, and an end outside the cluster is told by its DNS name
 * too. Ends have numbers within one answer, and the answer says who they are.
 * @module
 */
import { workloadOf } from "@weir/common";
import type { Endpoint } from "@weir/proto/flow";
import type { Rollup, RollupEnd } from "@weir/proto/history";
import type { EndTable } from "./end_table.ts";

/** Pods of an end that are named. */
export const END_PODS_MAX = 256;
/** The value of an end that had no room. */
const OTHER = "other";

interface Named {
  readonly number: string;
  readonly endpoint: Endpoint;
  readonly name: string;
  readonly pods: Set<string>;
}

/** The ends of one answer. */
export class EndNumbers {
  readonly #ends: EndTable;
  readonly #byKey = new Map<string, Named>();

  constructor(ends: EndTable) {
    this.#ends = ends;
  }

  /** Who the ends of these sums are. */
  list(rollups: readonly Rollup[]): RollupEnd[] {
    const used = new Set(rollups.flatMap(({ keys }) => [keys["from.end"], keys["to.end"]]));
    return [...this.#byKey.values()].filter(({ number }) => used.has(number)).map(({ pods, ...end }) => ({
      ...end,
      pods: [...pods].sort(),
    }));
  }

  /** The value of an end; `id`: its number in the table. */
  of(id: number, name: string): string {
    const stored = this.#ends.get(id)?.endpoint;
    if (stored === undefined) return OTHER;
    const { identity, namespace, pod_name, cluster_name } = stored;
    const derived = stored.workloads.length === 0 && pod_name !== "" ? workloadOf(pod_name) : undefined;
    const workloads = derived === undefined ? stored.workloads : [derived];
    const works = workloads.map(({ kind, name }) => `${kind}/${name}`).join();
    const key = JSON.stringify([identity, namespace, cluster_name, works, stored.labels, name]);
    let named = this.#byKey.get(key);
    if (named === undefined) {
      const number = `${this.#byKey.size + 1}`;
      named = { number, endpoint: { ...stored, workloads }, name, pods: new Set() };
      this.#byKey.set(key, named);
    }
    if (pod_name !== "" && named.pods.size < END_PODS_MAX) named.pods.add(pod_name);
    return named.number;
  }
}
