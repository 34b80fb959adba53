/**
 * The order in which addresses of names reach the kernel. Which identity one has follows from the selectors that mean its names and from
 * the longest prefix of policies around it; what policies say of that identity is `policy_cover.ts`'s.
 *
 *     names of an address, selectors, prefixes ─▶ its identity ─▶ every policy covers that ─▶ ipcache ─▶ acknowledged
 *     nothing means it any more                ─▶ ipcache: what is around it
 *
 * Why it holds. Kept at any moment: an address that the ipcache places under a name's identity (base, selectors) is judged by each policy
 * as that policy judges base, and by what it says of those of the selectors that it has itself. So an address may move between
 * identities at any time; but before a policy that knows a prefix comes, the addresses inside it have moved there (`isBased`), and before a
 * prefix goes, they have left it (`isBase`): `prefix_order.ts` asks both. A policy that has selectors comes when the addresses that
 * they mean are in (`misses`), so that what it allows by name instead of by prefix passes all along. A prefix of one address is hidden in
 * the ipcache by the address's own identity, and is there all the same: no address moves onto one that not every policy covers yet, so
 * a process that starts anew may take each that it reads out of identities in the ipcache (`NodeNames.hidden`) as any other that it finds.
 *
 * An address that finds no room in a policy or in the ipcache stays what it was; who asked for it is told.
 *
 * @module
 */
import { IpAddress, Prefix } from "@weir/common";
import type { OrderedPair, PrefixOrder } from "../prefix_order.ts";
import {
  FqdnIdentities,
  type FqdnIdentity,
  isSameBase,
  type NameSelector,
  WORLDS,
} from "./fqdn_identities.ts";
import { NameSelectors, selectorKey } from "./name_selectors.ts";
import type { NameTable } from "./name_table.ts";

/** What {@link NameOrder} is made of. */
export interface NameOrderParts {
  table: () => NameTable;
  prefixes: Pick<PrefixOrder, "cover" | "look">;
  /** Whether every policy in the kernel says of the identity what it is to say. */
  isCovered: (fqdn: FqdnIdentity) => boolean;
  /** Whether a policy that the kernel may have, or one that is to come, has entries of the selector. */
  isMeant: (selector: NameSelector) => boolean;
  /** Whether a policy that the kernel may have knows the identity of a prefix. */
  isKnown: (identity: number) => boolean;
  /** Policies are to cover others. `isUrgent`: somebody waits. */
  onCover: (isUrgent: boolean) => void;
  /** The ipcache is to have the address with this identity, or (undefined) without one of its own. */
  onIpcache: (prefix: string, identity: number | undefined) => void;
  /** The ipcache is to be told. */
  onTell: (isUrgent: boolean) => void;
  /** The kernel has addresses that policies may wait for. */
  onThere: () => void;
  /** A selector counts from now on. To be kept. */
  onSelector: (selector: NameSelector) => void;
  /** An identity was made. To be kept. */
  onIdentity: (fqdn: FqdnIdentity) => void;
  /** What is shown of an identity has changed, or it is gone. */
  onShown: (fqdn: FqdnIdentity, isThere: boolean) => void;
  /** The kernel has another identity for an address. */
  onMoved: (address: string) => void;
  nowMs: () => number;
}

/** An address that has, or is to have, an identity by its names. */
interface NamedAddress {
  readonly text: string;
  readonly prefix: Prefix;
  /** What it is to be; undefined: what is around it. */
  target?: FqdnIdentity;
  /** What the ipcache is to have of it. */
  set?: FqdnIdentity;
  /** What the kernel has. */
  told?: FqdnIdentity;
  /** Why that is not what it is to be. */
  failure?: Error;
}

/** How long an identity that nothing uses stays: names come back. */
const UNUSED_MS = 60_000;

/** Lets addresses of names in and out. */
export class NameOrder {
  readonly identities = new FqdnIdentities();
  readonly selectors = new NameSelectors();
  readonly #parts: NameOrderParts;
  readonly #addresses = new Map<string, NamedAddress>();
  /** To be looked at. */
  readonly #dirty = new Set<string>();
  #areBasesDirty = false;
  #isDue = false;
  #hasBegun = false;
  /** Those that are not what they are to be. */
  readonly #pending = new Set<NamedAddress>();
  #waiters = new Set<() => void>();
  #last: { base: FqdnIdentity["base"]; selectors: readonly NameSelector[]; target: FqdnIdentity } | undefined;

