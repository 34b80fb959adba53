/**
 * Identities of the prefixes and of the selectors of names that policies mention, counted by their users. The numbers come from
 * {@link CidrNumbers}, for the engine the database; nothing is numbered here. A number stays with its prefix while any policy
 * mentions it. A selector of names has its text where a prefix has its own, and is treated as one.
 * @module
 */
import { cidrIdentityLabels, Prefix } from "@weir/common";
import { type CidrNumbers, OwnCidrNumbers } from "./cidr_numbers.ts";
import { isFqdnText, parseFqdnName } from "./fqdn_selector.ts";
import { nameIdentity, type PeerIdentity, peerIdentity } from "./policy.ts";

/** Most prefixes and selectors of names that all policies together may mention. */
export const CIDR_IDENTITIES_MAX = 65_536;

/** A prefix, or the text of a selector of names, and its number. */
export interface CidrPair {
  readonly prefix: string;
  readonly identity: number;
}

/** A prefix whose number is not known, or is in use for another one. Nothing was changed. */
export class CidrNumberError extends Error {
  override readonly name = "CidrNumberError";
  constructor(readonly prefix: string, readonly holder?: string) {
    super(
      `Cannot take policy: its ${isFqdnText(prefix) ? "selector" : "prefix"} ${prefix} has ${
        holder === undefined ? "no number yet" : `the number of ${holder}`
      }`,
    );
  }
}

/** Prefixes in use with their identities. */
export class CidrIdentities {
  readonly #source: CidrNumbers;
  /** Numbers of the prefixes in use, and back. */
  readonly #numbers = new Map<string, number>();
  readonly #prefixes = new Map<number, string>();
  readonly #users = new Map<string, number>();

  constructor(source: CidrNumbers = new OwnCidrNumbers()) {
    this.#source = source;
  }

  numberOf(prefix: string): number | undefined {
    return this.#numbers.get(prefix);
  }

  pairs(): CidrPair[] {
    return [...this.#numbers].map(([prefix, identity]) => ({ prefix, identity }));
  }

  /** Counts one more user of each prefix; answers the identities of those that had none. @throws {CidrNumberError} */
  acquire(prefixes: readonly string[]): PeerIdentity[] {
    const fresh = new Map<string, number>(), numbers = new Set<number>();
    for (const text of prefixes) {
      if (this.#users.has(text)) continue;
      const number = this.#source.numberOf(text);
      if (number === undefined) throw new CidrNumberError(text);
      const holder = this.#prefixes.get(number);
      if (holder !== undefined || numbers.has(number)) throw new CidrNumberError(text, holder ?? "another");
      fresh.set(text, number);
      numbers.add(number);
    }
    const added: PeerIdentity[] = [];
    for (const prefix of prefixes) {
      this.#users.set(prefix, (this.#users.get(prefix) ?? 0) + 1);
      const number = fresh.get(prefix);
      if (number === undefined || this.#numbers.has(prefix)) continue;
      added.push(this.#set(prefix, number));
    }
    return added;
  }

  /** Counts one user less of each prefix; answers the pairs that have none left and are gone. */
  release(prefixes: readonly string[]): CidrPair[] {
    const gone: CidrPair[] = [];
    for (const text of prefixes) {
      const users = (this.#users.get(text) ?? 0) - 1;
      if (users > 0) this.#users.set(text, users);
      else if (users === 0) {
        this.#users.delete(text);
        gone.push(this.#drop(text));
      }
    }
    return gone;
  }

  /**
   * Takes over the numbers that the source now gives to prefixes in use. One that it no longer numbers keeps its own
   * until its last user goes, and so does one that is to have the number of another that is still in use.
   * @returns pairs that are gone, to be dropped first, and identities that are new
   */
  renumber(): { gone: CidrPair[]; added: PeerIdentity[] } {
    const wanted = new Map<string, number>();
    for (const [prefix, identity] of this.#numbers) {
      const number = this.#source.numberOf(prefix) ?? identity;
      if (number !== identity && !this.#prefixes.has(number)) wanted.set(prefix, number);
    }
    const gone = [...wanted.keys()].map((prefix) => this.#drop(prefix));
    const added = [...wanted].map(([prefix, number]) => this.#set(prefix, number));
    return { gone, added };
  }

  #set(prefix: string, number: number): PeerIdentity {
    this.#numbers.set(prefix, number);
    this.#prefixes.set(number, prefix);
    const name = parseFqdnName(prefix);
    return name ? nameIdentity(number, name) : peerIdentity(number, cidrIdentityLabels(Prefix.parse(prefix)));
  }

  #drop(prefix: string): CidrPair {
    const identity = this.#numbers.get(prefix)!;
    this.#numbers.delete(prefix);
    this.#prefixes.delete(identity);
    return { prefix, identity };
  }
}
