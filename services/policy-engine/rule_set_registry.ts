/**
 * Rule sets by number. The number is a hash of the contents, so that equal contents have one number everywhere; where two hashes are the
 * same, who comes second has its next choice. That is no harm: a map state brings the contents of the numbers in it.
 * @module
 */
import { RuleSet } from "@weir/proto/l7";
import { fnv1a } from "./hash.ts";

/** Most rule sets that are held before those that nobody names are forgotten. */
export const RULE_SETS_MAX = 50_000;

/** In place of a rule set: rules of several protocols for one place. Nothing is put in force with it. */
export const RULE_SET_CONFLICT = 0xffff_ffff;

/** Numbers of rule sets, and their contents. */
export class RuleSetRegistry {
  readonly #byKey = new Map<string, number>();
  readonly #sets = new Map<number, RuleSet>();

  get size(): number {
    return this.#sets.size;
  }

  /** The number of these contents, whose own `id` does not count. */
  intern(contents: RuleSet): number {
    const key = RuleSet.encode({ ...contents, id: 0 }).toBase64(), known = this.#byKey.get(key);
    if (known !== undefined) return known;
    let id = 0;
    for (let attempt = 0; id === 0 || id === RULE_SET_CONFLICT || this.#sets.has(id); attempt++) {
      id = fnv1a(attempt === 0 ? key : `${attempt}|${key}`);
    }
    this.#byKey.set(key, id);
    this.#sets.set(id, { ...contents, id });
    return id;
  }

  get(id: number): RuleSet | undefined {
    return this.#sets.get(id);
  }

  /** All that are held. */
  all(): RuleSet[] {
    return [...this.#sets.values()];
  }

  /** Cookies that a rule set names; none for 0. */
  *cookiesOf(id: number): Generator<number> {
    const set = this.#sets.get(id);
    if (set === undefined) return;
    yield set.unrestrictedCookie;
    yield set.deniedCookie;
    for (const rules of [set.http, set.dns, set.kafka, set.cassandra, set.memcache, set.serverNames]) {
      for (const { cookie } of rules) yield cookie;
    }
  }

  /** Forgets the rule sets that are not in use. */
  sweep(inUse: ReadonlySet<number>): void {
    for (const [key, id] of this.#byKey) {
      if (inUse.has(id)) continue;
      this.#byKey.delete(key);
      this.#sets.delete(id);
    }
  }
}
