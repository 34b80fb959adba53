/**
 * The map states of the identities that this node hosts, and the policies that the datapath has of them, each with copies for the
 * prefixes that it does not know (`prefix_order.ts` has why).
 *
 * Not knowing a policy is never "no policy": a map state that is not there (yet, or any more) changes nothing, and one
 * with which a policy engine that came back older would stop enforcing a direction waits for a grace, in which the policies
 * can be applied again.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { type Clock, isKnownPage, type Position, ProblemError } from "@weir/common";
import type { MapState } from "@weir/proto/policy";
import type { Init } from "@weir/proto";
import type { DatapathPolicy } from "@weir/proto/datapath";
import { HOLD_MS } from "./held_rows.ts";
import type { Peer } from "./peer.ts";
import type { FqdnIdentity, NameSelector } from "./names/fqdn_identities.ts";
import type { NameOrder } from "./names/name_order.ts";
import { selectorKey } from "./names/name_selectors.ts";
import { type Covered, type CoveredParts, KnowingPolicy, PolicyCopies } from "./policy_cover.ts";
import { judgedParts, policyName, type PolicyVariant, resolvePolicy } from "./policy_variant.ts";
import type { PrefixOrder } from "./prefix_order.ts";
import type { PrefixPair } from "./prefix_pairs.ts";
import type { ProxyReconciler } from "./proxy_reconciler.ts";
import type { Datapath, NamedMirror, PolicySource } from "./sources.ts";

/** Name of the policy of an endpoint that is not known yet: it passes nothing. */
export const CLOSED_POLICY = "closed";

/** What {@link PolicyReconciler} is made of. */
export interface PolicyReconcilerParts {
  source: PolicySource;
  enginePeer: Peer;
  datapath: Datapath;
  datapathPeer: Peer;
  /** Has the L7 rules before the datapath sends it connections. */
  proxy: Pick<ProxyReconciler, "concerns" | "givePolicy">;
  /** Which process of the datapath is told; undefined before it was heard. */
  process: () => string | undefined;
  clock: Clock;
  holdMs?: number;
  /** The prefixes that the kernel has and is to have. */
  prefixes: PrefixOrder;
  /** The addresses of names that the kernel has and is to have. */
  names: Pick<NameOrder, "identities" | "selectors" | "isComing" | "misses" | "mayBeThere">;
  /** The map state of an identity has changed. */
  onChange: (identity: number) => void;
  /** Pages of known identities to follow beside. */
  pages: () => ReadonlySet<string>;
  /** A page was told; undefined: it is not there. */
  onPage: (name: string, identities: readonly number[] | undefined) => void;
  /** Everything up to here was told. */
  onPosition: (position: Position) => void;
}

/** A policy in the datapath. */
interface Given {
  /** What was given last. */
  made: KnowingPolicy;
  copies: PolicyCopies;
  /** What the kernel may have instead, because giving it did not end well, or has not ended yet. */
  before: KnowingPolicy[];
  /** Why it covers only prefixes that the kernel may have, and none that is to come; undefined: it covers all. */
  full?: ProblemError;
  /** The process of the datapath that runs now has it. */
  isThere: boolean;
}

/** Which prefixes all policies in the kernel cover. */
export interface PolicyCover {
  /** They cover those of this version of the prefixes, */
  readonly version: number;
  /** but for those that a policy without room for their copies would judge otherwise with than without. */
  readonly isHeld: (pair: PrefixPair) => boolean;
  /** Why that policy has none; undefined: there is none of the kind. */
  readonly failure: Error | undefined;
}

/** Follows map states and gives policies. */
export class PolicyReconciler implements Disposable {
  readonly #parts: PolicyReconcilerParts;
  readonly #mirror: NamedMirror<MapState>;
  /** Policies that the kernel has, by name. */
  readonly #given = new Map<string, Given>();
  /** Policies that endpoints in the kernel may have until they are given again, because the datapath is there anew. */
  readonly #unbound: KnowingPolicy[] = [];
  /** How many policies in the kernel know an identity of a prefix. */
  readonly #known = new Map<number, number>();
  /** The same of policies that were found, which know the same identities. */
  readonly #foundCounts = new Map<ReadonlySet<number>, number>();
  /** Map states that a less strict and older one does not replace yet, by identity. */
  readonly #held = new Map<number, { state: MapState; untilMs: number }>();
  /** Policies of map states, by name; a map state is one object as long as it does not change. */
  readonly #made = new WeakMap<MapState, Map<string, KnowingPolicy>>();
  readonly #stop = new AbortController();

