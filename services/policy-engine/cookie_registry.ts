/**
 * Rule cookies: 32-bit numbers that lead from a map entry or a default deny back to the rules that made it. The number
 * is a hash of what it stands for, so that it is the same after a restart and in every replica.
 * @module
 */
import type { Rule, RuleSource } from "@weir/proto/policy";
import type { Direction } from "./policy.ts";

/** Most sources that one cookie lists; the flow of a packet needs a few, not all of a thousand policies. */
export const COOKIE_SOURCES_MAX = 64;
/** Most cookies that are held, those of deleted rules included (flows of the last minutes still name them). */
export const COOKIES_MAX = 200_000;

/** One rule behind a cookie, with its place. */
export interface SourceRef extends RuleSource {
  /** Identifies the source: policy name and path. */
  readonly id: string;
}

/** See the module comment. */
export class CookieRegistry {
  readonly #byKey = new Map<string, number>();
  readonly #rules = new Map<number, { key: string; rule: Rule; stamp: string }>();
  readonly #changed = new Set<number>();

  get size(): number {
    return this.#rules.size;
  }

  /** The cookie of a set of sources; 0 for none. The order of the sources and duplicates do not matter. */
  intern(direction: Direction, defaultDeny: boolean, sources: readonly SourceRef[]): number {
    if (sources.length === 0) return 0;
    const unique = sources.length === 1
      ? sources
      : [...new Map(sources.map((source) => [source.id, source])).values()].sort((a, b) =>
        a.id < b.id ? -1 : 1
      );
    const key = `${direction}|${defaultDeny ? "default-deny" : "rule"}|${
      unique.map((source) => source.id).join("|")
    }`;
    const stamp = unique.map((source) => `${source.file}:${source.line}:${source.labels}`).join("|");
    let cookie = this.#byKey.get(key);
    if (cookie !== undefined && this.#rules.get(cookie)!.stamp === stamp) return cookie;
    if (cookie === undefined) {
      cookie = hash(key);
      // Two sets with one hash: the later takes the next free number.
      while (cookie === 0 || this.#rules.has(cookie)) cookie = (cookie + 1) >>> 0;
      this.#byKey.set(key, cookie);
    }
    const shown = unique.slice(0, COOKIE_SOURCES_MAX).map(({ id: _, ...source }) => source);
    this.#rules.set(cookie, { key, stamp, rule: { cookie, sources: shown, defaultDeny, direction } });
    this.#changed.add(cookie);
    return cookie;
  }

  get(cookie: number): Rule | undefined {
    return this.#rules.get(cookie)?.rule;
  }

  /** Cookies that are new or say something else since the last call. */
  takeChanged(): number[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  /** True when {@link sweep} is due. */
  get full(): boolean {
    return this.#rules.size > COOKIES_MAX;
  }

  /** Forgets the cookies that are not in use; answers them. */
  sweep(inUse: ReadonlySet<number>): number[] {
    const gone: number[] = [];
    for (const [cookie, { key }] of this.#rules) {
      if (inUse.has(cookie)) continue;
      gone.push(cookie);
      this.#byKey.delete(key);
      this.#rules.delete(cookie);
      this.#changed.delete(cookie);
    }
    return gone;
  }
}

/** FNV-1a over UTF-16 units, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ (text.charCodeAt(i) & 0xff), 0x01000193);
    value = Math.imul(value ^ (text.charCodeAt(i) >> 8), 0x01000193);
  }
  return value >>> 0;
}
