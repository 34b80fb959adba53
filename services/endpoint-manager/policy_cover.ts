/**
 * What a policy is to say of prefixes that it was not made with. Pure.
 *
 *     ipcache   0.0.0.0/0   10.0.0.0/8   10.1.0.0/16 (new)     the policy knows /8: its entries of /8 are copied for /16,
 *     verdict               that of /8   that of /8            so that the new prefix changes nobody's verdict
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { IDENTITY_WORLD_IPV4, IDENTITY_WORLD_IPV6, isLocalIdentity } from "@weir/common";
import type { Init } from "@weir/proto";
import type { DatapathPolicy } from "@weir/proto/datapath";
import type { MapState, MapStateEntry } from "@weir/proto/policy";
import type { PrefixPair, PrefixPairs } from "./prefix_pairs.ts";

const NOTHING: readonly Init<MapStateEntry>[] = [];

/** A policy for the datapath, and what it knows of prefixes. Never changes. */
export class KnowingPolicy {
  readonly policy: Init<DatapathPolicy>;
  /** What it was made of; undefined for one that was found in the datapath, or is made of nothing. */
  readonly state: MapState | undefined;
  /** Identities of prefixes that the kernel must have with it. */
  readonly needed: ReadonlySet<number>;
  /** It says which prefixes it knows; else it is taken to know all of them. */
  readonly #isSelfDescribed: boolean;
  /** Entries of prefixes and the world, by identity. */
  readonly #entries = new Map<number, Init<MapStateEntry>[]>();

  private constructor(
    policy: Init<DatapathPolicy>,
    state: MapState | undefined,
    known: ReadonlySet<number>,
    isSelfDescribed: boolean,
  ) {
    this.policy = policy;
    this.state = state;
    this.#isSelfDescribed = isSelfDescribed;
    const named = new Set<number>();
    for (const entry of policy.entries ?? []) {
      const identity = entry.identity ?? 0;
      if (!isLocalIdentity(identity) && !isWorld(identity)) continue;
      if (isLocalIdentity(identity)) named.add(identity);
      const entries = this.#entries.get(identity);
      if (entries) entries.push(entry);
      else this.#entries.set(identity, [entry]);
    }
    this.needed = named.isSubsetOf(known) ? known : named.union(known);
  }

  /** A policy of an engine. One that is too old to say which prefixes it knows is taken to know all. */
  static of(policy: Init<DatapathPolicy>, state: MapState): KnowingPolicy {
    return new KnowingPolicy(policy, state, new Set(state.silent), state.selfDescribed);
  }

  /** A policy that an earlier process left in the datapath, where it covers these identities. */
  static found(policy: Init<DatapathPolicy>, identities: ReadonlySet<number>): KnowingPolicy {
    return new KnowingPolicy(policy, undefined, identities, true);
  }

  /** Whether it means the identity by itself. */
  knows(identity: number): boolean {
    return this.needed.has(identity);
  }

  /** It was found in the datapath. */
  get isFound(): boolean {
    return this.state === undefined;
  }

  /** False when no prefix ever needs a copy. */
  get mayCopy(): boolean {
    return this.#isSelfDescribed && this.#entries.size > 0;
  }

