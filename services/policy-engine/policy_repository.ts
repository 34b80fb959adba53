/**
 * Everything the engine knows, and the one place where it changes: identities, port names and policies come in, map
 * states of the subjects come out. Pure: no clock, no file, no network. Every change touches only the groups of subjects
 * that it concerns; {@link PolicyRepository.takeChanges} says which map states, CIDR identities and rules are new.
 * @module
 */
import {
  cidrIdentityLabels,
  IDENTITY_INIT,
  isLocalIdentity,
  isReservedIdentity,
  LABEL_NAMESPACE,
  type LabelSet,
  Prefix,
  RESERVED_IDENTITIES,
  reservedIdentityLabels,
} from "@weir/common";
import type { CidrIdentity, FqdnSelector, MapState } from "@weir/proto/policy";
import { CidrIdentities, type CidrPair } from "./cidr_identities.ts";
import type { CidrNumbers } from "./cidr_numbers.ts";
import { type CompiledRule, compileRule, releaseRule } from "./compiled_rule.ts";
import { CookieRegistry } from "./cookie_registry.ts";
import type { EntryLayer, LayerTools, ResolutionWork } from "./entry_layer.ts";
import { EntryLayers } from "./entry_layers.ts";
import { fqdnSelectorOf, isFqdnText, parseFqdnName } from "./fqdn_selector.ts";
import { type NamedPort, NamedPortTable } from "./named_ports.ts";
import { type PeerIdentity, peerIdentity, type Policy, policyMentions } from "./policy.ts";
import { PolicyGroup } from "./policy_group.ts";
import { RuleSetRegistry } from "./rule_set_registry.ts";
import { SelectorCache } from "./selector_cache.ts";

/** Reserved identities that endpoints may have, so that policy can be enforced on them. */
const RESERVED_SUBJECTS: ReadonlySet<number> = new Set([
  RESERVED_IDENTITIES.health,
  RESERVED_IDENTITIES.init,
  RESERVED_IDENTITIES.ingress,
]);

/** What changed since the last call of {@link PolicyRepository.takeChanges}. Names may repeat a change; all are sets. */
export interface RepositoryChanges {
  /** Subjects whose map state is new or different. */
  readonly mapStates: ReadonlySet<number>;
  /** Of these, those who are new, are in another group, or may not be told what their group has. */
  readonly subjects: ReadonlySet<number>;
  /** Groups that have changed: each gives all of its subjects something new. */
  readonly groups: ReadonlySet<PolicyGroup>;
  /** Subjects that are gone. */
  readonly removedSubjects: ReadonlySet<number>;
  /**
   * Prefixes and selectors of names (by their texts) whose identity is new, and those whose is gone; one that moved to another
   * number is in both.
   */
  readonly addedPrefixes: ReadonlySet<string>;
  readonly removedPrefixes: ReadonlySet<string>;
  /** Cookies that are new or say something else. */
  readonly cookies: readonly number[];
}

/** Options of {@link PolicyRepository}. */
export interface PolicyRepositoryOptions {
  /** Where the numbers of prefixes come from; default: numbers of this repository's own. */
  cidrNumbers?: CidrNumbers;
}

