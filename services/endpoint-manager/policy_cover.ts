/**
 * What a policy is to say of identities that it was not made with: prefixes, and addresses that have names. Pure.
 *
 *     ipcache   0.0.0.0/0   10.0.0.0/8   10.1.0.0/16 (new)     the policy knows /8: its entries of /8 are copied for /16,
 *     verdict               that of /8   that of /8            so that the new prefix changes nobody's verdict
 *
 *     10.1.0.7/32 has a name that selectors mean               its entries of /8 and of these selectors, those that others
 *     verdict               that of /8 and the selectors       hide left out: what a deny says of /8 holds
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import {
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  isFqdnIdentity,
  isLocalIdentity,
  isTiered,
  kernelEntries,
} from "@weir/common";
import type { Init } from "@weir/proto";
import type { DatapathPolicy } from "@weir/proto/datapath";
import { type MapState, MapStateEntry } from "@weir/proto/policy";
import type { ProxyPolicy } from "@weir/proto/proxy";
import type { FqdnIdentities, FqdnIdentity, NameSelector } from "./names/fqdn_identities.ts";
import { selectorKey } from "./names/name_selectors.ts";
import type { JudgedParts } from "./policy_variant.ts";
import type { PrefixPair, PrefixPairs } from "./prefix_pairs.ts";

/** What a policy may need copies for. */
export type Covered = PrefixPair | FqdnIdentity;

/** Everything that policies are to cover. */
export interface CoveredParts {
  readonly prefixes: PrefixPairs;
  readonly names: Pick<FqdnIdentities, "version" | typeof Symbol.iterator>;
}

type Entry = Init<MapStateEntry>;
const NOTHING: readonly Entry[] = [];

/** A policy for the datapath, and what it knows of prefixes and names. Never changes. */
export class KnowingPolicy {
  readonly policy: Init<DatapathPolicy>;
  /** What it was made of; undefined for one that was found in the datapath, or is made of nothing. */
  readonly state: MapState | undefined;
  /** For the L7 proxy; undefined for one that was found. */
  readonly judged: JudgedParts | undefined;
  /** Identities of prefixes that the kernel must have with it. */
  readonly needed: ReadonlySet<number>;
  /** Selectors of names that it has entries of, by `selectorKey`. */
  readonly selectors: ReadonlyMap<string, NameSelector>;
  /** What was found in the datapath for addresses with names, by their identities. */
  readonly foundNames: ReadonlyMap<number, readonly Entry[]>;
  /** It says which prefixes it knows; else it is taken to know all of them. */
  readonly #isSelfDescribed: boolean;
  /** Entries of prefixes, selectors and the world, by identity. */
  readonly #entries: ReadonlyMap<number, readonly Entry[]>;
  /** The same of what the L7 proxy judges by. */
  #judgedEntries: ReadonlyMap<number, readonly Entry[]> | undefined;
  /** What tiers say of every identity: what an entry of one comes to depends on it. */
  #wild: readonly Entry[] | undefined;

  private constructor(
    policy: Init<DatapathPolicy>,
    state: MapState | undefined,
    known: ReadonlySet<number>,
    isSelfDescribed: boolean,
    selectors: readonly NameSelector[],
    judged?: JudgedParts,
  ) {
    this.foundNames = entriesOf(policy.entries, isFqdnIdentity);
    // What is said of addresses with names is composed anew, never taken for what the policy means itself.
    this.policy = this.foundNames.size === 0
      ? policy
      : { ...policy, entries: policy.entries?.filter(({ identity }) => !isFqdnIdentity(identity ?? 0)) };
    this.state = state;
    this.judged = judged;
    this.#isSelfDescribed = isSelfDescribed;
    this.#entries = entriesOf(this.policy.entries, mayBeCopied);
    this.selectors = new Map(selectors.map((selector) => [selectorKey(selector), selector]));
    const ofNames = new Set(selectors.map(({ identity }) => identity));
    const named = new Set<number>();
    for (const identity of this.#entries.keys()) {
      if (isLocalIdentity(identity) && !ofNames.has(identity)) named.add(identity);
    }
    this.needed = named.isSubsetOf(known) ? known : named.union(known);
  }

  /** A policy of an engine. One that is too old to say which prefixes it knows is taken to know all. */
  static of(policy: Init<DatapathPolicy>, state: MapState, judged?: JudgedParts): KnowingPolicy {
    const { silent, selfDescribed, fqdnSelectors } = state;
    return new KnowingPolicy(policy, state, new Set(silent), selfDescribed, fqdnSelectors, judged);
  }

  /**
   * A policy that an earlier process left in the datapath, where it covers these identities.
   * @param selectors what their numbers stood for
   */
  static found(
    policy: Init<DatapathPolicy>,
    identities: ReadonlySet<number>,
    selectors: readonly NameSelector[] = [],
  ): KnowingPolicy {
    const entries = new Set(policy.entries?.map(({ identity }) => identity));
    const own = selectors.filter(({ identity }) => entries.has(identity));
    return new KnowingPolicy(policy, undefined, identities, true, own);
  }

  /** Whether it means the identity by itself. */
  knows(identity: number): boolean {
    return this.needed.has(identity);
  }

