/**
 * Rules about names: exact ones and patterns. A star never goes over a dot, but for `**.` at the start.
 *
 *     *.x.y     a.x.y                      not x.y, not a.b.x.y
 *     sub*.x    sub.x, subway.x
 *     **.x.y    a.x.y, a.b.x.y             not x.y
 *     *         every name, the root too
 *
 * @module
 */
import type { DnsRule } from "@weir/proto/l7";
import { allowedBy, type CompiledRule, deniedBy, type Judgement, shown } from "./judgement.ts";
import { RuleFault } from "./pattern.ts";
import type { DnsRequest } from "./request.ts";

/** Most characters of a name or a pattern. */
export const NAME_LENGTH_MAX = 255;

/** Whether names, in any case and with or without their final dot, are what a pattern says. */
export type NameMatcher = (name: string) => boolean;

/** Rules about names, ready: exact ones are looked up, however many there are. */
export interface CompiledDnsRules {
  readonly rules: readonly CompiledRule<DnsRequest>[];
  readonly exact: ReadonlyMap<string, number>;
  readonly patterns: readonly CompiledPattern[];
}

/** A rule with a pattern. */
interface CompiledPattern {
  readonly cookie: number;
  /** Whether it means a canonical name of {@link isName}. */
  readonly means: (folded: string) => boolean;
}

/** @throws {RuleFault} */
export function compileDnsRules(given: readonly DnsRule[]): CompiledDnsRules {
  const exact = new Map<string, number>(), patterns: CompiledPattern[] = [];
  const rules = given.map((rule): CompiledRule<DnsRequest> => {
    const { cookie, matchName, matchPattern } = rule;
    if ((matchName === "") === (matchPattern === "")) {
      throw new RuleFault("want exactly one of matchName and matchPattern");
    }
    const matches = matchName === "" ? compileNamePattern(matchPattern) : compileName(matchName);
    const text = matchName || matchPattern;
    const compiled = {
      cookie,
      conditions: [{
        holds: ({ name }: DnsRequest) => matches(name),
        lacks: ({ name }: DnsRequest) => `${shown(canonicalName(name))} is not ${shown(text)}`,
      }],
    };
    if (matchName === "") patterns.push({ cookie, means: foldedMatcher(canonicalName(matchPattern)) });
    else if (!exact.has(canonicalName(matchName))) exact.set(canonicalName(matchName), cookie);
    return compiled;
  });
  return { rules, exact, patterns };
}

/** @param deniedCookie of a question that none of them means */
export function judgeDns(
  { exact, patterns }: CompiledDnsRules,
  request: DnsRequest,
  deniedCookie: number,
): Judgement {
  const folded = canonicalName(request.name), cookie = exact.get(folded);
  if (cookie !== undefined) return allowedBy(cookie);
  const pattern = patterns.length > 0 && isName(folded)
    ? patterns.find(({ means }) => means(folded))
    : undefined;
  return pattern === undefined ? deniedBy(deniedCookie) : allowedBy(pattern.cookie);
}

/** A name as names are compared: lower case, without the final dot; the root is "". */
export function canonicalName(name: string): string {
  const folded = name.toLowerCase();
  return folded.endsWith(".") ? folded.slice(0, -1) : folded;
}

/** @throws {RuleFault} where it is none */
export function compileName(text: string): NameMatcher {
  refuseCharacters(text, /^[-a-zA-Z0-9_.]+$/, "letters, digits, hyphens, underscores and dots");
  const wanted = canonicalName(text);
  return (name) => canonicalName(name) === wanted;
}

/** @throws {RuleFault} where it is none */
export function compileNamePattern(text: string): NameMatcher {
  refuseCharacters(text, /^[-a-zA-Z0-9_.*]+$/, "letters, digits, hyphens, underscores, dots and stars");
  const means = foldedMatcher(canonicalName(text));
  return (name) => {
    const folded = canonicalName(name);
    return isName(folded) && means(folded);
  };
}

/** Of a canonical pattern; asked for canonical names of {@link isName} alone. */
function foldedMatcher(pattern: string): (folded: string) => boolean {
  if (/^\*+$/.test(pattern)) return () => true;
  const deep = /^\*\*+\./.test(pattern);
  const labels = pattern.slice(deep ? pattern.indexOf(".") + 1 : 0).split(".");
  // Most names end otherwise, and are told by that alone.
  const end = pattern.slice(pattern.lastIndexOf("*") + 1);
  return (folded) => {
    if (!folded.endsWith(end)) return false;
    const parts = folded.split("."), above = parts.length - labels.length;
    if (deep ? above < 1 : above !== 0) return false;
    return labels.every((label, at) => matchesLabel(label, parts[above + at]));
  };
}

function refuseCharacters(text: string, allowed: RegExp, words: string): void {
  if (text.length > NAME_LENGTH_MAX) {
    throw new RuleFault(`${shown(text)} has ${text.length} characters, want at most ${NAME_LENGTH_MAX}`);
  }
  if (!allowed.test(text)) throw new RuleFault(`${shown(text)} is no name, want ${words}`);
}

/** What patterns can mean: other bytes belong to no name of a host. */
function isName(folded: string): boolean {
  return /^[-a-z0-9_.]*$/.test(folded);
}

/** Stars for any number of characters; takes at most the product of both lengths. */
function matchesLabel(pattern: string, text: string): boolean {
  let at = 0, from = 0, star = -1, taken = 0;
  while (from < text.length) {
    if (at < pattern.length && pattern[at] === "*") {
      star = at++;
      taken = from;
    } else if (at < pattern.length && pattern[at] === text[from]) {
      at++;
      from++;
    } else if (star >= 0) {
      at = star + 1;
      from = ++taken;
    } else return false;
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
