/**
 * Selectors of names, the items of `toFQDNs`. What they mean is `@weir/l7-rules`' to say; here they have one text each, so that
 * policies which say the same share one number.
 *
 *     matchName: WWW.Example.com.   ─▶  matchName:www.example.com    label  fqdn:www.example.com
 *     matchPattern: "*.example.com" ─▶  matchPattern:*.example.com          fqdn:*.example.com
 *
 * @module
 */
import { LabelSet, makeLabel, SOURCE_FQDN } from "@weir/common";
import type { FqdnSelector } from "@weir/proto/policy";
import { canonicalName, compileDnsRules, compileName, compileNamePattern, RuleFault } from "@weir/l7-rules";
import { DnsRule } from "@weir/proto/l7";

/** One selector: exactly one of name and pattern, in lower case and without final dot. */
export interface FqdnName {
  /** Tells it from all others, prefixes included. */
  readonly text: string;
  readonly matchName: string;
  readonly matchPattern: string;
}

const NAME = "matchName:", PATTERN = "matchPattern:";

/** @throws {RuleFault} where it is none, or means the root, which has no addresses */
export function fqdnName(given: { matchName: string; matchPattern: string }): FqdnName {
  // One rule of names is what both are; it says what is wrong.
  compileDnsRules([DnsRule.create(given)]);
  const matchName = canonicalName(given.matchName), matchPattern = canonicalName(given.matchPattern);
  if (matchName + matchPattern === "") throw new RuleFault('"." is the root of names, which has no address');
  return { text: matchName === "" ? PATTERN + matchPattern : NAME + matchName, matchName, matchPattern };
}

/** The selector of a text; undefined for one of something else, as a prefix is. */
export function parseFqdnName(text: string): FqdnName | undefined {
  if (text.startsWith(NAME)) return { text, matchName: text.slice(NAME.length), matchPattern: "" };
  if (text.startsWith(PATTERN)) return { text, matchName: "", matchPattern: text.slice(PATTERN.length) };
  return undefined;
}

/** Whether a text that stands where prefixes do is that of a selector of names. */
export function isFqdnText(text: string): boolean {
  return text.startsWith(NAME) || text.startsWith(PATTERN);
}

/** The name or the pattern, as people read it. */
export function formatFqdnName({ matchName, matchPattern }: FqdnName): string {
  return matchName || matchPattern;
}

/** Labels that it gives to what it means. */
export function fqdnLabels(name: FqdnName): LabelSet {
  return LabelSet.from([makeLabel(SOURCE_FQDN, formatFqdnName(name))]);
}

/** The message of a selector. */
export function fqdnSelectorOf(name: FqdnName, identity: number): FqdnSelector {
  const { text, matchName, matchPattern } = name;
  return { name: text, matchName, matchPattern, identity, labels: fqdnLabels(name).toStrings() };
}

/** Whether it means a name, in any case and with or without final dot. */
export function fqdnMatcher({ matchName, matchPattern }: FqdnName): (name: string) => boolean {
  return matchName !== "" ? compileName(matchName) : compileNamePattern(matchPattern);
}
