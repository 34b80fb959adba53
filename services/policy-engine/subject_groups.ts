/**
 * Which subjects share a policy: those that the same rules select are one group.
 * @module
 */
import { IDENTITY_INIT, isLocalIdentity, isReservedIdentity, RESERVED_IDENTITIES } from "@weir/common";
import type { CompiledRule } from "./compiled_rule.ts";
import type { LayerTools } from "./entry_layer.ts";
import type { EntryLayers } from "./entry_layers.ts";
import { DIRECTIONS, isHost } from "./policy.ts";
import { PolicyGroup } from "./policy_group.ts";
import type { PendingChanges } from "./repository_changes.ts";
import type { SelectorCache } from "./selector_cache.ts";

/** Reserved identities that endpoints may have, so that policy can be enforced on them. */
const RESERVED_SUBJECTS: ReadonlySet<number> = new Set([
  RESERVED_IDENTITIES.host,
  RESERVED_IDENTITIES.health,
  RESERVED_IDENTITIES.init,
  RESERVED_IDENTITIES.ingress,
]);

/** What {@link SubjectGroups} works with. */
export interface SubjectGroupParts {
  readonly selectors: SelectorCache;
  readonly layers: EntryLayers;
  readonly tools: LayerTools;
  readonly changes: PendingChanges;
}

/** All groups. */
export class SubjectGroups {
  readonly #parts: SubjectGroupParts;
  readonly #rulesBySubject = new Map<string, Set<CompiledRule>>();
  readonly #groups = new Map<string, PolicyGroup>();
  readonly #groupOf = new Map<number, PolicyGroup>();

  constructor(parts: SubjectGroupParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#groups.size;
  }

  all(): IterableIterator<PolicyGroup> {
    return this.#groups.values();
  }

  /** The group of a subject. */
  of(subject: number): PolicyGroup | undefined {
    return this.#groupOf.get(subject);
  }

  /** Numbers that are in a group. */
  subjects(): IterableIterator<number> {
    return this.#groupOf.keys();
  }

  /** A rule is there. @param touched gets the subjects that it selects */
  link(rule: CompiledRule, touched: Set<number>): void {
    const rules = this.#rulesBySubject.get(rule.subject.key);
    if (rules) rules.add(rule);
    else this.#rulesBySubject.set(rule.subject.key, new Set([rule]));
    this.#touch(rule, touched);
  }

  /** Rules are not there any more. @param touched gets the subjects that they selected */
  retire(before: { rules: CompiledRule[] } | undefined, touched: Set<number>): void {
    for (const rule of before?.rules ?? []) {
      const rules = this.#rulesBySubject.get(rule.subject.key);
      rules?.delete(rule);
      if (rules?.size === 0) this.#rulesBySubject.delete(rule.subject.key);
      this.#touch(rule, touched);
    }
  }

  #touch(rule: CompiledRule, touched: Set<number>): void {
    for (const number of rule.subject.matches) if (isSubject(number)) touched.add(number);
  }

  /**
   * Puts subjects into the group of the rules that select them now.
   * @param added rules that are new, the only ones of which some subjects of a group may have and others not
   */
  regroup(subjects: Iterable<number>, added: readonly CompiledRule[] = []): void {
    const { layers, tools, changes } = this.#parts;
    // Subjects that had the same rules and get the same new ones have the same rules again.
    const known = new Map<PolicyGroup, Map<string, { rules: CompiledRule[]; key: string }>>();
    for (const subject of subjects) {
      const before = this.#groupOf.get(subject);
      const gets = added.map((rule) => this.#selects(rule, subject) ? "1" : "0").join("");
      let found = before && known.get(before)?.get(gets);
      if (!found) {
        const selecting = this.#rulesSelecting(subject);
        // Those that are not asked are in the key, too: subjects of one group are to stay together when others go.
        const key = selecting.map((rule) => rule.serial).join(",") + (subject === IDENTITY_INIT ? "!" : "");
        found = { rules: rulesAsked(selecting), key };
        const ofGroup = before && known.get(before);
        if (ofGroup) ofGroup.set(gets, found);
        else if (before) known.set(before, new Map([[gets, found]]));
      }
      const { rules, key } = found, always = subject === IDENTITY_INIT;
      if (this.#groupOf.get(subject)?.key === key) continue;
      let group = this.#groups.get(key);
      if (!group) {
        const layer = layers.take(rules, before?.layer);
        group = new PolicyGroup(key, rules, layer, tools, always);
        this.#groups.set(key, group);
      }
      // Only now, so that layers which both groups lie on stay.
      this.leave(subject);
      group.subjects.add(subject);
      this.#groupOf.set(subject, group);
      changes.subjects.add(subject);
      changes.removedSubjects.delete(subject);
    }
  }

  /** Takes a subject out of its group; answers whether it was in one. */
  leave(subject: number): boolean {
    const { layers, changes } = this.#parts, group = this.#groupOf.get(subject);
    if (!group) return false;
    this.#groupOf.delete(subject);
    group.subjects.delete(subject);
    if (group.subjects.size > 0) return true;
    this.#groups.delete(group.key);
    changes.groups.delete(group);
    for (const layer of layers.release(group.layer)) changes.layers.delete(layer);
    return true;
  }

  /** Rules that select a subject and are asked, in order of their serial numbers. */
  rulesOf(subject: number): CompiledRule[] {
    return rulesAsked(this.#rulesSelecting(subject));
  }

  #rulesSelecting(subject: number): CompiledRule[] {
    const rules: CompiledRule[] = [];
    for (const selector of this.#parts.selectors.selectorsOf(subject)) {
      for (const rule of this.#rulesBySubject.get(selector.key) ?? []) {
        if (this.#selects(rule, subject)) rules.push(rule);
      }
    }
    return rules.sort((a, b) => a.serial - b.serial);
  }

  /** A selector may mean a host and other endpoints alike: a rule is for one of the two. */
  #selects({ subject: { matches }, rule: { isForHosts = false } }: CompiledRule, subject: number): boolean {
    if (!matches.has(subject)) return false;
    const labels = this.#parts.selectors.identity(subject)?.labels;
    return isForHosts === (labels !== undefined && isHost(labels));
  }
}

/**
 * Of the rules that select one subject, those that are ever asked, in the same order: a rule of the Baseline tier is not where an
 * ordinary policy is about its direction.
 */
export function rulesAsked(rules: CompiledRule[]): CompiledRule[] {
  if (!rules.some(isBaseline)) return rules;
  const decided = DIRECTIONS.filter((direction) =>
    rules.some(({ rule, policy }) =>
      rule.tier === undefined && !policy.audit && rule.directions[direction].applies
    )
  );
  return rules.filter((rule) =>
    !isBaseline(rule) || !decided.some((direction) => rule.rule.directions[direction].applies)
  );
}

function isBaseline({ rule }: CompiledRule): boolean {
  return rule.tier?.tier === "Baseline";
}

/** True for identities that endpoints can have. */
export function isSubject(number: number): boolean {
  return isReservedIdentity(number)
    ? RESERVED_SUBJECTS.has(number) || number >= 128
    : !isLocalIdentity(number);
}
