/**
 * Identities that addresses have because of their names. One stands for a prefix of policies (or the world) and the selectors that
 * mean one of the address's names; whoever has the same of both has the same identity, however many addresses that are. Pure.
 *
 *     192.0.2.1   www.example.com                    ─▶ 10.0.0.0/8 or world, and the selectors that mean
 *                 api.example.com                       www.example.com or api.example.com         ─▶ 0x02000001
 *
 * @module
 */
import {
  IDENTITY_FQDN_MAX,
  IDENTITY_FQDN_MIN,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  Prefix,
} from "@weir/common";
import type { PrefixPair } from "../prefix_pairs.ts";

/** A selector of names and its number. */
export interface NameSelector {
  readonly identity: number;
  /** Canonical text: `matchName:www.example.com`, `matchPattern:*.example.com`. */
  readonly name: string;
}

/** What stands for addresses. */
export interface FqdnIdentity {
  readonly identity: number;
  readonly base: PrefixPair;
  /** By their numbers. At least one. */
  readonly selectors: readonly NameSelector[];
  /** How often it is what an address is to be, is being made or is. */
  uses: number;
  /** How often it is what the ipcache is to have of an address, or what the kernel has. */
  placed: number;
  /** Addresses that the kernel has under it. */
  addresses: number;
  /** Since when nothing uses it, milliseconds; undefined while something does. */
  unusedSinceMs?: number;
}

/** The world around every prefix of a family. */
export const WORLDS: Readonly<Record<4 | 6, PrefixPair>> = {
  4: { prefix: Prefix.parse("0.0.0.0/0"), identity: IDENTITY_WORLD_IPV4 },
  6: { prefix: Prefix.parse("::/0"), identity: IDENTITY_WORLD_IPV6 },
};

/** Whether two are one prefix with one identity. */
export function isSameBase(a: PrefixPair | undefined, b: PrefixPair | undefined): boolean {
  return a === b || (a?.identity === b?.identity && a?.prefix.text === b?.prefix.text);
}

/** Identities that there may be at once. */
export const FQDN_IDENTITIES_MAX = 16_384;

/** The identities that there are. */
export class FqdnIdentities implements Iterable<FqdnIdentity> {
  readonly #byKey = new Map<string, FqdnIdentity>();
  readonly #byNumber = new Map<number, FqdnIdentity>();
  #version = 0;
  #next = IDENTITY_FQDN_MIN;

  /** Grows with each change. */
  get version(): number {
    return this.#version;
  }
  get size(): number {
    return this.#byKey.size;
  }
  [Symbol.iterator](): Iterator<FqdnIdentity> {
    return this.#byKey.values();
  }

  get(identity: number): FqdnIdentity | undefined {
    return this.#byNumber.get(identity);
  }

  /** The identity for a prefix and selectors, if there is one. */
  find(base: PrefixPair, selectors: readonly NameSelector[]): FqdnIdentity | undefined {
    return this.#byKey.get(keyOf(base, selectors));
  }

  /** The identity for a prefix and selectors, a new one if there is none. Undefined: there are too many. */
  of(base: PrefixPair, selectors: readonly NameSelector[]): FqdnIdentity | undefined {
    const found = this.find(base, selectors);
    if (found || this.#byKey.size >= FQDN_IDENTITIES_MAX) return found;
    // Those that were given before rest as long as there are others.
    while (this.#byNumber.has(this.#next)) this.#advance();
    const made = this.#add(this.#next, base, selectors);
    this.#advance();
    return made;
  }

  /** One that an earlier process gave. False: its number, or what it stands for, has another one. */
  adopt(identity: number, base: PrefixPair, selectors: readonly NameSelector[]): boolean {
    if (this.#byNumber.has(identity) || this.find(base, selectors)) return false;
    this.#add(identity, base, selectors);
    this.reserve(identity);
    return true;
  }

  /** Numbers up to this one were given before. */
  reserve(identity: number): void {
    if (identity >= this.#next) {
      this.#next = identity === IDENTITY_FQDN_MAX ? IDENTITY_FQDN_MIN : identity + 1;
    }
  }

  delete(fqdn: FqdnIdentity): void {
    if (this.#byNumber.get(fqdn.identity) !== fqdn) return;
    this.#byNumber.delete(fqdn.identity);
    this.#byKey.delete(keyOf(fqdn.base, fqdn.selectors));
    this.#version++;
  }

  #add(identity: number, base: PrefixPair, selectors: readonly NameSelector[]): FqdnIdentity {
    const made: FqdnIdentity = {
      identity,
      base,
      selectors: sorted(selectors),
      uses: 0,
      placed: 0,
      addresses: 0,
    };
    this.#byKey.set(keyOf(base, selectors), made);
    this.#byNumber.set(identity, made);
    this.#version++;
    return made;
  }

  #advance(): void {
    this.#next = this.#next === IDENTITY_FQDN_MAX ? IDENTITY_FQDN_MIN : this.#next + 1;
  }
}

function sorted(selectors: readonly NameSelector[]): NameSelector[] {
  return selectors.toSorted((a, b) => a.identity - b.identity || (a.name < b.name ? -1 : 1));
}

function keyOf({ prefix, identity }: PrefixPair, selectors: readonly NameSelector[]): string {
  return `${identity} ${prefix.text}|${sorted(selectors).map((s) => `${s.identity} ${s.name}`).join("|")}`;
}
