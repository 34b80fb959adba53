/**
 * Everything the engine knows, and the one place where it changes: identities, port names and policies come in, map
 * states of the subjects come out. Pure: no clock, no file, no network. Every change touches only the groups of subjects
 * that it concerns; {@link PolicyRepository.takeChanges} says which map states, CIDR identities and rules are new.
 * @module
 */
import {
  cidrIdentityLabels,
  type LabelSet,
  Prefix,
  RESERVED_IDENTITIES,
  reservedIdentityLabels,
} from "@weir/common";
import type { CidrIdentity, FqdnSelector, MapState, MapStateEntry } from "@weir/proto/policy";
import { CidrIdentities, type CidrPair } from "./cidr_identities.ts";
import type { CidrNumbers } from "./cidr_numbers.ts";
import { type CompiledRule, compileRule, releaseRule } from "./compiled_rule.ts";
import { CookieRegistry } from "./cookie_registry.ts";
import type { EntryLayer, LayerTools, ResolutionWork } from "./entry_layer.ts";
import { EntryLayers } from "./entry_layers.ts";
import { fqdnSelectorOf, isFqdnText, parseFqdnName } from "./fqdn_selector.ts";
import { type NamedPort, NamedPortTable } from "./named_ports.ts";
import { type PeerIdentity, peerIdentity, type Policy, policyMentions, ruleSelects } from "./policy.ts";
import type { PolicyGroup } from "./policy_group.ts";
import { PolicyHolds } from "./policy_holds.ts";
import { PendingChanges, type RepositoryChanges } from "./repository_changes.ts";
import { RuleSetRegistry } from "./rule_set_registry.ts";
import { SelectorCache } from "./selector_cache.ts";
import type { ChangedMeanings } from "./source_slots.ts";
import { isSubject, rulesAsked, SubjectGroups } from "./subject_groups.ts";

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
  readonly #tools: LayerTools = {
    cache: this.selectors,
    tables: { cookies: this.cookies, namedPorts: this.namedPorts, ruleSets: this.ruleSets },
    work: this.work,
  };
  readonly #layers = new EntryLayers(this.#tools);
  readonly #changes = new PendingChanges();
  readonly #groups = new SubjectGroups({
    selectors: this.selectors,
    layers: this.#layers,
    tools: this.#tools,
    changes: this.#changes,
  });
  readonly #holds = new PolicyHolds();
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
      this.#changes.layers.add(layer);
    }
    if (!this.#groups.leave(number)) return;
    this.#changes.removedSubjects.add(number);
    this.#changes.subjects.delete(number);
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
      this.#changes.layers.add(layer);
    }
    for (const group of this.#groups.all()) {
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
    for (const rule of rules) this.#groups.link(rule, touched);
    this.#policies.set(policy.name, { policy, rules });
    this.#policyRevision++;
    this.#groups.retire(before, touched);
    this.#groups.regroup(touched, rules);
    this.#setSource(before?.policy, policy);
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
    this.#groups.retire(before, touched);
    this.#groups.regroup(touched);
    this.#setSource(before.policy, undefined);
    this.#releaseAll(before);
    return true;
  }

  /**
   * The map state of a subject, or undefined for an identity that is none. One that a policy which is not known may select
   * has an error and nothing that opens: the policy may deny what others allow.
   */
  mapState(subject: number): MapState | undefined {
    const state = this.#groups.of(subject)?.state(), hold = this.holdOf(subject);
    return hold === undefined
      ? state?.mapState(subject, this.#policyRevision)
      : state?.closed(subject, this.#policyRevision, hold);
  }

  /**
   * A policy exists and is not known: until {@link release}, nothing new is said of the subjects that it may select.
   * @param namespace whose subjects those are; undefined: of all
   */
  hold(name: string, namespace: string | undefined, why: string): void {
    if (this.#holds.add(name, namespace, why)) this.#touchEverybody();
  }

  /** The policy is known, or gone. Repeatable. */
  release(name: string): void {
    if (this.#holds.delete(name)) this.#touchEverybody();
  }

  #touchEverybody(): void {
    for (const subject of this.#groups.subjects()) this.#changes.subjects.add(subject);
  }

  isHeld(name: string): boolean {
    return this.#holds.has(name);
  }

  /** True while nothing new is said of anybody. */
  get holdsEverybody(): boolean {
    return this.#holds.holdEverybody;
  }

  /** Why nothing new is said of a subject; undefined: it is. */
  holdOf(subject: number): string | undefined {
    return this.#holds.whyOf(subject, (number) => this.selectors.identity(number)?.labels);
  }

  /** The group of a subject. */
  group(subject: number): PolicyGroup | undefined {
    return this.#groups.of(subject);
  }

  /** Rules that select an identity, also one that is not known here, and are asked. */
  rulesFor(identity: PeerIdentity): CompiledRule[] {
    if (this.selectors.identity(identity.number) === identity) return this.#groups.rulesOf(identity.number);
    return rulesAsked(
      [...this.#policies.values()].flatMap(({ rules }) => rules)
        .filter(({ rule }) => ruleSelects(rule, identity.labels))
        .sort((a, b) => a.serial - b.serial),
    );
  }

  /** Numbers that have a map state. */
  subjects(): IterableIterator<number> {
    return this.#groups.subjects();
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
    return this.#changes.take(this.#groups.all(), this.cookies.takeChanged());
  }

  /** Groups that name a cookie which another set of rules has now ask again. Hardly ever any: two 32-bit hashes collided. */
  #renewMovedCookies(): void {
    for (let moved = this.cookies.takeMoved(); moved.size > 0; moved = this.cookies.takeMoved()) {
      for (const group of this.#groups.all()) {
        if (!group.cookies().some((cookie) => moved.has(cookie))) continue;
        group.renewCookies();
        this.#changes.groups.add(group);
      }
      for (const layer of this.#layers.all()) {
        if (!layer.cookies().some((cookie) => moved.has(cookie))) continue;
        layer.resolveAll();
        this.#changes.layers.add(layer);
      }
    }
  }

  /** Forgets cookies and rule sets that no group names any more; answers the cookies that stand for nothing now. */
  sweepCookies(): number[] {
    const inUse = new Set<number>(), ruleSets = new Set<number>();
    for (const holders of [this.#groups.all(), this.#layers.all()]) {
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
      for (const layer of this.#layers.of(selector)) this.#changes.layers.add(layer);
    }
  }

  #addIdentity(identity: PeerIdentity): void {
    this.#touchExcepting(identity);
    const selectors = this.selectors.add(identity);
    for (const layer of this.#layers.using(selectors)) {
      layer.resolveIdentity(identity.number);
      this.#changes.layers.add(layer);
    }
    if (isSubject(identity.number)) this.#groups.regroup([identity.number]);
  }

  #addCidr(identity: PeerIdentity): void {
    this.#addIdentity(identity);
    const [text] = identity.names ?? [identity.prefixes[0].text];
    this.#changes.addedPrefixes.add(text);
  }

  #dropCidr(prefix: string, number: number): void {
    this.removeIdentity(number);
    this.#changes.addedPrefixes.delete(prefix);
    this.#changes.removedPrefixes.add(prefix);
  }

  /** What an object says of peers takes the place of what it said. */
  #setSource(before: Policy | undefined, now: Policy | undefined): void {
    const source = now?.source ?? before?.source;
    if (source === undefined) return;
    this.#resolveMeanings(this.selectors.setSource(source.kind, source.name, now?.source));
  }

  /** Resolves anew whom selectors began or ceased to mean. */
  #resolveMeanings(changed: ChangedMeanings): void {
    const known = new Map<EntryLayer, Map<string, MapStateEntry[]>>();
    for (const [selector, numbers] of changed) {
      const own = new Set(this.#layers.of(selector));
      for (const number of numbers) {
        // A layer above, where it means the identity as well, has what this one says of it in its own entries.
        const above = this.#layers.using(this.selectors.selectorsOf(number)).difference(own);
        for (const layer of [...own, ...[...above].filter((layer) => layer.liesOn(own))]) {
          if (!known.has(layer)) known.set(layer, new Map());
          layer.resolveIdentity(number, known.get(layer));
          this.#changes.layers.add(layer);
        }
      }
    }
  }

  #releaseAll(before: { policy: Policy; rules: CompiledRule[] }): void {
    for (const rule of before.rules) releaseRule(rule, this.selectors);
    for (const { prefix, identity } of this.#cidrs.release(policyMentions(before.policy))) {
      this.#dropCidr(prefix, identity);
    }
  }
}

function sameSource(a: Policy, b: Policy): boolean {
  return a.manifest === b.manifest && a.file === b.file && a.line === b.line;
}
