/** What a list or watch asks for, as the text of an address. @module */

/** What narrows a list or watch, e.g. `{identity: ["4242", "4243"]}`: any value of a key, every key. */
export type Query = Record<string, string | number | boolean | readonly (string | number)[]>;

/** "?a=1&b=2&b=3", or "" for an empty query. */
export function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(key, String(one));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}
