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
  type LabelSet,
  Prefix,
  RESERVED_IDENTITIES,
  reservedIdentityLabels,
} from "@weir/common";
import type { CidrIdentity, MapState } from "@weir/proto/policy";
import { CidrIdentities, type CidrPair } from "./cidr_identities.ts";
import { type CompiledRule, compileRule, releaseRule } from "./compiled_rule.ts";
import { CookieRegistry } from "./cookie_registry.ts";
import type { ResolverTables } from "./entry_resolver.ts";
import { type NamedPort, NamedPortTable } from "./named_ports.ts";
import { type PeerIdentity, peerIdentity, type Policy, policyPrefixes } from "./policy.ts";
import { PolicyGroup, type ResolutionWork } from "./policy_group.ts";
import { type CachedSelector, SelectorCache } from "./selector_cache.ts";

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
  /** Subjects that are gone. */
  readonly removedSubjects: ReadonlySet<number>;
  /** Prefixes whose CIDR identity is new, and those that are gone. */
  readonly addedPrefixes: ReadonlySet<string>;
  readonly removedPrefixes: ReadonlySet<string>;
  /** Cookies that are new or say something else. */
  readonly cookies: readonly number[];
}

/** Options of {@link PolicyRepository}. */
export interface PolicyRepositoryOptions {
  /** CIDR identities of an earlier life. */
  cidrIdentities?: Iterable<CidrPair>;
}

/** See the module comment. */
export class PolicyRepository {
  readonly selectors: SelectorCache = new SelectorCache();
  readonly cookies: CookieRegistry = new CookieRegistry();
  readonly namedPorts: NamedPortTable = new NamedPortTable();
  readonly work: ResolutionWork = { identitiesResolved: 0, groupsResolved: 0 };
  readonly #cidrs: CidrIdentities;
  readonly #policies = new Map<string, { policy: Policy; rules: CompiledRule[] }>();
  readonly #rulesBySubject = new Map<string, Set<CompiledRule>>();
  readonly #groups = new Map<string, PolicyGroup>();
  readonly #groupOf = new Map<number, PolicyGroup>();
  /** Groups that use a peer selector. */
  readonly #groupsBySelector = new Map<string, Set<PolicyGroup>>();
  readonly #changedGroups = new Set<PolicyGroup>();
  readonly #changedSubjects = new Set<number>();
  readonly #removedSubjects = new Set<number>();
  readonly #addedPrefixes = new Set<string>();
  readonly #removedPrefixes = new Set<string>();
  #serial = 0;
  #policyRevision = 1;

