/**
 * Label selectors: matchLabels and matchExpressions, with a source per key (`any` matches every source).
 * @module
 */
import { type LabelSet, parseLabelKey, SOURCE_ANY } from "./labels.ts";

/** The operators of Kubernetes' matchExpressions. */
export type SelectorOperator = "In" | "NotIn" | "Exists" | "DoesNotExist";

/** One condition. All conditions of a selector must hold. */
export interface Requirement {
  /** Label source, `any` for whatever source. */
  readonly source: string;
  readonly key: string;
  readonly operator: SelectorOperator;
  /** Sorted, without duplicates; empty for Exists and DoesNotExist. */
  readonly values: readonly string[];
}

/** The form of a selector in manifests. */
export interface SelectorSpec {
  readonly matchLabels?: Readonly<Record<string, string>> | null;
  readonly matchExpressions?:
    | readonly {
      readonly key: string;
      readonly operator: string;
      readonly values?: readonly string[] | null;
    }[]
    | null;
}

/** A selector that cannot be understood. */
export class SelectorError extends Error {
  override readonly name = "SelectorError";
  readonly code = "SELECTOR_INVALID";
  /** @param path where in the selector, e.g. `matchExpressions[0].operator` */
  constructor(readonly path: string, readonly found: string, readonly expected: string) {
    super(`Cannot read selector: ${path} is ${found}, want ${expected}`);
  }
}

/** Most requirements in one selector, and most values in one requirement. */
export const SELECTOR_REQUIREMENTS_MAX = 128;
export const SELECTOR_VALUES_MAX = 256;

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

/** An immutable selector in canonical form: equal selectors have equal {@link Selector.key}. */
export class Selector {
  readonly requirements: readonly Requirement[];
  /** Canonical text, the same for selectors that say the same in another order. */
  readonly key: string;

  private constructor(requirements: readonly Requirement[]) {
    this.requirements = requirements;
    this.key = requirements.map(formatRequirement).join(",");
  }

  /** The selector without requirements; matches every label set. */
  static readonly everything: Selector = new Selector([]);

  /** A selector of requirements in any order; duplicates go. */
  static of(requirements: Iterable<Requirement>): Selector {
    const unique = new Map<string, Requirement>();
    for (const requirement of requirements) {
      const values = [...new Set(requirement.values)].sort();
      // A matchLabels entry and an In with its one value say the same and must share a cache entry.
      const canonical = { ...requirement, values };
      unique.set(formatRequirement(canonical), canonical);
    }
    return new Selector([...unique.entries()].sort(([a], [b]) => a < b ? -1 : 1).map(([, value]) => value));
  }

  /**
   * Reads the manifest form. A key may name its source (`k8s:app`); one that does not gets `defaultSource`.
   * @throws {SelectorError} on an unknown operator, values missing or too many, an empty key
   */
  static parse(spec: SelectorSpec, options: { defaultSource?: string } = {}): Selector {
    const defaultSource = options.defaultSource ?? SOURCE_ANY;
    const requirements: Requirement[] = [];
    for (const [text, value] of Object.entries(spec.matchLabels ?? {})) {
      const { source, key } = parseLabelKey(text, { defaultSource });
      if (key === "") throw new SelectorError("matchLabels", JSON.stringify(text), "a label key");
      if (typeof value !== "string") {
        throw new SelectorError(`matchLabels[${JSON.stringify(text)}]`, typeof value, "a text");
      }
      requirements.push({ source, key, operator: "In", values: [value] });
    }
    for (const [index, expression] of (spec.matchExpressions ?? []).entries()) {
      const path = `matchExpressions[${index}]`;
      const { source, key } = parseLabelKey(expression.key, { defaultSource });
      const values = expression.values ?? [];
      if (key === "") throw new SelectorError(`${path}.key`, JSON.stringify(expression.key), "a label key");
      if (!OPERATORS.includes(expression.operator)) {
        throw new SelectorError(
          `${path}.operator`,
          JSON.stringify(expression.operator),
          OPERATORS.join(", "),
        );
      }
      const operator = expression.operator as SelectorOperator;
      const wantsValues = operator === "In" || operator === "NotIn";
      if (wantsValues && values.length === 0) {
        throw new SelectorError(`${path}.values`, "empty", `at least one value for ${operator}`);
      }
      if (!wantsValues && values.length > 0) {
        throw new SelectorError(`${path}.values`, `${values.length} values`, `none for ${operator}`);
      }
      if (values.length > SELECTOR_VALUES_MAX) {
        throw new SelectorError(
          `${path}.values`,
          `${values.length} values`,
          `at most ${SELECTOR_VALUES_MAX}`,
        );
      }
      requirements.push({ source, key, operator, values });
    }
    if (requirements.length > SELECTOR_REQUIREMENTS_MAX) {
      throw new SelectorError(
        "selector",
        `${requirements.length} terms`,
        `at most ${SELECTOR_REQUIREMENTS_MAX}`,
      );
    }
    return Selector.of(requirements);
  }

  /** This selector with more requirements. */
  and(requirements: Iterable<Requirement>): Selector {
    return Selector.of([...this.requirements, ...requirements]);
  }

  /** True when every requirement holds; NotIn and DoesNotExist hold for an absent key. */
  matches(labels: LabelSet): boolean {
    return this.requirements.every((requirement) => requirementHolds(requirement, labels));
  }

  /** True when some requirement is about this key (from `source`, if given, or `any`). */
  mentions(key: string | ((key: string) => boolean), source?: string): boolean {
    return this.requirements.some((requirement) =>
      (typeof key === "string" ? requirement.key === key : key(requirement.key)) &&
      (source === undefined || requirement.source === source || requirement.source === SOURCE_ANY)
    );
  }

  toString(): string {
    return this.key === "" ? "{}" : this.key;
  }
}

/** True when the requirement holds for the labels. */
export function requirementHolds(requirement: Requirement, labels: LabelSet): boolean {
  let present = false;
  let among = false;
  for (const label of labels.withKey(requirement.key)) {
    if (requirement.source !== SOURCE_ANY && requirement.source !== label.source) continue;
    present = true;
    if (requirement.values.includes(label.value)) among = true;
  }
  switch (requirement.operator) {
    case "In":
      return among;
    case "NotIn":
      return !among;
    case "Exists":
      return present;
    case "DoesNotExist":
      return !present;
  }
}

/** `source:key in (a,b)`, `source:key=a`, `source:key`, `!source:key`. */
export function formatRequirement(requirement: Requirement): string {
  const name = `${requirement.source}:${requirement.key}`;
  switch (requirement.operator) {
    case "In":
      return requirement.values.length === 1
        ? `${name}=${requirement.values[0]}`
        : `${name} in (${requirement.values})`;
    case "NotIn":
      return requirement.values.length === 1
        ? `${name}!=${requirement.values[0]}`
        : `${name} notin (${requirement.values})`;
    case "Exists":
      return name;
    case "DoesNotExist":
      return `!${name}`;
  }
}
