/**
 * Rule cookies: 32-bit numbers that lead from a map entry or a default deny back to the rules that made it. The number
 * is a hash of what it stands for, so that it is the same after a restart and in every replica. Where two hashes are the
 * same, the key that sorts first has the number and the other one its next choice, whoever came first: the numbers are
 * a function of the keys in use. A key that has to move is told of by {@link CookieRegistry.takeMoved}.
 * @module
 */
import { COOKIE_MIN } from "@weir/common";
import type { Rule, RuleSource } from "@weir/proto/policy";
import { fnv1a } from "./hash.ts";
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

interface Slot {
  readonly key: string;
  stamp: string;
  rule: Rule;
  /** Which of its choices the key has; more than 0 only after a collision. */
  attempt: number;
}

/** Numbers of sets of sources, and what they stand for. */
export class CookieRegistry {
  readonly #byKey = new Map<string, number>();
  readonly #slots = new Map<number, Slot>();
  readonly #changed = new Set<number>();
  readonly #moved = new Set<number>();
  #displaced = 0;

  get size(): number {
    return this.#slots.size;
  }

  /** Keys that do not have their first choice because another one has it. */
  get displaced(): number {
    return this.#displaced;
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
    const known = this.#byKey.get(key);
    if (known !== undefined && this.#slots.get(known)!.stamp === stamp) return known;
    const shown = unique.slice(0, COOKIE_SOURCES_MAX).map(({ id: _, ...source }) => source);
    if (known !== undefined) {
      const slot = this.#slots.get(known)!;
      slot.stamp = stamp;
      slot.rule = { ...slot.rule, sources: shown };
      this.#changed.add(known);
      return known;
    }
    this.#place({ key, stamp, rule: { cookie: 0, sources: shown, defaultDeny, direction }, attempt: 0 });
    return this.#byKey.get(key)!;
  }

  get(cookie: number): Rule | undefined {
    return this.#slots.get(cookie)?.rule;
  }

  /** Cookies that are new or say something else since the last call. */
  takeChanged(): number[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  /** Cookies that a key had and lost to another choice since the last call: who names one has to ask again. */
  takeMoved(): ReadonlySet<number> {
    const moved = new Set(this.#moved);
    this.#moved.clear();
    return moved;
  }

  /** True when {@link sweep} is due: too many, or a key in use may have its first choice back. */
  get full(): boolean {
    return this.#slots.size > COOKIES_MAX || this.#displaced > 0;
  }

  /** Forgets the cookies that are not in use; answers those that stand for nothing now. */
  sweep(inUse: ReadonlySet<number>): number[] {
    const gone: number[] = [];
    for (const [cookie, { key, attempt }] of this.#slots) {
      if (inUse.has(cookie)) continue;
      gone.push(cookie);
      this.#byKey.delete(key);
      this.#slots.delete(cookie);
      this.#changed.delete(cookie);
      if (attempt > 0) this.#displaced--;
    }
    if (gone.length > 0 && this.#displaced > 0) gone.push(...this.#placeAnew());
    return gone.filter((cookie) => !this.#slots.has(cookie));
  }

  /** Gives keys whose earlier choices may be free again their place; answers the cookies that they had. */
  #placeAnew(): number[] {
    const displaced = [...this.#slots].filter(([, { attempt }]) => attempt > 0);
    for (const [cookie, { key }] of displaced) {
      this.#slots.delete(cookie);
      this.#byKey.delete(key);
      this.#displaced--;
    }
    for (const [cookie, slot] of displaced) {
      this.#place({ ...slot, attempt: 0 });
      if (this.#byKey.get(slot.key) !== cookie) this.#moved.add(cookie);
    }
    return displaced.map(([cookie]) => cookie);
  }

  /** Of two keys with one choice the first has it; so where they end up does not depend on who came first. */
  #place(slot: Slot): void {
    let next: Slot | undefined = slot;
    while (next !== undefined) {
      const cookie = cookieChoice(next.key, next.attempt), holder = this.#slots.get(cookie);
      if (cookie < COOKIE_MIN || (holder !== undefined && holder.key < next.key)) {
        next.attempt++;
        continue;
      }
      this.#slots.set(cookie, next);
      this.#byKey.set(next.key, cookie);
      next.rule = { ...next.rule, cookie };
      this.#changed.add(cookie);
      if (next.attempt > 0) this.#displaced++;
      if (holder === undefined) return;
      this.#moved.add(cookie);
      if (holder.attempt > 0) this.#displaced--;
      holder.attempt++;
      next = holder;
    }
  }
}

/** The cookie that a key asks for; those below COOKIE_MIN are no rule's. */
export function cookieChoice(key: string, attempt: number): number {
  return fnv1a(attempt === 0 ? key : `${attempt}|${key}`);
}