  /** It was found in the datapath. */
  get isFound(): boolean {
    return this.state === undefined;
  }

  /** False when nothing ever needs a copy. */
  get mayCopy(): boolean {
    return this.#entries.size > 0;
  }

  /** Pairs that may need a copy; some more than once. */
  candidates(cover: PrefixPairs): Iterable<PrefixPair> {
    return this.#isSelfDescribed ? candidates(this.#entries, cover) : [];
  }

  /** Entries by which an identity has the verdicts that it is to have; none for a prefix that the policy knows. */
  copiesFor(covered: Covered, cover: PrefixPairs): readonly Entry[] {
    const sources = this.#sourcesOf(covered, cover);
    if (sources.length < 2) return copy(this.#entries, sources, covered.identity);
    const told = this.judged?.entries ?? [];
    if (!told.some((entry) => isTiered({ precedence: entry.precedence ?? 0 }))) {
      return kernel(copy(this.#entries, sources, covered.identity));
    }
    // What one of them passes on another one may decide, so it is resolved with all of them.
    this.#wild ??= told.filter(({ identity }) => (identity ?? 0) === 0);
    return kernel([...this.judgedCopiesFor(covered, cover), ...this.#wild])
      .filter(({ identity }) => identity === covered.identity);
  }

  /** The same for the L7 proxy, which is told what others hide too. */
  judgedCopiesFor(covered: Covered, cover: PrefixPairs): readonly Entry[] {
    this.#judgedEntries ??= entriesOf(this.judged?.entries, mayBeCopied);
    return copy(this.#judgedEntries, this.#sourcesOf(covered, cover), covered.identity);
  }

  /** Whose entries an identity gets. */
  #sourcesOf(covered: Covered, cover: PrefixPairs): readonly number[] {
    if (!("base" in covered)) {
      return !this.#isSelfDescribed || this.knows(covered.identity) ? [] : [this.#sourceOf(covered, cover)];
    }
    const { base, selectors } = covered;
    const own = selectors.filter((selector) => this.selectors.has(selectorKey(selector)));
    return [this.#sourceOf(base, cover), ...own.map(({ identity }) => identity)];
  }

  /** The longest prefix that it knows around a prefix, itself included. */
  #sourceOf({ prefix, identity }: PrefixPair, cover: PrefixPairs): number {
    if (!this.#isSelfDescribed || this.knows(identity)) return identity;
    let source = prefix.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
    for (const around of cover.around(prefix)) if (this.knows(around.identity)) source = around.identity;
    return source;
  }
}

function entriesOf(
  entries: readonly Entry[] | undefined,
  isMeant: (identity: number) => boolean,
): Map<number, Entry[]> {
  const found = new Map<number, Entry[]>();
  for (const entry of entries ?? []) {
    const identity = entry.identity ?? 0, known = found.get(identity);
    if (known) known.push(entry);
    else if (isMeant(identity)) found.set(identity, [entry]);
  }
  return found;
}

function copy(
  entries: ReadonlyMap<number, readonly Entry[]>,
  sources: readonly number[],
  identity: number,
): readonly Entry[] {
  if (!sources.some((source) => entries.has(source))) return NOTHING;
  return sources.flatMap((source) => entries.get(source)?.map((entry) => ({ ...entry, identity })) ?? []);
}

function kernel(entries: readonly Entry[]): MapStateEntry[] {
  return kernelEntries(entries.map((entry) => MapStateEntry.create(entry)));
}

/** Pairs that may need a copy: all, or those inside prefixes that have entries. */
function* candidates(entries: ReadonlyMap<number, unknown>, cover: PrefixPairs): Generator<PrefixPair> {
  if (entries.has(IDENTITY_WORLD_IPV4) || entries.has(IDENTITY_WORLD_IPV6)) return yield* cover;
  for (const identity of entries.keys()) {
    for (const { prefix } of cover.ofIdentity(identity)) yield* cover.inside(prefix);
  }
}

function mayBeCopied(identity: number): boolean {
  return isLocalIdentity(identity) || identity === IDENTITY_WORLD_IPV4 || identity === IDENTITY_WORLD_IPV6;
}

/** Copies by identity, as the kernel has them. */
type WrittenCopies = ReadonlyMap<number, readonly Entry[]>;

/** The copies that one policy needs, kept up to date with what is to be covered. */
export class PolicyCopies {
  readonly #policy: KnowingPolicy;
  readonly #covered: CoveredParts;
  readonly #copies = new Map<Covered, readonly Entry[]>();
  /** Undefined: that is not known. */
  #written: WrittenCopies | undefined;
  #version = -1;
  #namesVersion = -1;

  constructor(policy: KnowingPolicy, covered: CoveredParts) {
    this.#policy = policy;
    this.#covered = covered;
  }

  /** Takes in what has changed; true when the entries are others now. */
  update(): boolean {
    if (!this.#policy.mayCopy) return false;
    const isOther = this.#updatePrefixes();
    return this.#updateNames() || isOther;
  }

  /** The policy with its copies. */
  covered(): Init<DatapathPolicy> {
    return this.#withCopies(this.#byIdentity());
  }

  /** The same for the L7 proxy; undefined for one that was found. */
  judged(): Init<ProxyPolicy> | undefined {
    const { policy, judged } = this.#policy;
    if (judged === undefined) return undefined;
    const { entries: _, status: _status, process: _process, audit: _audit, ...same } = policy;
    const copies = new Map<number, readonly Entry[]>();
    for (const covered of this.#copies.keys()) {
      if (copies.has(covered.identity)) continue;
      copies.set(covered.identity, this.#policy.judgedCopiesFor(covered, this.#covered.prefixes));
    }
    return { ...same, ...judged, entries: [...judged.entries ?? [], ...[...copies.values()].flat()] };
  }

  /**
   * Writes the policy with its copies. What the kernel has of them is known when it went well, or left everything as it was.
   * @param isUnwritten whether a failure left everything as it was
   * @param isCovered what it is to have copies for; default all
   */
  async write(
    write: (covered: Init<DatapathPolicy>) => Promise<void>,
    isUnwritten: (error: unknown) => boolean,
    isCovered?: (covered: Covered) => boolean,
  ): Promise<void> {
    const before = this.#written, copies = this.#byIdentity(isCovered);
    this.#written = undefined;
    try {
      await write(this.#withCopies(copies));
      this.#written = copies;
    } catch (error) {
      if (isUnwritten(error)) this.#written = before;
      throw error;
    }
  }

  /** Nobody knows what the kernel has of it: the datapath is there anew. */
  forget(): void {
    this.#written = undefined;
  }

  /**
   * The kernel has the policy as it was found.
   * @returns whether that is what it is to be
   */
  adopt(): boolean {
    const found = Array.from(
      this.#policy.foundNames,
      ([identity, entries]): [number, readonly Entry[]] => [
        identity,
        entries.length < 2 ? entries : kernel(entries),
      ],
    );
    this.#written = new Map(found);
    return isDeepStrictEqual(this.#written, new Map(this.#byIdentity()));
  }

  /**
   * Whether the kernel's policy, whatever it lacks of others, judges the addresses of this prefix the same with it and
   * without it, or those with these names as it is to: it has the copies that they need, most often none.
   */
  isWrittenFor(covered: Covered): boolean {
    if (this.#written === undefined) return false;
    // What the policy means itself has come before it; one that comes again is another prefix's identity.
    if (!("base" in covered) && this.#policy.knows(covered.identity)) return false;
    const wanted = this.#policy.copiesFor(covered, this.#covered.prefixes);
    return isDeepStrictEqual(this.#written.get(covered.identity) ?? NOTHING, wanted);
  }

  #updatePrefixes(): boolean {
    const { prefixes } = this.#covered, policy = this.#policy;
    if (this.#version === prefixes.version) return false;
    const changes = this.#version < 0 ? undefined : prefixes.changesSince(this.#version);
    let isOther = false;
    if (changes === undefined) {
      for (const covered of [...this.#copies.keys()]) {
        if ("base" in covered) continue;
        this.#copies.delete(covered);
        isOther = true;
      }
    }
    const all = () => Array.from(policy.candidates(prefixes), (pair) => ({ pair, isThere: true }));
    for (const { pair, isThere } of changes ?? all()) {
      if (this.#set(pair, isThere ? policy.copiesFor(pair, prefixes) : NOTHING)) isOther = true;
    }
    this.#version = prefixes.version;
    // Around what addresses have their names in there may be others now.
    if (changes === undefined || changes.length > 0) this.#namesVersion = -1;
    return isOther;
  }

  #updateNames(): boolean {
    const { prefixes, names } = this.#covered;
    if (this.#namesVersion === names.version) return false;
    this.#namesVersion = names.version;
    const present = new Set<Covered>(names);
    let isOther = false;
    for (const covered of [...this.#copies.keys()]) {
      if ("base" in covered && !present.has(covered) && this.#set(covered, NOTHING)) isOther = true;
    }
    for (const fqdn of names) {
      const copies = this.#policy.copiesFor(fqdn, prefixes);
      if (isDeepStrictEqual(this.#copies.get(fqdn) ?? NOTHING, copies)) continue;
      this.#set(fqdn, copies);
      isOther = true;
    }
    return isOther;
  }

  /** @returns true when it is, or may be, another than before */
  #set(covered: Covered, copies: readonly Entry[]): boolean {
    if (copies.length > 0) this.#copies.set(covered, copies);
    else return this.#copies.delete(covered);
    return true;
  }

  #withCopies(copies: WrittenCopies): Init<DatapathPolicy> {
    const { policy } = this.#policy;
    if (copies.size === 0) return policy;
    return { ...policy, entries: [...policy.entries ?? [], ...[...copies.values()].flat()] };
  }

  #byIdentity(isCovered: (covered: Covered) => boolean = () => true): WrittenCopies {
    const found = new Map<number, readonly Entry[]>();
    for (const [covered, copies] of this.#copies) {
      // An identity that is between two prefixes has one set of entries.
      if (!found.has(covered.identity) && isCovered(covered)) found.set(covered.identity, copies);
    }
    return found;
  }
}
