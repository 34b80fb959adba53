/**
 * L7 rules of one place (a peer, a protocol, a port) as one rule set: rules of all policies together, equal ones once, each with the cookie of
 * where it is written.
 * @module
 */
import { type L7Kind, RuleSet } from "@weir/proto/l7";
import type { CookieRegistry, SourceRef } from "./cookie_registry.ts";
import { formatSource } from "./explain_words.ts";
import type { Direction, PortRules } from "./policy.ts";
import { RULE_SET_CONFLICT, type RuleSetRegistry } from "./rule_set_registry.ts";

/** The field of a rule set in which rules of a kind are. */
export const RULES_FIELD = {
  HTTP: "http",
  DNS: "dns",
  KAFKA: "kafka",
  CASSANDRA: "cassandra",
  MEMCACHE: "memcache",
  TLS: "serverNames",
} as const satisfies Partial<Record<L7Kind, keyof RuleSet>>;

/** Most rules that a denial names. */
const DENIED_BY_MAX = 4;

/** L7 rules as one use of a peer brings them. */
export interface UsedRules {
  readonly rules: PortRules;
  /** Of the peer. */
  readonly source: SourceRef;
}

/** What rule sets are made with. */
export interface RuleSetTables {
  readonly cookies: CookieRegistry;
  readonly ruleSets: RuleSetRegistry;
}

/**
 * The number of the rule set of a place; {@link RULE_SET_CONFLICT} where rules of several kinds meet.
 * @param plain who allows the place without L7 rules
 */
export function internRules(
  direction: Direction,
  used: readonly UsedRules[],
  plain: readonly SourceRef[],
  { cookies, ruleSets }: RuleSetTables,
): number {
  const [{ rules: { kind } }] = used;
  if (used.some(({ rules }) => rules.kind !== kind)) return RULE_SET_CONFLICT;
  const sources = new Map<string, { rule: object; sources: SourceRef[] }>();
  for (const { rules, source } of used) {
    for (const { rule, path, line } of rules.rules) {
      const text = JSON.stringify(rule), known = sources.get(text), at = placedAt(source, path, line);
      if (known) known.sources.push(at);
      else sources.set(text, { rule, sources: [at] });
    }
  }
  const lists = used.map(({ rules, source }) => placedAt(source, rules.path, rules.line));
  const sorted = [...sources].sort(([a], [b]) => a < b ? -1 : 1);
  return ruleSets.intern({
    ...RuleSet.create({ kind }),
    unrestricted: plain.length > 0,
    unrestrictedCookie: cookies.intern(direction, false, plain),
    deniedCookie: cookies.intern(direction, false, lists),
    deniedBy: [...new Set(lists.map(formatSource))].sort().slice(0, DENIED_BY_MAX),
    [RULES_FIELD[kind]]: sorted.map(([, { rule, sources }]) => ({
      ...rule,
      cookie: cookies.intern(direction, false, sources),
    })),
  });
}

function placedAt(source: SourceRef, path: string, line: number): SourceRef {
  return { ...source, id: `${source.policy}#${path}`, path, line };
}