  constructor(parts: PolicyReconcilerParts) {
    this.#parts = parts;
    this.#mirror = parts.enginePeer.follow(parts.source.mapStates({
      onChange: (name, value, previous) =>
        isKnownPage(name)
          ? parts.onPage(name, value?.knownIdentities)
          : this.#change(Number(name), value, previous),
      onSynced: () => {},
      onPosition: parts.onPosition,
    }));
  }

  get synced(): boolean {
    return this.#mirror.synced;
  }
  /** What keeps map states from being fresh. */
  get error(): Error | undefined {
    return this.#mirror.error;
  }
  get position(): Position | undefined {
    return this.#mirror.position;
  }
  get lastHeardMs(): number {
    return this.#mirror.lastHeardMs;
  }

  /** Follows these identities from now on. */
  follow(identities: ReadonlySet<number>): void {
    const numbers = [...identities].filter((number) => number !== 0);
    this.#mirror.setNames(new Set([...numbers.map(String), ...this.#parts.pages()]));
    for (const identity of this.#held.keys()) if (!identities.has(identity)) this.#held.delete(identity);
  }

  /** Whether what there is of a page was told. */
  isTold(page: string): boolean {
    return this.#mirror.knows(page);
  }

  /** The map state to apply; undefined while it is not known. */
  mapState(identity: number): MapState | undefined {
    return this.#held.get(identity)?.state ?? this.#mirror.get(`${identity}`);
  }

  /** Until when the newest map state waits, because it comes from an engine that is older than what is in force. */
  heldUntilMs(identity: number): number | undefined {
    return this.#held.get(identity)?.untilMs;
  }

  /** The datapath is there anew; the kernel has what it had. */
  forget(): void {
    for (const given of this.#given.values()) {
      given.isThere = false;
      given.copies.forget();
      for (const made of [given.made, ...given.before]) {
        this.#unbound.push(made);
        this.#count(made, 1);
      }
    }
  }

  /** True while endpoints in the kernel may have policies of before the datapath was there anew. */
  get isUnbound(): boolean {
    return this.#unbound.length > 0;
  }

  /** Every endpoint was given again. */
  bound(): void {
    for (const made of this.#unbound.splice(0)) this.#count(made, -1);
    this.#parts.prefixes.look();
  }

  /**
   * Policies that an earlier process left, where they cover these identities of prefixes.
   * @param isThere the process of the datapath that runs now has them
   */
  adopt(policies: readonly DatapathPolicy[], identities: ReadonlySet<number>, isThere: boolean): void {
    for (const { status: _, ...policy } of policies) {
      const made = KnowingPolicy.found(policy, identities, this.#parts.names.selectors.list());
      const copies = new PolicyCopies(made, this.#covered);
      copies.update();
      const isSame = copies.adopt();
      this.#given.set(policy.name, { made, copies, before: [], isThere: isThere && isSame });
      this.#count(made, 1);
      if (isThere) continue;
      // Endpoints have it as it was until they are given again.
      this.#unbound.push(made);
      this.#count(made, 1);
    }
  }

  /** Names of policies that an earlier process left and this one has not given yet. */
  foundNames(): string[] {
    return [...this.#given].filter(([name, { made }]) => made.isFound && name !== CLOSED_POLICY)
      .map(([name]) => name);
  }

  /** Whether a policy that the kernel may have knows the identity of a prefix. */
  isKnown(identity: number): boolean {
    if (this.#known.has(identity)) return true;
    for (const identities of this.#foundCounts.keys()) if (identities.has(identity)) return true;
    return false;
  }

  /**
   * Identity of a prefix that the kernel does not have, or of a selector of names whose addresses it does not have, and that the map
   * state was made with: it waits. Undefined: it may be applied.
   */
  missing(mapState: MapState, variant: PolicyVariant): number | undefined {
    if (this.#given.get(policyName(mapState, variant))?.made.state === mapState) return undefined;
    for (const identity of this.#make(mapState, variant).needed) {
      if (!this.#parts.prefixes.has(identity)) return identity;
    }
    const { fqdnSelectors } = mapState;
    if (this.#parts.names.misses(fqdnSelectors)) return fqdnSelectors[0].identity;
  }

  /** Whether a policy that the kernel may have, or a map state that is to come, has the selector. */
  isMeant(selector: NameSelector): boolean {
    const key = selectorKey(selector);
    for (const { made, before } of this.#given.values()) {
      if ([made, ...before].some(({ selectors }) => selectors.has(key))) return true;
    }
    if (this.#unbound.some(({ selectors }) => selectors.has(key))) return true;
    const coming = [...this.#mirror.values(), ...Array.from(this.#held.values(), ({ state }) => state)];
    return coming.some(({ fqdnSelectors }) => fqdnSelectors.some((other) => selectorKey(other) === key));
  }

  /** Whether every policy in the kernel says of these addresses what it is to say. */
  isCovered(fqdn: FqdnIdentity): boolean {
    if (this.isUnbound) return false;
    for (const { copies, before } of this.#given.values()) {
      if (before.length > 0 || !copies.isWrittenFor(fqdn)) return false;
    }
    return true;
  }

  /**
   * Gives the datapath the policy of an endpoint, unless it has it. To be asked only if nothing is {@link missing}.
   * @throws {Error} with the identity and what is wrong
   */
  async apply(mapState: MapState, variant: PolicyVariant): Promise<void> {
    const name = policyName(mapState, variant), given = this.#given.get(name);
    if (given?.made.state === mapState) return await this.#give(name, given.made);
    const made = this.#make(mapState, variant);
    const isSame = given && isDeepStrictEqual(given.made.policy, made.policy) &&
      isDeepStrictEqual(given.made.needed, made.needed);
    await this.#give(name, isSame && given.made.state ? given.made : made);
  }

  /** Whether the kernel has a policy of this name. */
  has(name: string): boolean {
    return this.#given.has(name);
  }

  /** Gives the datapath what it had; false when that is not known. */
  async again(name: string): Promise<boolean> {
    const given = this.#given.get(name);
    if (given) await this.#give(name, given.made);
    return given !== undefined;
  }

  /** Gives the datapath the policy that passes nothing, unless it has it. */
  async applyClosed(): Promise<void> {
    await this.#give(CLOSED_POLICY, this.#given.get(CLOSED_POLICY)?.made ?? CLOSED);
  }

  /**
   * Makes every policy cover the prefixes and names that are to come and those that go; one that was found and that the datapath does not
   * have by name only where some are to come. One that cannot be given does not keep the others.
   * @throws {Error} the first that failed, but for those that have no room
   */
  async cover(): Promise<PolicyCover> {
    const { version } = this.#parts.prefixes.cover;
    const full: Given[] = [];
    let first: unknown, failure: ProblemError | undefined;
    for (const [name, { made, isThere }] of [...this.#given]) {
      if (made.isFound && !isThere && !this.#parts.prefixes.isComing && !this.#parts.names.isComing) continue;
      let noRoom: ProblemError | undefined;
      try {
        await this.#give(name, made);
        noRoom = this.#given.get(name)?.full;
      } catch (error) {
        if (isUnwritten(error)) noRoom = error;
        else first ??= error;
        if (this.#parts.datapathPeer.state !== "OK") break;
      }
      if (noRoom === undefined) continue;
      full.push(this.#given.get(name)!);
      failure ??= noRoom;
    }
    if (first) throw first;
    // What else the kernel may have of it has other copies.
    const lacks = ({ copies, before }: Given, pair: PrefixPair) =>
      before.length > 0 || !copies.isWrittenFor(pair);
    return { version, isHeld: (pair) => full.some((given) => lacks(given, pair)), failure };
  }

  /** Takes back the policies that nobody uses. */
  async keepOnly(policies: ReadonlySet<string>): Promise<void> {
    const { datapath, datapathPeer, prefixes } = this.#parts;
    for (const name of [...this.#given.keys()]) {
      if (policies.has(name)) continue;
      await datapathPeer.call(`delete policy ${name}`, () => datapath.deletePolicy(name));
      this.#forgetGiven(name);
      prefixes.look();
    }
  }

  get #covered(): CoveredParts {
    return { prefixes: this.#parts.prefixes.cover, names: this.#parts.names.identities };
  }

  #mayBeThere(covered: Covered): boolean {
    const { prefixes, names } = this.#parts;
    return "base" in covered ? names.mayBeThere(covered) : prefixes.mayBeThere(covered);
  }

  #forgetGiven(name: string): void {
    const given = this.#given.get(name);
    if (!given) return;
    this.#given.delete(name);
    for (const made of [given.made, ...given.before]) this.#count(made, -1);
  }

  /** One more or one less of a policy is in the kernel. */
  #count(made: KnowingPolicy, by: 1 | -1): void {
    if (made.isFound) {
      const { needed } = made, count = (this.#foundCounts.get(needed) ?? 0) + by;
      if (count > 0) this.#foundCounts.set(needed, count);
      else this.#foundCounts.delete(needed);
      return;
    }
    for (const identity of made.needed) {
      const count = (this.#known.get(identity) ?? 0) + by;
      if (count > 0) this.#known.set(identity, count);
      else this.#known.delete(identity);
    }
  }

  #make(mapState: MapState, variant: PolicyVariant): KnowingPolicy {
    let made = this.#made.get(mapState);
    if (!made) this.#made.set(mapState, made = new Map());
    const name = policyName(mapState, variant);
    let policy = made.get(name);
    if (!policy) {
      made.set(
        name,
        policy = KnowingPolicy.of(
          resolvePolicy(mapState, variant),
          mapState,
          judgedParts(mapState, variant),
        ),
      );
    }
    return policy;
  }

  async #give(name: string, made: KnowingPolicy): Promise<void> {
    const { datapath, datapathPeer, prefixes, process } = this.#parts;
    const had = this.#given.get(name), isNew = had?.made !== made;
    const copies = had && !isNew ? had.copies : new PolicyCopies(made, this.#covered);
    const isOther = copies.update();
    if (had && !isNew && had.isThere && !isOther && !had.full) return;
    if (had && !isNew) had.isThere = false;
    const judged = copies.judged();
    if (judged && this.#parts.proxy.concerns(judged)) {
      await this.#parts.proxy.givePolicy(judged).catch((error) => {
        // Nothing comes to the proxy by a policy that redirects nothing; connections that are there already go on once it has it.
        if (made.policy.entries?.some(({ ruleSet }) => ruleSet)) throw error;
      });
    }
    // From here on the kernel may have either.
    const before = had ? [...had.before, ...isNew ? [had.made] : []] : [];
    const given: Given = { made, copies, before, isThere: false };
    this.#given.set(name, given);
    if (isNew) this.#count(made, 1);
    const put = async (covered: Init<DatapathPolicy>) => {
      const { status } = await datapathPeer.call(
        `apply policy ${name}`,
        () => datapath.putPolicy({ ...covered, process: process() }),
      );
      if (status?.error) throw new Error(`Cannot apply policy ${name}: ${status.error.error}`);
    };
    try {
      await copies.write(put, isUnwritten).catch(async (error) => {
        if (!isUnwritten(error)) throw error;
        // What is to come waits; what there is it may judge.
        await copies.write(put, isUnwritten, (covered) => this.#mayBeThere(covered));
        given.full = error;
      });
    } catch (error) {
      // Nothing was written: what was there goes on, and covers what is to come if that has room.
      if (isNew && isUnwritten(error)) {
        this.#count(made, -1);
        if (had) this.#given.set(name, had);
        else this.#given.delete(name);
      }
      throw error;
    }
    for (const old of before) this.#count(old, -1);
    given.before = [];
    given.isThere = true;
    prefixes.look();
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
    this.#mirror[Symbol.dispose]();
  }

  #change(identity: number, value: MapState | undefined, previous: MapState | undefined): void {
    const held = this.#held.get(identity);
    const inForce = held?.state ?? previous;
    if (value && inForce && isOlderAndOpener(value, inForce)) {
      if (!held) this.#hold(identity, inForce);
      return this.#parts.onChange(identity);
    }
    // A map state that is gone says nothing: what is held stays held.
    if (value) this.#held.delete(identity);
    this.#parts.onChange(identity);
  }

  #hold(identity: number, state: MapState): void {
    const { clock, holdMs = HOLD_MS } = this.#parts;
    const row = { state, untilMs: clock.nowMs() + holdMs };
    this.#held.set(identity, row);
    void clock.sleep(holdMs, this.#stop.signal).then(() => {
      if (this.#stop.signal.aborted || this.#held.get(identity) !== row) return;
      this.#held.delete(identity);
      this.#parts.onChange(identity);
    });
  }
}

/** Codes of a datapath that has no room for a policy and has left the one before as it was. */
const UNWRITTEN = new Set(["POLICY_MAP_FULL", "POLICY_SLOTS_FULL"]);

function isUnwritten(error: unknown): error is ProblemError {
  return error instanceof ProblemError && UNWRITTEN.has(error.code);
}

const CLOSED_PARTS: Init<DatapathPolicy> = {
  name: CLOSED_POLICY,
  enforceIngress: true,
  enforceEgress: true,
  entries: [],
};
const CLOSED = KnowingPolicy.found(CLOSED_PARTS, new Set());

/** True for what a policy engine says that has lost policies: an older revision that stops enforcing a direction. */
function isOlderAndOpener(value: MapState, before: MapState): boolean {
  return value.policyRevision < before.policyRevision &&
    ((before.enforceIngress && !value.enforceIngress) || (before.enforceEgress && !value.enforceEgress));
}
