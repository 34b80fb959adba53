/**
 * Which pods, workloads and namespaces there are, and which are gone for so long that their series go too. A pod that comes back
 * under its name within that time keeps them.
 * @module
 */
import { workloadOf } from "@weir/common";

/** Series of what is gone stay for so long: the last scrape must see how they ended. */
export const SERIES_KEPT_MS = 60_000;

export const podThing = (namespace: string, name: string): string => `pod ${namespace}/${name}`;
export const workloadThing = (namespace: string, name: string): string => `workload ${namespace}/${name}`;
export const namespaceThing = (namespace: string): string => `namespace ${namespace}`;

/** A pod's name. */
export interface PodName {
  readonly namespace: string;
  readonly podName: string;
}

/** Counts addresses by what they belong to. */
export class PodLifetimes {
  readonly #held = new Map<string, number>();
  /** In the order in which they went. */
  readonly #goneMs = new Map<string, number>();
  readonly #nowMs: () => number;

  /** @param nowMs a clock that only goes forward */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Who has an address; undefined for nobody. */
  change(before: PodName | undefined, after: PodName | undefined): void {
    for (const thing of thingsOf(after)) {
      this.#held.set(thing, (this.#held.get(thing) ?? 0) + 1);
      this.#goneMs.delete(thing);
    }
    for (const thing of thingsOf(before)) {
      const left = (this.#held.get(thing) ?? 1) - 1;
      if (left > 0) {
        this.#held.set(thing, left);
        continue;
      }
      this.#held.delete(thing);
      this.#goneMs.delete(thing);
      this.#goneMs.set(thing, this.#nowMs());
    }
  }

  /** What has been gone for {@link SERIES_KEPT_MS}; each is told once. */
  takeGone(): string[] {
    const gone: string[] = [], untilMs = this.#nowMs() - SERIES_KEPT_MS;
    for (const [thing, sinceMs] of this.#goneMs) {
      if (sinceMs > untilMs) break;
      this.#goneMs.delete(thing);
      gone.push(thing);
    }
    return gone;
  }
}

function thingsOf(pod: PodName | undefined): string[] {
  if (pod === undefined || pod.podName === "") return [];
  const { namespace, podName } = pod, workload = workloadOf(podName);
  return [
    podThing(namespace, podName),
    ...(workload ? [workloadThing(namespace, workload.name)] : []),
    ...(namespace ? [namespaceThing(namespace)] : []),
  ];
}
