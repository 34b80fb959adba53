/**
 * Sets of labels that selectors tell apart: pods that nobody wrote down, of which some selector means each.
 *
 *     app=web, env NotIn (prod)  ─▶  { app=web }                what it asks and nothing else
 *                                    { app=web, env=prod }      what it keeps out
 *                                    { app=web, role=client }   with what others ask besides
 *
 * What a selector asks and nothing else is meant by the fewest others, so a difference is seen there if anywhere; what hangs on a selector
 * beside it is seen with that one's labels as well.
 * @module
 */
import {
  type Label,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LABEL_NAMESPACE_META_PREFIX,
  LabelSet,
  makeLabel,
  type Requirement,
  type Selector,
  SOURCE_ANY,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
} from "@weir/common";
import { DIRECTIONS, type Policy } from "../policy.ts";

/** Namespace of pods whose namespace no selector says. */
const NAMESPACE_ELSEWHERE = "elsewhere";
/** Where a selector says only that a key is there. */
const VALUE_ANY = "any";
/** Values of one requirement that are tried. */
const VALUES_MAX = 8;

/** Candidates, and whether there were more than were wanted. */
export interface LabelCandidates {
  readonly sets: readonly LabelSet[];
  readonly isCut: boolean;
}

/** Selectors of subjects, of peers and of services' pods, each once. Those of reserved labels mean no pod. */
export function selectorsOf(policies: Iterable<Policy>): Selector[] {
  const found = new Map<string, Selector>();
  const add = (selector: Selector) => {
    if (!selector.requirements.some(({ source }) => source === SOURCE_RESERVED)) {
      found.set(selector.key, selector);
    }
  };
  for (const { rules, source } of policies) {
    if (source?.pods) add(source.pods);
    for (const { subject, directions } of rules) {
      add(subject);
      for (const direction of DIRECTIONS) {
        for (const { selector } of directions[direction].sections.flatMap(({ peers }) => peers)) {
          if (selector.type === "labels") add(selector.selector);
        }
      }
    }
  }
  return [...found.values()];
}

/**
 * @param changed selectors whose rules differ
 * @param others selectors of rules that stay
 * @param max most sets
 */
export function labelCandidates(
  changed: readonly Selector[],
  others: readonly Selector[],
  { cluster, max }: { cluster: string; max: number },
): LabelCandidates {
  const sets = new Map<string, LabelSet>();
  let isCut = false;
  const add = (labels: readonly Label[], meant: readonly Selector[]) => {
    const set = withSurroundings(labels, cluster);
    if (sets.has(set.key) || !meant.every((selector) => selector.matches(set))) return;
    if (sets.size >= max) isCut = true;
    else sets.set(set.key, set);
  };
  // Somebody whom nobody means in particular.
  add([], []);
  for (const selector of changed) {
    for (const labels of satisfying(selector)) add(labels, [selector]);
  }
  for (const selector of changed) {
    const [own] = satisfying(selector);
    for (const kept of keptOut(selector)) add([...own, kept], []);
    for (const other of changed) {
      for (const kept of keptOut(other)) add([...own, kept], [selector]);
    }
  }
  for (const selector of changed) {
    const [own] = satisfying(selector);
    for (const other of [...changed, ...others]) {
      if (other === selector) continue;
      add([...own, ...satisfying(other)[0]], [selector, other]);
    }
  }
  return { sets: [...sets.values()], isCut };
}

/** Least sets of labels that a selector means, one for each value of its first requirement with several. */
function satisfying({ requirements }: Selector): Label[][] {
  const asking = requirements.filter(({ operator }) => operator === "In" || operator === "Exists");
  const open = asking.findIndex(({ values }) => values.length > 1);
  const choices = open < 0 ? 1 : Math.min(VALUES_MAX, asking[open].values.length);
  return Array.from(
    { length: choices },
    (_, choice) => asking.map((requirement, at) => labelOf(requirement, at === open ? choice : 0)),
  );
}

/** Labels that a selector does not want to see. */
function keptOut({ requirements }: Selector): Label[] {
  return requirements.filter(({ operator }) => operator === "NotIn" || operator === "DoesNotExist")
    .flatMap((requirement) =>
      requirement.operator === "DoesNotExist"
        ? [labelOf(requirement, 0)]
        : requirement.values.slice(0, VALUES_MAX).map((_, at) => labelOf(requirement, at))
    );
}

function labelOf({ source, key, values }: Requirement, at: number): Label {
  return makeLabel(source === SOURCE_ANY ? SOURCE_KUBERNETES : source, key, values[at] ?? VALUE_ANY);
}

/** With what every pod has: a cluster, a namespace, and of that its name. */
function withSurroundings(labels: readonly Label[], cluster: string): LabelSet {
  const given = LabelSet.from(labels), nameKey = `${LABEL_NAMESPACE_META_PREFIX}kubernetes.io/metadata.name`;
  const namespace = given.get(SOURCE_KUBERNETES, LABEL_NAMESPACE) ?? given.get(SOURCE_KUBERNETES, nameKey) ??
    NAMESPACE_ELSEWHERE;
  return LabelSet.from([
    makeLabel(SOURCE_KUBERNETES, LABEL_CLUSTER, cluster),
    makeLabel(SOURCE_KUBERNETES, LABEL_NAMESPACE, namespace),
    makeLabel(SOURCE_KUBERNETES, nameKey, namespace),
    ...labels,
  ]);
}

/** A set for people: `app=web in shop`, `any pod in elsewhere`. */
export function describeLabels(labels: LabelSet): string {
  const namespace = labels.get(SOURCE_KUBERNETES, LABEL_NAMESPACE) ?? NAMESPACE_ELSEWHERE,
    words: string[] = [];
  const ofNamespace: string[] = [];
  for (const { key, value } of labels) {
    const text = value === "" ? key : `${key}=${value}`;
    if (key.startsWith(LABEL_NAMESPACE_META_PREFIX)) {
      const own = text.slice(LABEL_NAMESPACE_META_PREFIX.length);
      if (!own.startsWith("kubernetes.io/metadata.name=")) ofNamespace.push(own);
    } else if (key !== LABEL_NAMESPACE && key !== LABEL_CLUSTER) words.push(text);
  }
  const place = namespace === NAMESPACE_ELSEWHERE ? "another namespace" : namespace;
  const labelled = ofNamespace.length === 0 ? place : `${place} (${ofNamespace.join(", ")})`;
  return `${words.length === 0 ? "any other pod" : words.join(", ")} in ${labelled}`;
}
