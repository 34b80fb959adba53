/**
 * Policies that exist and are not known: of whom they may select nothing new is said.
 * @module
 */
import { LABEL_NAMESPACE, type LabelSet } from "@weir/common";

/** See the module. */
export class PolicyHolds {
  /** By name: the namespace whose subjects they may select; undefined: all. */
  readonly #holds = new Map<string, { readonly namespace: string | undefined; readonly why: string }>();

  /** Answers whether that is news. @param namespace whose subjects it may select; undefined: all */
  add(name: string, namespace: string | undefined, why: string): boolean {
    if (this.#holds.get(name)?.why === why) return false;
    this.#holds.set(name, { namespace, why });
    return true;
  }

  /** The policy is known, or gone. Answers whether it was held. */
  delete(name: string): boolean {
    return this.#holds.delete(name);
  }

  has(name: string): boolean {
    return this.#holds.has(name);
  }

  /** True while nothing new is said of anybody. */
  get holdEverybody(): boolean {
    return [...this.#holds.values()].some(({ namespace }) => namespace === undefined);
  }

  /** Why nothing new is said of a subject; undefined: it is. */
  whyOf(subject: number, labelsOf: (subject: number) => LabelSet | undefined): string | undefined {
    if (this.#holds.size === 0) return undefined;
    const labels = labelsOf(subject);
    for (const { namespace, why } of this.#holds.values()) {
      if (namespace !== undefined && labels?.get("k8s", LABEL_NAMESPACE) !== namespace) continue;
      return `Cannot resolve policy of identity ${subject}: ${why}`;
    }
    return undefined;
  }
}
