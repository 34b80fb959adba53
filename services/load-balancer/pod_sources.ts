/**
 * Pods as they count: those that were put here, else endpoints that the cluster's ipcache shows; with the zone of their
 * node where they do not say one.
 * @module
 */
import type { Pod } from "@weir/proto/loadbalancer";

/** Pods as they count. */
export class PodSources {
  readonly #put = new Map<string, Pod>();
  readonly #seen = new Map<string, Pod>();
  readonly #zones = new Map<string, string>();
  readonly #onChange: (name: string, pod: Pod | undefined) => void;

  /** @param onChange is told what counts now, undefined: the pod is gone */
  constructor(onChange: (name: string, pod: Pod | undefined) => void) {
    this.#onChange = onChange;
  }

  /** A pod that was put here; it counts before one that was seen. */
  put(name: string, pod: Pod | undefined): void {
    set(this.#put, name, pod);
    this.#tell(name);
  }

  /** A pod that the ipcache shows. */
  see(name: string, pod: Pod | undefined): void {
    set(this.#seen, name, pod);
    if (!this.#put.has(name)) this.#tell(name);
  }

  /** The zone of a node, "" when it has none. */
  setZone(node: string, zone: string): void {
    if ((this.#zones.get(node) ?? "") === zone) return;
    this.#zones.set(node, zone);
    for (const name of new Set([...this.#put.keys(), ...this.#seen.keys()])) {
      const pod = this.#put.get(name) ?? this.#seen.get(name)!;
      if (pod.node === node && pod.zone === "") this.#tell(name);
    }
  }

  putNames(): string[] {
    return [...this.#put.keys()];
  }

  #tell(name: string): void {
    const pod = this.#put.get(name) ?? this.#seen.get(name);
    const zone = pod && (pod.zone || this.#zones.get(pod.node));
    this.#onChange(name, pod && zone !== pod.zone ? { ...pod, zone: zone ?? "" } : pod);
  }
}

function set<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
