/**
 * The selectors of names that policies of this node have, and which of them mean a name. Pure.
 * @module
 */
import { canonicalName, compileName, compileNamePattern, type NameMatcher } from "@weir/l7-rules";
import type { NameSelector } from "./fqdn_identities.ts";

/** Kinds of the canonical text of a selector, before the colon. */
const NAME = "matchName:", PATTERN = "matchPattern:";

interface Compiled {
  readonly selector: NameSelector;
  readonly matches: NameMatcher;
}

/** What a selector is told apart by: another database may give a text another number, and a number another text. */
export function selectorKey({ identity, name }: NameSelector): string {
  return `${identity} ${name}`;
}

/** Selectors that count. */
export class NameSelectors {
  readonly #all = new Map<string, Compiled>();
  /** Of each name that was asked for; until a selector comes or goes. */
  readonly #found = new Map<string, readonly NameSelector[]>();

  get size(): number {
    return this.#all.size;
  }
  has(selector: NameSelector): boolean {
    return this.#all.has(selectorKey(selector));
  }
  /** Those that count now. */
  list(): NameSelector[] {
    return Array.from(this.#all.values(), ({ selector }) => selector);
  }

  /**
   * Adds one that does not count yet. One that cannot be read means no name: the policy engine refuses those before.
   * @returns whether a name is meant by it
   */
  add(selector: NameSelector): NameMatcher {
    const matches = matcherOf(selector.name);
    this.#all.set(selectorKey(selector), { selector, matches });
    this.#found.clear();
    return matches;
  }

  /** Repeatable. @returns whether a name was meant by it */
  delete(selector: NameSelector): NameMatcher | undefined {
    const compiled = this.#all.get(selectorKey(selector));
    this.#all.delete(selectorKey(selector));
    if (compiled) this.#found.clear();
    return compiled?.matches;
  }

  /** Those that mean a name, by their numbers. */
  of(query: string): readonly NameSelector[] {
    let found = this.#found.get(query);
    if (found === undefined) {
      found = Array.from(this.#all.values()).filter(({ matches }) => matches(query))
        .map(({ selector }) => selector);
      this.#found.set(query, found);
    }
    return found;
  }

  /** A name of which nobody knows an address any more. */
  forget(query: string): void {
    this.#found.delete(query);
  }
}

function matcherOf(text: string): NameMatcher {
  try {
    if (text.startsWith(NAME)) return compileName(text.slice(NAME.length));
    if (text.startsWith(PATTERN)) return compileNamePattern(text.slice(PATTERN.length));
  } catch {
    // As said above.
  }
  return () => false;
}

/** The name as it is kept; undefined: no name that a selector could mean, or too long. */
export function queryOf(name: string): string | undefined {
  if (name.length > 255) return undefined;
  const query = canonicalName(name);
  return /^[-a-z0-9_.]*$/.test(query) ? query : undefined;
}
