/** Namespaces that have endpoints, or had some within the last hour. @module */
import type { Init } from "@weir/proto";
import type { Namespace } from "@weir/proto/observer";

/** Kept for so long after the last endpoint went. */
export const NAMESPACE_KEPT_MS = 3_600_000;

/** Counts endpoints by namespace. */
export class Namespaces {
  readonly #endpoints = new Map<string, number>();
  readonly #goneMs = new Map<string, number>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** An endpoint's namespace, which may be "": it came, or went. */
  change(before: string | undefined, after: string | undefined): void {
    if (before === after) return;
    if (after) {
      this.#endpoints.set(after, (this.#endpoints.get(after) ?? 0) + 1);
      this.#goneMs.delete(after);
    }
    if (!before) return;
    const left = (this.#endpoints.get(before) ?? 1) - 1;
    if (left > 0) this.#endpoints.set(before, left);
    else {
      this.#endpoints.delete(before);
      this.#goneMs.set(before, this.#nowMs());
    }
  }

  /** By name. */
  list(cluster: string): Init<Namespace>[] {
    const now = this.#nowMs();
    for (const [name, sinceMs] of this.#goneMs) {
      if (now - sinceMs > NAMESPACE_KEPT_MS) this.#goneMs.delete(name);
    }
    return [...this.#endpoints.keys(), ...this.#goneMs.keys()].sort()
      .map((namespace) => ({ cluster, namespace }));
  }
}
