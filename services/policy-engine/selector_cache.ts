/**
 * Which identities each selector means. Selectors that say the same are shared; adding or removing an identity looks
 * only at selectors that one of its labels or prefixes leads to, and a new selector only at identities that share a label
 * with it.
 * @module
 */
import {
  isLocalIdentity,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  Prefix,
  PrefixTrie,
  type Requirement,
} from "@weir/common";
import type { CachedSelector } from "./cached_selector.ts";
import type { PeerSource, PeerSourceKind } from "./peer_source.ts";
import {
  fqdnKey,
  type PeerIdentity,
  type PeerSelector,
  peerSelectorMatches,
  type SourceSelector,
} from "./policy.ts";
import { type ChangedMeanings, isSourceSlot, type Slot, sourceSlot, SourceSlots } from "./source_slots.ts";

/** What the cache has done, so that tests can count work instead of time. */
export interface SelectorCacheWork {
  /** How often a selector was held against an identity. */
  comparisons: number;
}

/** Selectors in use, and the identities that each means. */
export class SelectorCache {
  readonly work: SelectorCacheWork = { comparisons: 0 };
  readonly #slots = new Map<string, Slot>();
  readonly #identities = new Map<number, PeerIdentity>();
  /** Selectors that mean an identity. */
  readonly #selectorsOf = new Map<number, Set<Slot>>();
  /** Label selectors by one `key=value` that they ask for; the others are looked at for every identity. */
  readonly #byTerm = new Map<string, Set<Slot>>();
  readonly #unindexed = new Set<Slot>();
  /** CIDR selectors by prefix. */
  readonly #byPrefix = new PrefixTrie<Slot>();
  /** Identities by `key=value`, and those that stand for addresses. */
  readonly #identitiesByTerm = new Map<string, Set<number>>();
  readonly #identitiesByPrefix = new PrefixTrie<number>();
  readonly #worldIdentities = new Set<number>();
  /** Identities that stand for selectors of names, by the keys of these. Nothing else leads to them. */
  readonly #identitiesByName = new Map<string, number>();
  /** Label selectors that may mean a prefix and not one inside it: they name prefixes. */
  readonly #namingPrefixes = new Set<Slot>();
  readonly #wholes = new SourceSlots({
    acquire: (selector) => this.#acquire(selector),
    release: (slot) => this.release(slot),
    find: (key) => this.#slots.get(key),
    slotsOf: (number) => this.#selectorsOf.get(number)!,
  });

  /** Number of different selectors. */
  get size(): number {
    return this.#slots.size;
  }

  get identityCount(): number {
    return this.#identities.size;
  }

  identity(number: number): PeerIdentity | undefined {
    return this.#identities.get(number);
  }

  identities(): IterableIterator<PeerIdentity> {
    return this.#identities.values();
  }

  /** Selectors in use that mean this identity. */
  selectorsOf(number: number): ReadonlySet<CachedSelector> {
    return this.#selectorsOf.get(number) ?? new Set();
  }

  /** Takes a selector into use; each `acquire` is undone by one {@link release}. */
  acquire(selector: PeerSelector): CachedSelector {
    return this.#acquire(selector);
  }

  #acquire(selector: PeerSelector): Slot {
    let slot = this.#slots.get(selector.key);
    if (!slot) {
      slot = newSlot(selector);
      this.#slots.set(selector.key, slot);
      this.#index(slot);
      for (const number of this.#candidates(selector)) this.#compare(slot, this.#identities.get(number)!);
      if (isSourceSlot(slot)) this.#wholes.add(slot);
    }
    slot.users++;
    return slot;
  }

  /** Gives up one use; the last one forgets the selector. */
  release(selector: CachedSelector): void {
    const slot = this.#slots.get(selector.key);
    if (!slot || --slot.users > 0) return;
    this.#slots.delete(slot.key);
    this.#unindex(slot);
    for (const number of slot.matches) this.#selectorsOf.get(number)?.delete(slot);
    if (isSourceSlot(slot)) this.#wholes.delete(slot);
  }

  /**
   * Puts an object that selectors may select in the place of the one of its name, or (undefined) takes it away.
   * @returns what selectors mean now and did not, or meant and do not now
   */
  setSource(kind: PeerSourceKind, name: string, source: PeerSource | undefined): ChangedMeanings {
    return this.#wholes.setSource(kind, name, source);
  }

  /** Whether some selector in use selects an object. */
  selectsSource(source: PeerSource): boolean {
    return this.#wholes.selects(source);
  }

  /** Grows when a selector of objects comes into use or goes out of it. */
  get sourceRevision(): number {
    return this.#wholes.revision;
  }

  /** Objects that a selector selects. */
  sourcesOf(selector: SourceSelector): Iterable<PeerSource> {
    return this.#wholes.sourcesOf(selector);
  }

  /** True when a selector in use means an identity, also one that is only asked about. */
  means(selector: CachedSelector, identity: PeerIdentity): boolean {
    if (this.#identities.get(identity.number) === identity && selector.selector.type !== "any") {
      return selector.matches.has(identity.number);
    }
    const slot = selector as Slot;
    return isSourceSlot(slot)
      ? [...slot.parts.keys()].some((part) => this.means(part, identity))
      : peerSelectorMatches(selector.selector as Exclude<PeerSelector, SourceSelector>, identity);
  }

  /** Adds an identity that is not there; answers the selectors that mean it. */
  add(identity: PeerIdentity): ReadonlySet<CachedSelector> {
    this.#identities.set(identity.number, identity);
    this.#selectorsOf.set(identity.number, new Set());
    for (const name of namesOf(identity)) this.#identitiesByName.set(name, identity.number);
    for (const term of termsOf(identity)) addTo(this.#identitiesByTerm, term, identity.number);
    for (const prefix of identity.prefixes) this.#identitiesByPrefix.add(prefix, identity.number);
    if (isWorld(identity)) this.#worldIdentities.add(identity.number);
    for (const slot of this.#candidateSlots(identity)) this.#compare(slot, identity);
    return this.#selectorsOf.get(identity.number)!;
  }

  /** Removes an identity; answers the selectors that meant it. Repeatable. */
  remove(number: number): ReadonlySet<CachedSelector> {
    const identity = this.#identities.get(number);
    if (!identity) return new Set();
    const slots = this.#selectorsOf.get(number)!;
    for (const slot of slots) {
      slot.matches.delete(number);
      if (isSourceSlot(slot)) slot.meant.delete(number);
    }
    for (const name of namesOf(identity)) this.#identitiesByName.delete(name);
    for (const term of termsOf(identity)) removeFrom(this.#identitiesByTerm, term, number);
    for (const prefix of identity.prefixes) this.#identitiesByPrefix.delete(prefix, number);
    this.#worldIdentities.delete(number);
    this.#identities.delete(number);
    this.#selectorsOf.delete(number);
    return slots;
  }

  /**
   * Identities of prefixes that the selector may not mean although it means what is around them: exceptions. Everything
   * else is monotone: what a selector says of a prefix it says of those inside.
   */
  exceptionsOf({ selector, matches, hasExceptions }: CachedSelector): Set<number> {
    if (!hasExceptions) return new Set();
    const outside = (prefixes: readonly Prefix[]) =>
      new Set(
        prefixes.flatMap((prefix) => [...this.#identitiesByPrefix.inside(prefix)].filter(isLocalIdentity)),
      );
    const isByAddress = selector.type === "cidr" || selector.type === "source";
    return isByAddress ? outside(selector.except) : outside(WORLD).difference(matches);
  }

  /** Selectors of which a prefix is an exception. */
  excepting(identity: PeerIdentity): Set<CachedSelector> {
    // A pod's address is no prefix that others lie in, a name no address.
    if (!isLocalIdentity(identity.number) || identity.isName) return new Set();
    const found = new Set<CachedSelector>(identity.prefixes.length > 0 ? this.#namingPrefixes : []);
    for (const prefix of identity.prefixes) {
      for (const slot of this.#byPrefix.around(prefix)) {
        const { selector } = slot;
        if (selector.type === "cidr" && selector.except.some((except) => except.contains(prefix))) {
          found.add(slot);
        }
      }
      for (const slot of this.#wholes.excepting(prefix)) found.add(slot);
    }
    return found;
  }

  #compare(slot: Slot, identity: PeerIdentity): void {
    const { selector } = slot;
    // It means whom its parts mean.
    if (selector.type === "source") return;
    this.work.comparisons++;
    if (!peerSelectorMatches(selector, identity)) return;
    slot.matches.add(identity.number);
    this.#selectorsOf.get(identity.number)!.add(slot);
    for (const whole of slot.wholes) this.#wholes.gain(whole, identity.number);
  }

  #index(slot: Slot): void {
    const { selector } = slot;
    if (selector.type === "cidr") {
      this.#byPrefix.add(selector.prefix, slot);
    } else if (selector.type === "labels") {
      if (slot.hasExceptions) this.#namingPrefixes.add(slot);
      const term = indexTerm(selector.selector.requirements);
      if (!term) this.#unindexed.add(slot);
      else for (const value of term.values) addTo(this.#byTerm, `${term.key}=${value}`, slot);
    }
  }

  #unindex(slot: Slot): void {
    const { selector } = slot;
    if (selector.type === "cidr") {
      this.#byPrefix.delete(selector.prefix, slot);
    } else if (selector.type === "labels") {
      this.#namingPrefixes.delete(slot);
      const term = indexTerm(selector.selector.requirements);
      if (!term) this.#unindexed.delete(slot);
      else for (const value of term.values) removeFrom(this.#byTerm, `${term.key}=${value}`, slot);
    }
  }

  /** Identities that the selector might mean. `any` is a wildcard entry, never a list of identities. */
  #candidates(selector: PeerSelector): Iterable<number> {
    if (selector.type === "any" || selector.type === "source") return [];
    if (selector.type === "fqdn") {
      const number = this.#identitiesByName.get(selector.name.text);
      return number === undefined ? [] : [number];
    }
    if (selector.type === "cidr") {
      const inside = new Set(this.#identitiesByPrefix.inside(selector.prefix));
      return selector.prefix.length > 0 ? inside : inside.union(this.#worldIdentities);
    }
    const term = indexTerm(selector.selector.requirements);
    // Those of names are among them: the comparison says no.
    if (!term) return this.#identities.keys();
    const found = new Set<number>();
    for (const value of term.values) {
      for (const number of this.#identitiesByTerm.get(`${term.key}=${value}`) ?? []) found.add(number);
    }
    return found;
  }

  /** Selectors that might mean the identity. */
  #candidateSlots(identity: PeerIdentity): Set<Slot> {
    if (identity.isName) {
      return new Set([...namesOf(identity)].flatMap((name) => this.#slots.get(fqdnKey(name)) ?? []));
    }
    const found = new Set<Slot>(this.#unindexed);
    for (const term of termsOf(identity)) {
      for (const slot of this.#byTerm.get(term) ?? []) found.add(slot);
    }
    for (const prefix of identity.prefixes) for (const slot of this.#byPrefix.around(prefix)) found.add(slot);
    if (isWorld(identity)) {
      for (const prefix of WORLD) for (const slot of this.#byPrefix.around(prefix)) found.add(slot);
    }
    return found;
  }
}

function newSlot(selector: PeerSelector): Slot {
  const isByAddress = selector.type === "cidr" || selector.type === "source";
  const hasExceptions = isByAddress ? selector.except.length > 0 : namesPrefixes(selector);
  const { key } = selector;
  const slot: Slot = { selector, key, matches: new Set(), hasExceptions, users: 0, wholes: new Set() };
  return selector.type === "source" ? sourceSlot(slot, selector) : slot;
}

const WORLD: readonly Prefix[] = [Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")];

/** Whether a label selector asks for a label of a single prefix. All others are the same for a prefix and those inside. */
function namesPrefixes(selector: PeerSelector): boolean {
  return selector.type === "labels" &&
    selector.selector.requirements.some(({ key }) => Prefix.tryParse(key) !== undefined);
}

function isWorld(identity: PeerIdentity): boolean {
  return ["world", "world-ipv4", "world-ipv6"].some((name) => identity.labels.has("reserved", name));
}

/** Texts of the selectors of names that an identity stands for. */
function namesOf({ isName, names }: PeerIdentity): Iterable<string> {
  return isName ? names ?? [] : [];
}

/** What stands for a selector of names has no labels that others could mean. */
function* termsOf(identity: PeerIdentity): Generator<string> {
  if (identity.isName) return;
  for (const label of identity.labels) yield `${label.key}=${label.value}`;
}

/** The requirement that tells identities apart best: a label of the workload before its namespace before the cluster. */
function indexTerm(requirements: readonly Requirement[]): Requirement | undefined {
  const rank = (requirement: Requirement) =>
    requirement.key === LABEL_CLUSTER ? 2 : requirement.key === LABEL_NAMESPACE ? 1 : 0;
  return requirements
    .filter((requirement) => requirement.operator === "In")
    .sort((a, b) => rank(a) - rank(b) || a.values.length - b.values.length)[0];
}

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function removeFrom<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (!set?.delete(value)) return;
  if (set.size === 0) map.delete(key);
}