  constructor(options: PolicyRepositoryOptions = {}) {
    this.#cidrs = new CidrIdentities(options.cidrIdentities);
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

  /** Tells the number of a prefix that another replica or an earlier life gave it. For before a policy mentions it. */
  learnCidr(pair: CidrPair): void {
    this.#cidrs.learn(pair);
  }

  /** Prefixes of policies that have no number yet. */
  unnumberedPrefixes(policies: readonly Policy[]): string[] {
    const prefixes = policies.flatMap(policyPrefixes).filter((prefix) =>
      this.#cidrs.numberOf(prefix) === undefined
    );
    return [...new Set(prefixes.map((prefix) => prefix.text))];
  }

  /** True when a prefix has a number and no policy mentions it. */
  isPrefixUnused(prefix: string): boolean {
    return this.#cidrs.isUnused(prefix);
  }

  /** True when a CIDR number belongs to some prefix. */
  isCidrNumberTaken(number: number): boolean {
    return this.#cidrs.isTaken(number);
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
    const selectors = this.selectors.remove(number);
    for (const group of this.#groupsUsing(selectors)) {
      group.removeIdentity(number);
      this.#changedGroups.add(group);
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
    for (const group of this.#groups.values()) {
      if (group.egressNames.size === 0) continue;
      if ([...names].some((name) => group.egressNames.has(name))) group.resolveAll();
      else for (const number of identities) group.resolveIdentity(number);
      this.#changedGroups.add(group);
    }
    return true;
  }

  /**
   * Puts a policy in, in place of the one of the same name; the same manifest again changes nothing. Answers the policy
   * revision that has it.
   * @throws {CidrIdentitiesFullError} before anything is changed
   */
  upsertPolicy(policy: Policy): number {
    const before = this.#policies.get(policy.name);
    if (before && sameSource(before.policy, policy)) return this.#policyRevision;
    for (const identity of this.#cidrs.acquire(policyPrefixes(policy))) this.#addCidr(identity);
    const rules = policy.rules.map((rule) => compileRule(policy, rule, this.#serial++, this.selectors));
    const touched = new Set<number>();
    for (const rule of rules) this.#link(rule, touched);
    this.#policies.set(policy.name, { policy, rules });
    this.#policyRevision++;
    this.#retire(before, touched);
    this.#regroup(touched);
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

  /** Lets go of CIDR identities of an earlier life that no policy mentions. For after all policies are in. */
  releaseUnusedPrefixes(): void {
    for (const { prefix, identity } of this.#cidrs.releaseUnused()) this.#dropCidr(prefix, identity);
  }

  /** The map state of a subject, or undefined for an identity that is none. */
  mapState(subject: number): MapState | undefined {
    return this.#groupOf.get(subject)?.mapState(subject, this.#policyRevision);
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
    const identity = this.#cidrs.numberOf(prefix);
    return identity === undefined
      ? undefined
      : { prefix: prefix.text, identity, labels: cidrIdentityLabels(prefix).toStrings() };
  }

  /** All pairs of prefix and number, for the store. */
  cidrPairs(): CidrPair[] {
    return this.#cidrs.pairs();
  }

  /** What changed since the last call. Readers see a change of several parts only after this, so never half of it. */
  takeChanges(): RepositoryChanges {
    for (const group of this.#changedGroups) {
      for (const subject of group.subjects) this.#changedSubjects.add(subject);
    }
    // Entries are made when a group is read; their cookies belong to the same change.
    for (const group of this.#changedGroups) group.entries();
    const changes: RepositoryChanges = {
      mapStates: new Set(this.#changedSubjects),
      removedSubjects: new Set(this.#removedSubjects),
      addedPrefixes: new Set(this.#addedPrefixes),
      removedPrefixes: new Set(this.#removedPrefixes),
      cookies: this.cookies.takeChanged(),
    };
    this.#changedGroups.clear();
    this.#changedSubjects.clear();
    this.#removedSubjects.clear();
    this.#addedPrefixes.clear();
    this.#removedPrefixes.clear();
    return changes;
  }

  /** Forgets cookies that no group names any more; answers them. */
  sweepCookies(): number[] {
    const inUse = new Set<number>();
    for (const group of this.#groups.values()) for (const cookie of group.cookies()) inUse.add(cookie);
    return this.cookies.sweep(inUse);
  }

  #addIdentity(identity: PeerIdentity): void {
    const selectors = this.selectors.add(identity);
    for (const group of this.#groupsUsing(selectors)) {
      group.resolveIdentity(identity.number);
      this.#changedGroups.add(group);
    }
    if (isSubject(identity.number)) this.#regroup([identity.number]);
  }

  #addCidr(identity: PeerIdentity): void {
    this.#addIdentity(identity);
    const prefix = identity.prefixes[0].text;
    this.#removedPrefixes.delete(prefix);
    this.#addedPrefixes.add(prefix);
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
    for (const { prefix, identity } of this.#cidrs.release(policyPrefixes(before.policy))) {
      this.#dropCidr(prefix, identity);
    }
  }

  #regroup(subjects: Iterable<number>): void {
    for (const subject of subjects) {
      const rules = this.#rulesOf(subject);
      const always = subject === IDENTITY_INIT;
      const key = rules.map((rule) => rule.serial).join(",") + (always ? "!" : "");
      if (this.#groupOf.get(subject)?.key === key) continue;
      this.#leaveGroup(subject);
      let group = this.#groups.get(key);
      if (!group) {
        const tables: ResolverTables = { cookies: this.cookies, namedPorts: this.namedPorts };
        group = new PolicyGroup(key, rules, this.selectors, tables, this.work, always);
        this.#groups.set(key, group);
        for (const selector of group.selectorKeys()) {
          const groups = this.#groupsBySelector.get(selector);
          if (groups) groups.add(group);
          else this.#groupsBySelector.set(selector, new Set([group]));
        }
      }
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
    for (const selector of group.selectorKeys()) {
      const groups = this.#groupsBySelector.get(selector);
      groups?.delete(group);
      if (groups?.size === 0) this.#groupsBySelector.delete(selector);
    }
  }

  /** Rules that select a subject, in order of their serial numbers. */
  #rulesOf(subject: number): CompiledRule[] {
    const rules: CompiledRule[] = [];
    for (const selector of this.selectors.selectorsOf(subject)) {
      for (const rule of this.#rulesBySubject.get(selector.key) ?? []) rules.push(rule);
    }
    return rules.sort((a, b) => a.serial - b.serial);
  }

  #groupsUsing(selectors: Iterable<CachedSelector>): Set<PolicyGroup> {
    const groups = new Set<PolicyGroup>();
    for (const selector of selectors) {
      for (const group of this.#groupsBySelector.get(selector.key) ?? []) groups.add(group);
    }
    return groups;
  }
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
