/** Label selectors of manifests as people read them. @module */

/** A map of a manifest. */
export type Fields = Record<string, unknown>;

/** A list; empty where there is none. */
export function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** `app=web, tier In a|b`. @param all what a selector that asks for nothing is called */
export function selectorText(selector: unknown, all: string): string {
  if (typeof selector !== "object" || selector === null) return all;
  const { matchLabels, matchExpressions } = selector as Fields;
  const words = Object.entries((matchLabels ?? {}) as Fields).map(([key, value]) => `${key}=${value}`);
  for (const one of asList(matchExpressions)) {
    const { key, operator, values } = one as Fields;
    words.push(`${key} ${operator}${Array.isArray(values) ? ` ${values.join("|")}` : ""}`);
  }
  return words.length === 0 ? all : words.join(", ");
}