  constructor(parts: NameOrderParts) {
    this.#parts = parts;
  }

  /** True while addresses wait for policies to cover their identities. */
  get isComing(): boolean {
    for (const { target, set } of this.#pending) if (target && target !== set) return true;
    return false;
  }
  /** Addresses that are not what they are to be. */
  get pending(): number {
    return this.#pending.size;
  }

  /** What the kernel has for an address by its names. */
  identityOf(address: string): FqdnIdentity | undefined {
    return this.#addresses.get(address)?.told;
  }
  /** Whether the kernel may have an address under this identity. */
  mayBeThere({ identity }: FqdnIdentity): boolean {
    const fqdn = this.identities.get(identity);
    return fqdn !== undefined && fqdn.placed > 0;
  }

  /** Names of an address have changed. */
  look(address: string): void {
    this.#dirty.add(address);
    this.#later();
  }

  /** A prefix of policies has come, has changed or goes. */
  onPrefix(): void {
    if (this.#addresses.size === 0) return;
    this.#areBasesDirty = true;
    this.#later();
  }

  /** Whether the kernel may have no address inside a prefix that is to be based on another one: policies that know it may come. */
  isBased({ prefix }: OrderedPair): boolean {
    this.flush();
    for (const { told, set, target, prefix: own } of this.#pending) {
      const isElsewhere = [told, set].some((has) => has && !isSameBase(has.base, target?.base));
      if (isElsewhere && prefix.contains(own)) return false;
    }
    return true;
  }

  /** Whether the kernel may have an address that is based on this prefix, which goes: those leave now. */
  isBase(pair: OrderedPair): boolean {
    let isUsed = false;
    for (const fqdn of this.identities) if (fqdn.uses > 0 && isSameBase(fqdn.base, pair)) isUsed = true;
    if (!isUsed) return false;
    this.onPrefix();
    return true;
  }

  /**
   * Whether a policy with these selectors is to wait: addresses that they mean are not in. From now on they count. One that found no
   * room holds up nobody.
   */
  misses(selectors: readonly NameSelector[]): boolean {
    if (selectors.length === 0) return false;
    for (const selector of selectors) this.#count(selector);
    this.flush();
    for (const { target, failure } of this.#pending) {
      if (failure || !target) continue;
      if (target.selectors.some((own) => selectors.some((s) => selectorKey(s) === selectorKey(own)))) {
        return true;
      }
    }
    return false;
  }

  /** What an earlier process left is known: from now on the kernel may be changed. */
  begin(): void {
    this.#hasBegun = true;
    this.flush();
  }

  /** The kernel has an address under an identity of before. False: nobody knows what that stands for. */
  adopt(prefixText: string, identity: number): boolean {
    const fqdn = this.identities.get(identity), prefix = Prefix.tryParse(prefixText);
    if (!prefix) return false;
    if (!fqdn) {
      this.identities.reserve(identity);
      return false;
    }
    const address = this.#make(prefix.address);
    this.#assign(address, { set: fqdn, told: fqdn });
    this.#parts.onIpcache(prefix.text, identity);
    this.look(address.text);
    return true;
  }

  /** Looks at what has changed, now. */
  flush(): void {
    this.#isDue = false;
    if (!this.#hasBegun) return;
    if (this.#areBasesDirty) {
      this.#areBasesDirty = false;
      for (const text of this.#addresses.keys()) this.#dirty.add(text);
    }
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const text of dirty) this.#resolve(text);
    if (dirty.length > 0) this.advance();
  }

  /** Policies may cover more: addresses whose identities are covered go into the ipcache. */
  advance(isUrgent = false): void {
    const covered = new Map<FqdnIdentity, boolean>();
    let isNews = false, isUncovered = false;
    for (const address of this.#pending) {
      const { target, set, failure } = address;
      if (target === set) {
        // It found no room, and may now.
        if (isUrgent && failure && set) this.#parts.onIpcache(address.prefix.text, set.identity);
        continue;
      }
      if (target) {
        if (this.#isHiding(address, target)) {
          isUncovered = true;
          continue;
        }
        let is = covered.get(target);
        if (is === undefined) covered.set(target, is = this.#parts.isCovered(target));
        if (!is) {
          isUncovered = true;
          continue;
        }
      }
      this.#assign(address, { set: target });
      this.#parts.onIpcache(address.prefix.text, target?.identity);
      isNews = true;
    }
    if (isUncovered) this.#parts.onCover(isUrgent);
    if (isNews || (isUrgent && this.#pending.size > 0)) this.#parts.onTell(isUrgent);
  }

  /**
   * The kernel has what it was to be told.
   * @param left but for these prefixes, which found no room; undefined: some did not, and which is not known
   */
  told(left: ReadonlySet<string> | undefined): void {
    let isNews = false;
    for (const address of [...this.#pending]) {
      const { set, target, told, prefix } = address;
      if (set !== undefined && (left === undefined || left.has(prefix.text))) {
        if (told !== undefined) this.#assign(address, { told: undefined });
        address.failure = new Error(`The ipcache has no room for ${prefix.text}`);
        isNews = true;
        continue;
      }
      if (told !== set) {
        this.#assign(address, { told: set });
        isNews = true;
      }
      if (set !== target) continue;
      address.failure = undefined;
      this.#pending.delete(address);
      this.#tidy(address);
    }
    for (const text of left ?? []) {
      const address = this.#addresses.get(text.slice(0, text.lastIndexOf("/")));
      if (!address || address.told === undefined || this.#pending.has(address)) continue;
      // It comes back as soon as there is room.
      this.#assign(address, { told: undefined });
      this.#pending.add(address);
    }
    this.#wake();
    if (!isNews) return;
    this.#parts.prefixes.look();
    this.#parts.onThere();
  }

  /** Policies could not be given, or the ipcache not be told: who waits for that hears of it. */
  fail(what: "policies" | "ipcache", error: Error): void {
    for (const address of this.#pending) {
      if ((address.target === address.set) === (what === "ipcache")) address.failure = error;
    }
    this.#wake();
  }

  /**
   * Resolves when these addresses are what they are to be. @throws {Error} why some are not; the reason of `signal`
   */
  async settled(addresses: Iterable<string>, signal: AbortSignal): Promise<void> {
    const waited = new Set<NamedAddress>();
    this.flush();
    for (const text of addresses) {
      const address = this.#addresses.get(text);
      if (address && this.#pending.has(address)) waited.add(address);
    }
    if (waited.size === 0) return;
    this.advance(true);
    for (const address of waited) address.failure = undefined;
    while (true) {
      for (const address of waited) {
        if (!this.#pending.has(address)) waited.delete(address);
        else if (address.failure) throw address.failure;
      }
      if (waited.size === 0) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiters.add(resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
      if (signal.aborted) resolve();
      await promise;
      this.#waiters.delete(resolve);
      signal.throwIfAborted();
    }
  }

  /** Selectors that no policy has any more do not count, identities that nothing uses go. */
  tidy(): void {
    for (const selector of this.selectors.list()) {
      if (this.#parts.isMeant(selector)) continue;
      const matches = this.selectors.delete(selector);
      if (matches) this.#lookAtMatches(matches);
    }
    const nowMs = this.#parts.nowMs();
    let isLess = false;
    for (const fqdn of [...this.identities]) {
      if (fqdn.uses > 0 || nowMs - (fqdn.unusedSinceMs ??= nowMs) < UNUSED_MS) continue;
      this.identities.delete(fqdn);
      this.#parts.onShown(fqdn, false);
      isLess = true;
    }
    if (isLess) this.#parts.onCover(false);
  }

  #count(selector: NameSelector): void {
    if (this.selectors.has(selector)) return;
    const { identity, name } = selector;
    this.#lookAtMatches(this.selectors.add({ identity, name }));
    this.#parts.onSelector({ identity, name });
  }

  #lookAtMatches(matches: (name: string) => boolean): void {
    const table = this.#parts.table();
    for (const query of table.queries()) {
      if (!matches(query)) continue;
      for (const address of table.addressesOf(query)) this.look(address);
    }
  }

  #later(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      if (this.#isDue) this.flush();
    });
  }

  #resolve(text: string): void {
    const selectors = this.#selectorsOf(text);
    let address = this.#addresses.get(text);
    if (selectors.length === 0 && !address) return;
    address ??= this.#make(IpAddress.parse(text));
    const before = address.target;
    let target: FqdnIdentity | undefined;
    if (selectors.length > 0) {
      const base = this.#baseOf(address.prefix), size = this.identities.size;
      target = this.#lastOf(base, selectors) ?? this.identities.of(base, selectors);
      if (target) this.#last = { base, selectors, target };
      if (!target) {
        address.failure = new Error(`There are ${size} identities of names, as many as there may be`);
      } else if (this.identities.size !== size) this.#parts.onIdentity(target);
    }
    this.#assign(address, { target });
    const isSettled = address.told === target && address.set === target;
    if (!isSettled) this.#pending.add(address);
    else if (before !== target || !target) {
      this.#pending.delete(address);
      this.#tidy(address);
    }
  }

  /** Those that mean a name of an address; of addresses with one and the same name, one and the same list. */
  #selectorsOf(text: string): readonly NameSelector[] {
    const [first, ...others] = this.#parts.table().queriesOf(text);
    if (first === undefined) return [];
    if (others.length === 0) return this.selectors.of(first);
    const all = new Map<string, NameSelector>();
    for (const query of [first, ...others]) {
      for (const selector of this.selectors.of(query)) all.set(selectorKey(selector), selector);
    }
    return [...all.values()];
  }

  /** What was found for the address before this one, if it had the same: of one name there may be thousands. */
  #lastOf(base: FqdnIdentity["base"], selectors: readonly NameSelector[]): FqdnIdentity | undefined {
    const last = this.#last;
    if (last?.base !== base || last.selectors !== selectors) return undefined;
    return this.identities.get(last.target.identity) === last.target ? last.target : undefined;
  }

  /** Whether an address with this identity would hide a prefix that not every policy covers yet. */
  #isHiding({ prefix }: NamedAddress, { base }: FqdnIdentity): boolean {
    const { cover } = this.#parts.prefixes;
    if (base.prefix.text !== prefix.text || cover.get(prefix, base.identity)?.state !== "COMING") {
      return false;
    }
    // One that comes when its identity's other prefix is gone may wait for this address to leave that one's place.
    return cover.ofIdentity(base.identity).size === 1;
  }

  /** The longest prefix around an address that policies mean or are to mean, else the world. */
  #baseOf(prefix: Prefix): FqdnIdentity["base"] {
    const { cover } = this.#parts.prefixes;
    let base: FqdnIdentity["base"] = WORLDS[prefix.family];
    for (const pair of cover.around(prefix)) {
      const isOthers = cover.ofIdentity(pair.identity).size > 1;
      if (pair.isWanted || (!isOthers && pair.state !== "COMING" && this.#parts.isKnown(pair.identity))) {
        base = pair;
      }
    }
    return base;
  }

  #make(address: IpAddress): NamedAddress {
    let made = this.#addresses.get(address.text);
    if (!made) this.#addresses.set(address.text, made = { text: address.text, prefix: Prefix.host(address) });
    return made;
  }

  #assign(address: NamedAddress, change: Partial<Pick<NamedAddress, "target" | "set" | "told">>): void {
    for (const key of ["target", "set", "told"] as const) {
      if (!(key in change) || address[key] === change[key]) continue;
      const before = address[key], after = change[key];
      address[key] = after;
      if (before && --before.uses === 0) before.unusedSinceMs = this.#parts.nowMs();
      if (after) {
        after.uses++;
        after.unusedSinceMs = undefined;
      }
      if (key === "target") continue;
      if (before) before.placed--;
      if (after) after.placed++;
      if (key === "set") continue;
      if (before) before.addresses--;
      if (after) after.addresses++;
      for (const fqdn of [before, after]) if (fqdn) this.#parts.onShown(fqdn, true);
      this.#parts.onMoved(address.text);
    }
  }

  #tidy(address: NamedAddress): void {
    const { target, set, told } = address;
    if (!target && !set && !told && !this.#pending.has(address)) this.#addresses.delete(address.text);
  }

  #wake(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}
