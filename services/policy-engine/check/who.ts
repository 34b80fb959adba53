/**
 * Whom selectors mean in an inventory.
 * @module
 */
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  type Selector,
  SOURCE_RESERVED,
} from "@weir/common";
import { requirementWords } from "../explain_words.ts";
import type { Inventory, Workload } from "../offline/inventory.ts";

/** An inventory that is asked by selectors; each is looked for once. */
export class Who {
  readonly #found = new Map<string, readonly Workload[]>();
  readonly #workloads: readonly Workload[];
  readonly #namespaces: ReadonlySet<string>;

  constructor({ workloads, cluster }: Inventory) {
    this.#workloads = workloads;
    this.#namespaces = new Set([...cluster.namespaces, ...workloads.map(({ namespace }) => namespace)]);
  }

  /** Whether there is anybody who could be meant. */
  get isKnown(): boolean {
    return this.#workloads.length > 0;
  }

  selectedBy(selector: Selector): readonly Workload[] {
    let found = this.#found.get(selector.key);
    if (found === undefined) {
      found = this.#workloads.filter(({ labels }) => selector.matches(labels));
      this.#found.set(selector.key, found);
    }
    return found;
  }

  /** Whether it may mean somebody in a namespace of which the inventory says nothing. */
  isElsewhere({ requirements }: Selector): boolean {
    const named = requirements.find(({ key, operator }) => key === LABEL_NAMESPACE && operator === "In");
    const cluster = requirements.find(({ key, operator }) => key === LABEL_CLUSTER && operator === "In");
    const known = this.#workloads[0]?.labels.withKey(LABEL_CLUSTER)[0]?.value;
    if (cluster !== undefined && known !== undefined && !cluster.values.includes(known)) return true;
    const isUnknown = (names: readonly string[]) => !names.some((name) => this.#namespaces.has(name));
    return named !== undefined && isUnknown(named.values) ||
      requirements.some(({ key, operator, values }) =>
        key === `${LABEL_NAMESPACE_META_PREFIX}kubernetes.io/metadata.name` && operator === "In" &&
        isUnknown(values)
      );
  }

  /** What the pods have instead of a value that none of them has: `pods have app=db, app=web`. */
  hint({ requirements }: Selector): string {
    const inside = requirements.filter(({ key }) => key === LABEL_NAMESPACE);
    for (const { key, operator, values } of requirements) {
      if (operator !== "In" || key === LABEL_NAMESPACE) continue;
      const near = this.#workloads.filter(({ labels }) =>
        inside.every((one) => one.operator !== "In" || one.values.includes(labels.withKey(one.key)[0]?.value))
      );
      const had = new Set(near.flatMap(({ labels }) => labels.withKey(key).map(({ value }) => value)));
      if (values.some((value) => had.has(value))) continue;
      if (had.size === 0) return `no pod there has the label ${wordOf(key)}`;
      const shown = [...had].sort().slice(0, 5).map((value) => wordOf(`${key}=${value}`));
      return `pods there have ${shown.join(", ")}${had.size > 5 ? ` and ${had.size - 5} more` : ""}`;
    }
    return "no pod has all of these labels";
  }
}

/** A selector for people. */
export function selectorWords(selector: Selector): string {
  const words = requirementWords(selector).map((word) => wordOf(word.replace(/^(any|k8s):/, "")))
    // Every pod is in some namespace.
    .filter((word) => word !== LABEL_NAMESPACE);
  const namespace = words.find((word) => word.startsWith(`${LABEL_NAMESPACE}=`));
  const own = words.filter((word) => !word.startsWith(LABEL_NAMESPACE));
  const where = namespace === undefined ? "" : ` in namespace ${namespace.slice(LABEL_NAMESPACE.length + 1)}`;
  return `${own.join(",") || "any label"}${where}`;
}

function wordOf(word: string): string {
  return word.replace(LABEL_NAMESPACE_META_PREFIX, "namespace's ");
}

/** Reserved identities are always there. */
export function isReserved({ requirements }: Selector): boolean {
  return requirements.some(({ source }) => source === SOURCE_RESERVED);
}
