/**
 * Identities of the prefixes that policies mention. A number stays with its prefix while any policy mentions it, and
 * after a restart, because the store keeps the pairs; freed numbers are used again only when the others have been.
 * @module
 */
import { cidrIdentityLabels, IDENTITY_LOCAL_MAX, IDENTITY_LOCAL_MIN, type Prefix } from "@weir/common";
import { type PeerIdentity, peerIdentity } from "./policy.ts";

/** Most prefixes that all policies together may mention. */
export const CIDR_IDENTITIES_MAX = 65_536;

/** First number; the lower ones of the scope stay free, as in Cilium. */
const FIRST = IDENTITY_LOCAL_MIN + 1;

/** A prefix and its number. */
export interface CidrPair {
  readonly prefix: string;
  readonly identity: number;
}

/** More prefixes than there may be. */
export class CidrIdentitiesFullError extends Error {
  override readonly name = "CidrIdentitiesFullError";
  readonly code = "CIDR_IDENTITIES_FULL";
  constructor(readonly wanted: number) {
    super(`Cannot take policy: its prefixes would make ${wanted}, want at most ${CIDR_IDENTITIES_MAX}`);
  }
}

/** See the module comment. */
export class CidrIdentities {
  readonly #numbers = new Map<string, number>();
  readonly #users = new Map<string, number>();
  readonly #taken = new Set<number>();
  #next = FIRST;

  /** @param kept pairs of an earlier life; those that no policy mentions again are let go by {@link releaseUnused} */
  constructor(kept: Iterable<CidrPair> = []) {
    for (const pair of kept) this.learn(pair);
  }

  /** Takes a pair that another replica or an earlier life made. A prefix that has a number keeps it. */
  learn({ prefix, identity }: CidrPair): void {
    if (this.#numbers.has(prefix)) return;
    this.#numbers.set(prefix, identity);
    this.#taken.add(identity);
    this.#next = Math.max(this.#next, identity + 1);
  }

  isUnused(prefix: string): boolean {
    return !this.#users.has(prefix);
  }

  isTaken(number: number): boolean {
    return this.#taken.has(number);
  }

  get size(): number {
    return this.#numbers.size;
  }

  numberOf(prefix: Prefix): number | undefined {
    return this.#numbers.get(prefix.text);
  }

  pairs(): CidrPair[] {
    return [...this.#numbers].map(([prefix, identity]) => ({ prefix, identity }));
  }

  /** Counts one more user of each prefix; answers the identities of those that had none. @throws {CidrIdentitiesFullError} */
  acquire(prefixes: readonly Prefix[]): PeerIdentity[] {
    const fresh = prefixes.filter((prefix) => !this.#numbers.has(prefix.text)).length;
    if (this.#numbers.size + fresh > CIDR_IDENTITIES_MAX) {
      throw new CidrIdentitiesFullError(this.#numbers.size + fresh);
    }
    const added: PeerIdentity[] = [];
    for (const prefix of prefixes) {
      const users = this.#users.get(prefix.text) ?? 0;
      this.#users.set(prefix.text, users + 1);
      if (users > 0) continue;
      let number = this.#numbers.get(prefix.text);
      if (number === undefined) this.#numbers.set(prefix.text, number = this.#allocate());
      added.push(peerIdentity(number, cidrIdentityLabels(prefix)));
    }
    return added;
  }

  /** Counts one user less of each prefix; answers the pairs that have none left and are gone. */
  release(prefixes: readonly Prefix[]): CidrPair[] {
    const gone: CidrPair[] = [];
    for (const prefix of prefixes) {
      const users = (this.#users.get(prefix.text) ?? 0) - 1;
      if (users > 0) this.#users.set(prefix.text, users);
      else if (users === 0) gone.push(this.#forget(prefix.text));
    }
    return gone;
  }

  /** Lets go of kept pairs that no policy mentions; answers them. */
  releaseUnused(): CidrPair[] {
    return [...this.#numbers.keys()].filter((prefix) => !this.#users.has(prefix)).map((prefix) =>
      this.#forget(prefix)
    );
  }

  #forget(prefix: string): CidrPair {
    const identity = this.#numbers.get(prefix)!;
    this.#numbers.delete(prefix);
    this.#users.delete(prefix);
    this.#taken.delete(identity);
    return { prefix, identity };
  }

  /** Numbers go up and wrap, so that a freed one rests as long as possible: a kernel may still hold it. */
  #allocate(): number {
    if (this.#next > IDENTITY_LOCAL_MAX) this.#next = FIRST;
    while (this.#taken.has(this.#next)) {
      this.#next = this.#next >= IDENTITY_LOCAL_MAX ? FIRST : this.#next + 1;
    }
    this.#taken.add(this.#next);
    return this.#next++;
  }
}
