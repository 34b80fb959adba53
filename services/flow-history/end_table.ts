/**
 * Who the ends of flows were: every set of labels that a workload ever had is one end with a number, and flows, connections and
 * rollups name ends by their numbers. So a filter by labels asks a few thousand ends, not ten million flows, and an old
 * flow is found by the labels that held then.
 * @module
 */
import type { Endpoint, Flow } from "@weir/proto/flow";
import { StoredEnd } from "@weir/proto/history";

/** Ends that are known at once. */
export const ENDS_MAX = 65_536;
/** What they say, in UTF-16 units. */
export const ENDS_LENGTH_MAX = 64 << 20;
/** Stands for all that there was no room for. */
export const OTHER_END = 0;
/** How exact the time is when an end was seen last. */
const LAST_MS_STEP = 3_600_000;

/** An end with its number. */
export interface KnownEnd {
  readonly id: number;
  readonly endpoint: Endpoint;
  /** When it was seen last, to the hour. */
  lastMs: number;
}

/** Ends by number. */
export class EndTable {
  readonly #byKey = new Map<string, KnownEnd>();
  readonly #byId = new Map<number, KnownEnd>();
  #dirty = new Set<KnownEnd>();
  #nextId = 1;
  #length = 0;
  /** Flows whose end found no room. */
  refused = 0;

  /** The number of this end, a new one where it is not known. `unixMs`: when it was seen. */
  idOf(endpoint: Endpoint | undefined, unixMs: number): number {
    const key = keyOf(endpoint);
    let end = this.#byKey.get(key);
    if (end === undefined) {
      if (this.#byKey.size >= ENDS_MAX || this.#length + key.length > ENDS_LENGTH_MAX) {
        this.refused++;
        return OTHER_END;
      }
      end = this.#put(this.#nextId++, storedOf(endpoint), unixMs);
      this.#dirty.add(end);
    } else if (unixMs - end.lastMs >= LAST_MS_STEP) {
      end.lastMs = unixMs;
      this.#dirty.add(end);
    }
    return end.id;
  }

  get(id: number): KnownEnd | undefined {
    return this.#byId.get(id);
  }

  /** Numbers of the ends that `matches` takes, as the source of a flow that has nothing else. */
  find(matches: (flow: Flow) => boolean, side: "source" | "destination"): KnownEnd[] {
    const flow = { source_names: [], destination_names: [], node_labels: [] } as unknown as Flow;
    return [...this.#byId.values()].filter(({ endpoint }) => matches({ ...flow, [side]: endpoint }));
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Takes what is stored. `rows` may be many. */
  load(rows: readonly { id: number; body: Uint8Array; lastMs: number }[]): void {
    for (const { id, body, lastMs } of rows) {
      this.#put(id, StoredEnd.decode(body), lastMs);
      this.#nextId = Math.max(this.#nextId, id + 1);
    }
  }

  /** What is to be written: ends that are new or were seen again. */
  takeDirty(): KnownEnd[] {
    const dirty = [...this.#dirty];
    this.#dirty = new Set();
    return dirty;
  }

  /** Forgets ends that nothing has referred to since `beforeMs`; gives their numbers. */
  forgetBefore(beforeMs: number): number[] {
    const gone = [...this.#byId.values()].filter(({ lastMs }) => lastMs < beforeMs - LAST_MS_STEP);
    for (const end of gone) {
      const key = keyOf(end.endpoint);
      this.#byId.delete(end.id);
      this.#byKey.delete(key);
      this.#length -= key.length;
      this.#dirty.delete(end);
    }
    return gone.map(({ id }) => id);
  }

  #put(id: number, stored: StoredEnd, lastMs: number): KnownEnd {
    const { identity, namespace, workloads, labels } = stored;
    const endpoint: Endpoint = {
      ID: 0,
      identity,
      namespace,
      pod_name: stored.podName,
      workloads,
      labels,
      cluster_name: stored.clusterName,
    };
    const end = { id, endpoint, lastMs }, key = keyOf(endpoint);
    this.#byId.set(id, end);
    if (!this.#byKey.has(key)) this.#length += key.length;
    this.#byKey.set(key, end);
    return end;
  }
}

/** Bytes of an end as it is stored. */
export function encodeEnd({ endpoint }: KnownEnd): Uint8Array {
  return StoredEnd.encode(storedOf(endpoint));
}

function storedOf(endpoint: Endpoint | undefined): StoredEnd {
  return StoredEnd.create(
    endpoint && {
      identity: endpoint.identity,
      namespace: endpoint.namespace,
      podName: endpoint.pod_name,
      workloads: endpoint.workloads.map(({ name, kind }) => ({ name, kind })),
      labels: [...endpoint.labels],
      clusterName: endpoint.cluster_name,
    },
  );
}

function keyOf(endpoint: Endpoint | undefined): string {
  if (endpoint === undefined) return "";
  const { identity, namespace, pod_name, workloads, labels, cluster_name } = endpoint;
  const works = workloads.length === 0 ? "" : workloads.map(({ kind, name }) => `${kind}/${name}`).join();
  return `${identity}\n${namespace}\n${pod_name}\n${cluster_name}\n${works}\n${labels.join("\n")}`;
}
