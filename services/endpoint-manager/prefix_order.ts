/**
 * The order in which prefixes of policies and the policies that mean them reach the kernel, which takes them one after the
 * other: at no moment is an address judged otherwise than by the old policies or by the new ones.
 *
 *     M  a policy as the engine made it; it names the identities of the prefixes that it was made with, as far as they matter
 *     K  prefixes that the kernel may have         C(M, K)  M, and for each identity of K that M does not know a copy of
 *                                                           M's entries of the prefix around it (`policy_cover.ts`)
 *
 *     a prefix comes ─▶ every policy: C(old, K + prefix) ─▶ ipcache + prefix ─▶ policies that know it: C(new, K)
 *     a prefix goes  ─▶ no policy knows it any more ─▶ ipcache - prefix ─▶ every policy: C(new, K - prefix)
 *
 * Why it holds. Kept at any moment: (1) a policy in the kernel is C(M, K') with every prefix that the ipcache has in K';
 * (2) every prefix that M knows is in the ipcache, maybe with another identity. Be p the longest prefix of the ipcache around an
 * address. Does M know p's identity, then by (2) no prefix that M knows is longer, and the verdict is M's. If not, then
 * the longest prefix around the address that M knows is the one around p, its entries are those of the copy, and the verdict is
 * M's again. Every step keeps (1) and (2), and replacing one policy is one step of the kernel. So what both policies allow passes all
 * along, and what both deny never does. No step asks where a stream is: replicas need not agree on positions.
 *
 * A policy that has no room for all of its copies gets those of the prefixes that the ipcache may have, or stays as it was. Both
 * keep (1). It covers a prefix p that comes all the same where M does not know p's identity and its entries of that are what they
 * are to be: mostly none, for M does not tell p from the prefix around it. What it lacks of other prefixes are entries of other
 * identities, and the prefix around p that M knows is the same with and without those. So only prefixes that it would judge
 * otherwise wait.
 *
 * @module
 */
import { Prefix } from "@weir/common";
import type { CidrIdentity } from "@weir/proto/policy";
import { type PrefixPair, PrefixPairs } from "./prefix_pairs.ts";

/**
 * COMING: not every policy covers it. GIVEN: the kernel is being told, or has no room for it. THERE: the kernel has it. TAKEN: the kernel is being told that
 * it is gone. GONE: it is, but a policy in force knows it.
 */
type State = "COMING" | "GIVEN" | "THERE" | "TAKEN" | "GONE";

/** A pair, and how far it is. */
export interface OrderedPair extends PrefixPair {
  state: State;
  /** Version of the cover that has it first. */
  readonly since: number;
  isWanted: boolean;
  /** The kernel was told of it, and not yet that it is gone. */
  mayBeThere: boolean;
}

/** What {@link PrefixOrder} is made of. */
export interface PrefixOrderParts {
  /** Whether a policy that the kernel may have knows the identity. */
  isKnown: (identity: number) => boolean;
  /** Whether every prefix of the policy engine was received once: before, one that is missing is not gone. */
  isSynced: () => boolean;
  /** The ipcache is to have the prefix with this identity, or (undefined) not at all. */
  onIpcache: (prefix: string, identity: number | undefined) => void;
  /** Policies are to cover other prefixes. */
  onCover: () => void;
  /** The kernel has prefixes that policies may wait for. */
  onThere: () => void;
  /** Addresses of names, each of which is based on the longest prefix around it (`names/name_order.ts`). */
  names?: {
    /** A prefix has come, has changed or goes. */
    onPrefix: () => void;
    /** Whether none of those in the kernel that lie inside the prefix is based on another one. */
    isBased: (pair: OrderedPair) => boolean;
    /** Whether one of those in the kernel may be based on the prefix, which goes. */
    isBase: (pair: OrderedPair) => boolean;
  };
}

/** Lets prefixes in and out. */
export class PrefixOrder {
  /** What every policy is to cover. */
  readonly cover: PrefixPairs<OrderedPair> = new PrefixPairs<OrderedPair>();
  readonly #parts: PrefixOrderParts;
  /** Those that are not as they are to be, or go. */
  readonly #unsettled = new Set<OrderedPair>();
  /** Rows of the source that cannot be read: no address has them. */
  readonly #unreadable = new Map<string, number>();

  constructor(parts: PrefixOrderParts) {
    this.#parts = parts;
  }

