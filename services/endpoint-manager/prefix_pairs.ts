/**
 * Pairs of a prefix and an identity, found by what is around a prefix, with a log of their changes. Pure.
 * @module
 */
import { type Prefix, PrefixTrie } from "@weir/common";

/** A prefix of policies and the identity that it has. */
export interface PrefixPair {
  readonly prefix: Prefix;
  readonly identity: number;
}

/** Changes that are kept; a reader that is further behind looks at everything. */
const LOG_MAX = 4096;

/** A set of pairs. One prefix may be in it with several identities. */
export class PrefixPairs<T extends PrefixPair = PrefixPair> implements Iterable<T> {
  readonly #byPrefix = new Map<string, Map<number, T>>();
  readonly #byIdentity = new Map<number, Set<T>>();
  readonly #trie = new PrefixTrie<T>();
  readonly #log: { readonly pair: T; readonly isThere: boolean }[] = [];
  #version = 0;

  /** Grows by one with each change. */
  get version(): number {
    return this.#version;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (const pairs of this.#byPrefix.values()) yield* pairs.values();
  }

  /** The pairs of a prefix. */
  of(prefix: Prefix): T[] {
    return [...this.#byPrefix.get(prefix.text)?.values() ?? []];
  }
  get(prefix: Prefix, identity: number): T | undefined {
    return this.#byPrefix.get(prefix.text)?.get(identity);
  }

  /** The pairs of an identity: one, but for one that moves from a prefix to another. */
  ofIdentity(identity: number): ReadonlySet<T> {
    return this.#byIdentity.get(identity) ?? new Set();
  }

  /** Pairs whose prefix is the given one or lies inside it. */
  inside(prefix: Prefix): Iterable<T> {
    return this.#trie.inside(prefix);
  }

  /** Pairs whose prefix is the given one or contains it, shortest first. */
  around(prefix: Prefix): Iterable<T> {
    return this.#trie.around(prefix);
  }

  /** Adds one that is not there. */
  add(pair: T): void {
    const { prefix, identity } = pair, pairs = this.#byPrefix.get(prefix.text);
    if (pairs) pairs.set(identity, pair);
    else this.#byPrefix.set(prefix.text, new Map([[identity, pair]]));
    const same = this.#byIdentity.get(identity);
    if (same) same.add(pair);
    else this.#byIdentity.set(identity, new Set([pair]));
    this.#trie.add(prefix, pair);
    this.#note(pair, true);
  }

  /** Takes out one that is there. */
  delete(pair: T): void {
    const { prefix, identity } = pair, pairs = this.#byPrefix.get(prefix.text);
    if (pairs?.get(identity) !== pair) return;
    pairs.delete(identity);
    if (pairs.size === 0) this.#byPrefix.delete(prefix.text);
    const same = this.#byIdentity.get(identity)!;
    same.delete(pair);
    if (same.size === 0) this.#byIdentity.delete(identity);
    this.#trie.delete(prefix, pair);
    this.#note(pair, false);
  }

  /** Changes since a version, oldest first; undefined: more than are kept. */
  changesSince(version: number): readonly { readonly pair: T; readonly isThere: boolean }[] | undefined {
    const count = this.#version - version;
    return count > this.#log.length ? undefined : this.#log.slice(this.#log.length - count);
  }

  #note(pair: T, isThere: boolean): void {
    this.#version++;
    this.#log.push({ pair, isThere });
    if (this.#log.length > 2 * LOG_MAX) this.#log.splice(0, LOG_MAX);
  }
}