  /** Pairs that may need a copy; some more than once. */
  candidates(cover: PrefixPairs): Iterable<PrefixPair> {
    return candidates(this.#entries, cover);
  }

  /** Entries by which a prefix has the verdicts of the prefix around it; none for one that it knows. */
  copiesFor({ prefix, identity }: PrefixPair, cover: PrefixPairs): readonly Init<MapStateEntry>[] {
    if (!this.mayCopy || this.knows(identity)) return NOTHING;
    let source = prefix.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
    for (const around of cover.around(prefix)) if (this.knows(around.identity)) source = around.identity;
    return this.#entries.get(source)?.map((entry) => ({ ...entry, identity })) ?? NOTHING;
  }
}

/** Pairs that may need a copy: all, or those inside prefixes that have entries. */
function* candidates(entries: ReadonlyMap<number, unknown>, cover: PrefixPairs): Generator<PrefixPair> {
  if (entries.has(IDENTITY_WORLD_IPV4) || entries.has(IDENTITY_WORLD_IPV6)) return yield* cover;
  for (const identity of entries.keys()) {
    for (const { prefix } of cover.ofIdentity(identity)) yield* cover.inside(prefix);
  }
}

function isWorld(identity: number): boolean {
  return identity === IDENTITY_WORLD_IPV4 || identity === IDENTITY_WORLD_IPV6;
}

/** Copies by identity, as the kernel has them. */
type WrittenCopies = ReadonlyMap<number, readonly Init<MapStateEntry>[]>;

/** The copies that one policy needs, kept up to date with what is to be covered. */
export class PolicyCopies {
  readonly #policy: KnowingPolicy;
  readonly #cover: PrefixPairs;
  readonly #copies = new Map<PrefixPair, readonly Init<MapStateEntry>[]>();
  /** Undefined: that is not known. */
  #written: WrittenCopies | undefined;
  #version = -1;

  constructor(policy: KnowingPolicy, cover: PrefixPairs) {
    this.#policy = policy;
    this.#cover = cover;
  }

  /** Takes in what has changed; true when the entries are others now. */
  update(): boolean {
    if (!this.#policy.mayCopy) return false;
    const changes = this.#version < 0 ? undefined : this.#cover.changesSince(this.#version);
    const isWhole = changes === undefined;
    let isOther = isWhole && this.#copies.size > 0;
    if (isWhole) this.#copies.clear();
    const all = () => Array.from(this.#policy.candidates(this.#cover), (pair) => ({ pair, isThere: true }));
    for (const { pair, isThere } of changes ?? all()) {
      const copies = isThere ? this.#policy.copiesFor(pair, this.#cover) : NOTHING;
      if (copies.length > 0) this.#copies.set(pair, copies);
      else if (!this.#copies.has(pair)) continue;
      else this.#copies.delete(pair);
      isOther = true;
    }
    this.#version = this.#cover.version;
    return isOther;
  }

  /** The policy with its copies. */
  covered(): Init<DatapathPolicy> {
    return this.#withCopies(this.#byIdentity());
  }

  /**
   * Writes the policy with its copies. What the kernel has of them is known when it went well, or left everything as it was.
   * @param isUnwritten whether a failure left everything as it was
   * @param isCovered which prefixes it is to have copies for; default all
   */
  async write(
    write: (covered: Init<DatapathPolicy>) => Promise<void>,
    isUnwritten: (error: unknown) => boolean,
    isCovered?: (pair: PrefixPair) => boolean,
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

  /** The kernel has the policy without copies. */
  adopt(): void {
    this.#written = new Map();
  }

  /**
   * Whether the kernel's policy, whatever it lacks of other prefixes, judges the addresses of this one the same with it and
   * without it: it has the copies that the prefix needs, most often none.
   */
  isWrittenFor(pair: PrefixPair): boolean {
    if (this.#written === undefined) return false;
    // What the policy means itself has come before it; one that comes again is another prefix's identity.
    if (this.#policy.knows(pair.identity)) return false;
    const wanted = this.#policy.copiesFor(pair, this.#cover);
    return isDeepStrictEqual(this.#written.get(pair.identity) ?? NOTHING, wanted);
  }

  #withCopies(copies: WrittenCopies): Init<DatapathPolicy> {
    const { policy } = this.#policy;
    if (copies.size === 0) return policy;
    return { ...policy, entries: [...policy.entries ?? [], ...[...copies.values()].flat()] };
  }

  #byIdentity(isCovered: (pair: PrefixPair) => boolean = () => true): WrittenCopies {
    const found = new Map<number, readonly Init<MapStateEntry>[]>();
    for (const [pair, copies] of this.#copies) {
      // An identity that is between two prefixes has one set of entries.
      if (!found.has(pair.identity) && isCovered(pair)) found.set(pair.identity, copies);
    }
    return found;
  }
}