  /** True while a prefix that is to be in the kernel is not. */
  get isWaiting(): boolean {
    for (const { isWanted, state } of this.#unsettled) if (isWanted && state !== "THERE") return true;
    return false;
  }

  /** True while prefixes wait for policies to cover them. */
  get isComing(): boolean {
    for (const { isWanted, state } of this.#unsettled) if (isWanted && state === "COMING") return true;
    return false;
  }

  /** Whether a policy may name the identity: the kernel has its prefix, and no other one of the same identity. */
  has(identity: number): boolean {
    const pairs = this.cover.ofIdentity(identity);
    if (pairs.size === 0) return [...this.#unreadable.values()].includes(identity);
    const [pair] = pairs;
    return pairs.size === 1 && pair.state === "THERE" && this.#parts.names?.isBased(pair) !== false;
  }

  /** Whether the kernel may have the prefix with this identity. */
  mayBeThere({ prefix, identity }: PrefixPair): boolean {
    return this.cover.get(prefix, identity)?.mayBeThere ?? false;
  }

  /** What an earlier process left in the kernel. Until it is wanted, or no policy knows it, it stays. */
  adopt(found: Iterable<{ prefix: string; identity: number }>): void {
    for (const { prefix: text, identity } of found) {
      const prefix = Prefix.tryParse(text);
      if (!prefix) continue;
      const known = this.cover.get(prefix, identity);
      if (known) Object.assign(known, { state: "THERE", mayBeThere: true });
      else this.#add(prefix, identity, "THERE");
      this.#parts.onIpcache(prefix.text, identity);
    }
  }

  /** A row of the policy engine's prefixes that is there, has changed or is gone. */
  change(name: string, cidr: CidrIdentity | undefined): void {
    const text = cidr?.prefix ?? name, prefix = Prefix.tryParse(text);
    if (!prefix) return this.#noteUnreadable(name, cidr);
    for (const pair of this.cover.of(prefix)) {
      pair.isWanted = pair.identity === cidr?.identity;
      if (!pair.isWanted) this.#unsettled.add(pair);
    }
    if (cidr) this.#want(prefix, cidr.identity);
    this.#parts.names?.onPrefix();
    this.#parts.onCover();
  }

  /**
   * Every policy covers what was to be covered at this version.
   * @param isHeld but for these: a policy has no room for their copies
   */
  covered(version: number, isHeld: (pair: PrefixPair) => boolean = () => false): void {
    for (const pair of this.#unsettled) {
      if (pair.state !== "COMING" || pair.since > version || !pair.isWanted || isHeld(pair)) continue;
      // One identity, two prefixes: the other one goes first.
      if (this.cover.ofIdentity(pair.identity).size > 1) continue;
      for (const other of this.cover.of(pair.prefix)) {
        if (other.state === "GIVEN" || other.state === "THERE") other.state = "TAKEN";
      }
      pair.state = "GIVEN";
      pair.mayBeThere = true;
      this.#parts.onIpcache(pair.prefix.text, pair.identity);
    }
    this.look();
  }

  /**
   * The kernel has what it was to be told.
   * @param left but for these prefixes: they found no room, or have it no more; undefined: some, and which is not known
   */
  told(left: ReadonlySet<string> | undefined): void {
    let isNews = false;
    for (const text of left ?? []) {
      const prefix = Prefix.tryParse(text);
      for (const pair of prefix ? this.cover.of(prefix) : []) {
        if (pair.state !== "THERE") continue;
        // Policies go on to cover it: it comes back as soon as there is room.
        pair.state = "GIVEN";
        this.#unsettled.add(pair);
      }
    }
    for (const pair of this.#unsettled) {
      if (pair.state === "TAKEN") pair.state = "GONE";
      if (pair.state === "GONE" || pair.state === "COMING") pair.mayBeThere = false;
      if (pair.state !== "GIVEN" || left === undefined || left.has(pair.prefix.text)) continue;
      pair.state = "THERE";
      isNews = true;
      if (pair.isWanted) this.#unsettled.delete(pair);
    }
    this.look();
    if (isNews) this.#parts.onThere();
  }

  /** Policies have changed: prefixes that none of them knows any more may go. */
  look(): void {
    let isLess = false;
    for (const pair of this.#unsettled) {
      const { prefix, identity } = pair;
      if (pair.isWanted && pair.state !== "TAKEN" && pair.state !== "GONE") {
        if (pair.state === "THERE") this.#unsettled.delete(pair);
        continue;
      }
      // An identity that is another prefix's now cannot wait for policies that mean this one.
      const isOthers = this.cover.ofIdentity(identity).size > 1;
      if (pair.state !== "COMING" && this.#parts.isKnown(identity) && !isOthers) continue;
      // Addresses of names leave it before.
      if (this.#parts.names?.isBase(pair)) continue;
      if (pair.state === "GIVEN" || pair.state === "THERE") {
        if (!this.#parts.isSynced()) continue;
        pair.state = "TAKEN";
        this.#parts.onIpcache(prefix.text, undefined);
      } else if (pair.state !== "TAKEN") {
        this.#drop(pair);
        isLess = true;
      }
    }
    if (isLess) this.#parts.onCover();
  }

  #want(prefix: Prefix, identity: number): void {
    const pair = this.cover.get(prefix, identity);
    // Half gone: it comes anew, once policies cover it again.
    if (pair?.state === "TAKEN" || pair?.state === "GONE") {
      pair.state = "COMING";
    } else if (!pair) this.#add(prefix, identity, "COMING");
    this.look();
  }

  #add(prefix: Prefix, identity: number, state: State): OrderedPair {
    const pair: OrderedPair = {
      prefix,
      identity,
      state,
      since: this.cover.version + 1,
      isWanted: state === "COMING",
      mayBeThere: state !== "COMING",
    };
    this.cover.add(pair);
    this.#unsettled.add(pair);
    return pair;
  }

  #drop(pair: OrderedPair): void {
    this.#unsettled.delete(pair);
    this.cover.delete(pair);
  }

  #noteUnreadable(name: string, cidr: CidrIdentity | undefined): void {
    if (cidr) this.#unreadable.set(name, cidr.identity);
    else this.#unreadable.delete(name);
    this.#parts.onThere();
  }
}