/** Takes policies, identities and port names; gives map states, CIDR identities and rules. */
export class PolicyRepository {
  readonly selectors: SelectorCache = new SelectorCache();
  readonly cookies: CookieRegistry = new CookieRegistry();
  readonly namedPorts: NamedPortTable = new NamedPortTable();
  readonly ruleSets: RuleSetRegistry = new RuleSetRegistry();
  readonly work: ResolutionWork = { identitiesResolved: 0, groupsResolved: 0 };
  readonly #cidrs: CidrIdentities;
  readonly #policies = new Map<string, { policy: Policy; rules: CompiledRule[] }>();
  readonly #rulesBySubject = new Map<string, Set<CompiledRule>>();
  readonly #groups = new Map<string, PolicyGroup>();
  readonly #groupOf = new Map<number, PolicyGroup>();
  readonly #changedGroups = new Set<PolicyGroup>();
  /** With every group that lies on them. */
  readonly #changedLayers = new Set<EntryLayer>();
  readonly #tools: LayerTools = {
    cache: this.selectors,
    tables: { cookies: this.cookies, namedPorts: this.namedPorts, ruleSets: this.ruleSets },
    work: this.work,
  };
  readonly #layers = new EntryLayers(this.#tools);
  readonly #changedSubjects = new Set<number>();
  readonly #removedSubjects = new Set<number>();
  readonly #addedPrefixes = new Set<string>();
  readonly #removedPrefixes = new Set<string>();
  /** Policies that exist and are not known, with the namespace whose subjects they may select; undefined: all. */
  readonly #holds = new Map<string, { readonly namespace: string | undefined; readonly why: string }>();
  #serial = 0;
  #policyRevision = 1;

  constructor(options: PolicyRepositoryOptions = {}) {
    this.#cidrs = new CidrIdentities(options.cidrNumbers);
    for (const number of Object.values(RESERVED_IDENTITIES)) {
      if (number !== 0) this.upsertIdentity(number, reservedIdentityLabels(number)!);
    }
  }

  /** Revision of the whole policy set; grows by one with every policy that changes. */
  get policyRevision(): number {
    return this.#policyRevision;
  }

  /** Sets the revision of the policy set, which a database counts; it never goes back. */
  advancePolicyRevision(revision: number): void {
    this.#policyRevision = Math.max(this.#policyRevision, revision);
  }

  /** Takes over numbers of prefixes that changed at their source. */
  renumberPrefixes(): void {
    const { gone, added } = this.#cidrs.renumber();
    for (const { prefix, identity } of gone) this.#dropCidr(prefix, identity);
    for (const identity of added) this.#addCidr(identity);
  }

  /** Number of groups of subjects that share one resolved policy. */
  get groupCount(): number {
    return this.#groups.size;
  }

  get policyCount(): number {
    return this.#policies.size;
  }

  identities(): IterableIterator<PeerIdentity> {
    return this.selectors.identities();
  }

  policies(): Policy[] {
    return [...this.#policies.values()].map(({ policy }) => policy);
  }

  policy(name: string): Policy | undefined {
    return this.#policies.get(name)?.policy;
  }

  identity(number: number): PeerIdentity | undefined {
    return this.selectors.identity(number);
  }

  /** Adds an identity or changes its labels (numbers of live identities never change labels, user-reserved ones may). */
  upsertIdentity(number: number, labels: LabelSet): void {
    const before = this.selectors.identity(number);
    if (before?.labels.equals(labels)) return;
    if (before) this.removeIdentity(number);
    this.#addIdentity(peerIdentity(number, labels));
  }

  /** Removes an identity. Repeatable. */
  removeIdentity(number: number): void {
    const before = this.selectors.identity(number);
    if (before) this.#touchExcepting(before);
    const selectors = this.selectors.remove(number);
    for (const layer of this.#layers.using(selectors)) {
      layer.removeIdentity(number);
      this.#changedLayers.add(layer);
    }
    if (!this.#groupOf.has(number)) return;
    this.#leaveGroup(number);
    this.#removedSubjects.add(number);
    this.#changedSubjects.delete(number);
  }

  /**
   * Sets the port names of one endpoint; undefined forgets it. @param endpoint its prefix
   * @returns whether that may change any map state
   */
  setNamedPorts(endpoint: string, identity: number, ports: readonly NamedPort[] | undefined): boolean {
    const { identities, names } = this.namedPorts.set(endpoint, identity, ports);
    if (identities.size === 0 && names.size === 0) return false;
    for (const layer of this.#layers.all()) {
      if (layer.egressNames.size === 0) continue;
      if (names.intersection(layer.egressNames).size > 0) layer.resolveAll();
      else for (const number of identities) layer.resolveIdentity(number);
      this.#changedLayers.add(layer);
    }
    for (const group of this.#groups.values()) {
      if (names.intersection(group.layer.egressNames).size > 0) group.resolveWild();
    }
    return true;
  }

  /**
   * Puts a policy in, in place of the one of the same name; the same manifest again changes nothing. Answers the policy
   * revision that has it.
   * @throws {CidrNumberError} before anything is changed
   */
  upsertPolicy(policy: Policy): number {
    const before = this.#policies.get(policy.name);
    if (before && sameSource(before.policy, policy)) return this.#policyRevision;
    for (const identity of this.#cidrs.acquire(policyMentions(policy))) this.#addCidr(identity);
    const rules = policy.rules.map((rule) => compileRule(policy, rule, this.#serial++, this.selectors));
    const touched = new Set<number>();
    for (const rule of rules) this.#link(rule, touched);
    this.#policies.set(policy.name, { policy, rules });
    this.#policyRevision++;
    this.#retire(before, touched);
    this.#regroup(touched, rules);
    if (before) this.#releaseAll(before);
    return this.#policyRevision;
  }

  /** Removes a policy; false when there was none of this name. */
  removePolicy(name: string): boolean {
    const before = this.#policies.get(name);
    if (!before) return false;
    const touched = new Set<number>();
    this.#policies.delete(name);
    this.#policyRevision++;
    this.#retire(before, touched);
    this.#regroup(touched);
    this.#releaseAll(before);
    return true;
  }

  /**
   * The map state of a subject, or undefined for an identity that is none. One that a policy which is not known may select
   * has an error and nothing that opens: the policy may deny what others allow.
   */
  mapState(subject: number): MapState | undefined {
    const state = this.#groupOf.get(subject)?.state(), hold = this.holdOf(subject);
    return hold === undefined
      ? state?.mapState(subject, this.#policyRevision)
      : state?.closed(subject, this.#policyRevision, hold);
  }

  /**
   * A policy exists and is not known: until {@link release}, nothing new is said of the subjects that it may select.
   * @param namespace whose subjects those are; undefined: of all
   */
  hold(name: string, namespace: string | undefined, why: string): void {
    if (this.#holds.get(name)?.why === why) return;
    this.#holds.set(name, { namespace, why });
    for (const subject of this.#groupOf.keys()) this.#changedSubjects.add(subject);
  }

  /** The policy is known, or gone. Repeatable. */
  release(name: string): void {
    if (!this.#holds.delete(name)) return;
    for (const subject of this.#groupOf.keys()) this.#changedSubjects.add(subject);
  }

  isHeld(name: string): boolean {
    return this.#holds.has(name);
  }

  /** True while nothing new is said of anybody. */
  get holdsEverybody(): boolean {
    return [...this.#holds.values()].some(({ namespace }) => namespace === undefined);
  }

  /** Why nothing new is said of a subject; undefined: it is. */
  holdOf(subject: number): string | undefined {
    if (this.#holds.size === 0) return undefined;
    const labels = this.selectors.identity(subject)?.labels;
    for (const { namespace, why } of this.#holds.values()) {
      if (namespace !== undefined && labels?.get("k8s", LABEL_NAMESPACE) !== namespace) continue;
      return `Cannot resolve policy of identity ${subject}: ${why}`;
    }
    return undefined;
  }

  /** The group of a subject. */
  group(subject: number): PolicyGroup | undefined {
    return this.#groupOf.get(subject);
  }

  /** Rules that select an identity, also one that is not known here. */
  rulesFor(identity: PeerIdentity): CompiledRule[] {
    if (this.selectors.identity(identity.number) === identity) return this.#rulesOf(identity.number);
    return [...this.#policies.values()].flatMap(({ rules }) => rules)
      .filter(({ rule }) => rule.subject.matches(identity.labels))
      .sort((a, b) => a.serial - b.serial);
  }

  /** Numbers that have a map state. */
  subjects(): IterableIterator<number> {
    return this.#groupOf.keys();
  }

  /** The CIDR identity of a prefix that some policy mentions. */
  cidrIdentity(text: string): CidrIdentity | undefined {
    const prefix = Prefix.parse(text);
    const identity = this.#cidrs.numberOf(prefix.text);
    return identity === undefined
      ? undefined
      : { prefix: prefix.text, identity, labels: cidrIdentityLabels(prefix).toStrings() };
  }

  /** A selector of names that some policy mentions, by its text. */
  fqdnSelector(text: string): FqdnSelector | undefined {
    const name = parseFqdnName(text), identity = this.#cidrs.numberOf(text);
    return name && identity !== undefined ? fqdnSelectorOf(name, identity) : undefined;
  }

  /** All pairs of prefix and number in use. */
  cidrPairs(): CidrPair[] {
    return this.#cidrs.pairs().filter(({ prefix }) => !isFqdnText(prefix));
  }

  /** The same with selectors of names, by their texts. */
  mentionedPairs(): CidrPair[] {
    return this.#cidrs.pairs();
  }

  /** What changed since the last call. Readers see a change of several parts only after this, so never half of it. */
  takeChanges(): RepositoryChanges {
    this.#renewMovedCookies();
    if (this.#changedLayers.size > 0) {
      for (const group of this.#groups.values()) {
        if (liesOn(group, this.#changedLayers)) this.#changedGroups.add(group);
      }
    }
    const subjects = new Set(this.#changedSubjects), groups = new Set(this.#changedGroups);
    const changes: RepositoryChanges = {
      get mapStates() {
        const all = new Set(subjects);
        for (const group of groups) for (const subject of group.subjects) all.add(subject);
        return all;
      },
      subjects,
      groups,
      removedSubjects: new Set(this.#removedSubjects),
      addedPrefixes: new Set(this.#addedPrefixes),
      removedPrefixes: new Set(this.#removedPrefixes),
      cookies: this.cookies.takeChanged(),
    };
    this.#changedGroups.clear();
    this.#changedLayers.clear();
    this.#changedSubjects.clear();
    this.#removedSubjects.clear();
    this.#addedPrefixes.clear();
    this.#removedPrefixes.clear();
    return changes;
  }

  /** Groups that name a cookie which another set of rules has now ask again. Hardly ever any: two 32-bit hashes collided. */
  #renewMovedCookies(): void {
    for (let moved = this.cookies.takeMoved(); moved.size > 0; moved = this.cookies.takeMoved()) {
      for (const group of this.#groups.values()) {
        if (!group.cookies().some((cookie) => moved.has(cookie))) continue;
        group.renewCookies();
        this.#changedGroups.add(group);
      }
      for (const layer of this.#layers.all()) {
        if (!layer.cookies().some((cookie) => moved.has(cookie))) continue;
        layer.resolveAll();
        this.#changedLayers.add(layer);
      }
    }
  }

  /** Forgets cookies and rule sets that no group names any more; answers the cookies that stand for nothing now. */
  sweepCookies(): number[] {
    const inUse = new Set<number>(), ruleSets = new Set<number>();
    for (const holders of [this.#groups.values(), this.#layers.all()]) {
      for (const holder of holders) {
        for (const cookie of holder.cookies()) inUse.add(cookie);
        for (const ruleSet of holder.ruleSets()) ruleSets.add(ruleSet);
      }
    }
    this.ruleSets.sweep(ruleSets);
    return this.cookies.sweep(inUse);
  }

  /** Map states name the prefixes that are exceptions of their rules. */
  #touchExcepting(identity: PeerIdentity): void {
    for (const selector of this.selectors.excepting(identity)) {
      for (const layer of this.#layers.of(selector)) this.#changedLayers.add(layer);
    }
  }

  #addIdentity(identity: PeerIdentity): void {
    this.#touchExcepting(identity);
    const selectors = this.selectors.add(identity);
    for (const layer of this.#layers.using(selectors)) {
      layer.resolveIdentity(identity.number);
      this.#changedLayers.add(layer);
    }
    if (isSubject(identity.number)) this.#regroup([identity.number]);
  }

  #addCidr(identity: PeerIdentity): void {
    this.#addIdentity(identity);
    const [text] = identity.names ?? [identity.prefixes[0].text];
    this.#addedPrefixes.add(text);
  }

  #dropCidr(prefix: string, number: number): void {
    this.removeIdentity(number);
    this.#addedPrefixes.delete(prefix);
    this.#removedPrefixes.add(prefix);
  }

  #link(rule: CompiledRule, touched: Set<number>): void {
    const rules = this.#rulesBySubject.get(rule.subject.key);
    if (rules) rules.add(rule);
    else this.#rulesBySubject.set(rule.subject.key, new Set([rule]));
    for (const number of rule.subject.matches) if (isSubject(number)) touched.add(number);
  }

  #retire(before: { rules: CompiledRule[] } | undefined, touched: Set<number>): void {
    for (const rule of before?.rules ?? []) {
      const rules = this.#rulesBySubject.get(rule.subject.key);
      rules?.delete(rule);
      if (rules?.size === 0) this.#rulesBySubject.delete(rule.subject.key);
      for (const number of rule.subject.matches) if (isSubject(number)) touched.add(number);
    }
  }

  #releaseAll(before: { policy: Policy; rules: CompiledRule[] }): void {
    for (const rule of before.rules) releaseRule(rule, this.selectors);
    for (const { prefix, identity } of this.#cidrs.release(policyMentions(before.policy))) {
      this.#dropCidr(prefix, identity);
    }
  }

  /** @param added rules that are new, the only ones of which some subjects of a group may have and others not */
  #regroup(subjects: Iterable<number>, added: readonly CompiledRule[] = []): void {
    // Subjects that had the same rules and get the same new ones have the same rules again.
    const known = new Map<PolicyGroup, Map<string, { rules: CompiledRule[]; key: string }>>();
    for (const subject of subjects) {
      const before = this.#groupOf.get(subject);
      const gets = added.map((rule) => rule.subject.matches.has(subject) ? "1" : "0").join("");
      let found = before && known.get(before)?.get(gets);
      if (!found) {
        const rules = this.#rulesOf(subject);
        const key = rules.map((rule) => rule.serial).join(",") + (subject === IDENTITY_INIT ? "!" : "");
        found = { rules, key };
        const ofGroup = before && known.get(before);
        if (ofGroup) ofGroup.set(gets, found);
        else if (before) known.set(before, new Map([[gets, found]]));
      }
      const { rules, key } = found, always = subject === IDENTITY_INIT;
      if (this.#groupOf.get(subject)?.key === key) continue;
      let group = this.#groups.get(key);
      if (!group) {
        const layer = this.#layers.take(rules, before?.layer);
        group = new PolicyGroup(key, rules, layer, this.#tools, always);
        this.#groups.set(key, group);
      }
      // Only now, so that layers which both groups lie on stay.
      this.#leaveGroup(subject);
      group.subjects.add(subject);
      this.#groupOf.set(subject, group);
      this.#changedSubjects.add(subject);
      this.#removedSubjects.delete(subject);
    }
  }

  #leaveGroup(subject: number): void {
    const group = this.#groupOf.get(subject);
    if (!group) return;
    this.#groupOf.delete(subject);
    group.subjects.delete(subject);
    if (group.subjects.size > 0) return;
    this.#groups.delete(group.key);
    this.#changedGroups.delete(group);
    for (const layer of this.#layers.release(group.layer)) this.#changedLayers.delete(layer);
  }

  /** Rules that select a subject, in order of their serial numbers. */
  #rulesOf(subject: number): CompiledRule[] {
    const rules: CompiledRule[] = [];
    for (const selector of this.selectors.selectorsOf(subject)) {
      for (const rule of this.#rulesBySubject.get(selector.key) ?? []) rules.push(rule);
    }
    return rules.sort((a, b) => a.serial - b.serial);
  }
}

/** Whether a group lies on one of these layers. */
function liesOn(group: PolicyGroup, layers: ReadonlySet<EntryLayer>): boolean {
  for (let layer: EntryLayer | undefined = group.layer; layer; layer = layer.parent) {
    if (layers.has(layer)) return true;
  }
  return false;
}

/** True for identities that endpoints can have. */
export function isSubject(number: number): boolean {
  return isReservedIdentity(number)
    ? RESERVED_SUBJECTS.has(number) || number >= 128
    : !isLocalIdentity(number);
}

function sameSource(a: Policy, b: Policy): boolean {
  return a.manifest === b.manifest && a.file === b.file && a.line === b.line;
}
