/**
 * What tiers have to do with a verdict: where the deciding rules stand, and which rules passed the connection on before.
 * @module
 */
import { PRIORITY_ORDINARY } from "@weir/common";
import type { PeerUse } from "./compiled_rule.ts";
import type { Decision } from "./decision.ts";
import { formatSource, listOf } from "./explain_words.ts";
import { portMatches } from "./port_words.ts";

/** `, rule "no-db", Admin tier, priority 7`; "" for the rules of ordinary policies. */
export function tierWords({ section, rule: { rule: { tier } } }: PeerUse): string {
  if (tier === undefined) return "";
  const name = section.name === undefined ? "" : `, rule ${JSON.stringify(section.name)}`;
  return `${name}, ${tier.tier} tier, priority ${tier.priority}`;
}

/** Whether nothing but the allow behind all tiers let it through. */
export function isLeftOpen({ pair, verdict }: Decision): boolean {
  // Peers of no rule: the entry is that of the direction as a whole.
  if (verdict.by !== "entry" || !verdict.allowed || pair.usesOf(verdict.cookie).length > 0) return false;
  const sources = pair.rule(verdict.cookie)?.sources ?? [];
  return sources.every(({ policy }) =>
    pair.rules.some(({ policy: { name }, rule }) => name === policy && rule.tier)
  );
}

/** What rules passed on before something decided: one sentence for each. */
export function passedOn({ pair, query, direction, words }: Decision): string[] {
  const found: string[] = [], skipped = new Set<string>();
  const placeOf = ({ section: { priority = PRIORITY_ORDINARY } }: PeerUse) => priority;
  const uses = pair.uses.filter((use) =>
    use.direction === direction && use.rule.rule.tier !== undefined && !use.rule.policy.audit &&
    use.section.ports.some((port) => portMatches(port, query))
  ).sort((a, b) => placeOf(a) - placeOf(b));
  for (const use of uses) {
    const { tier } = use.rule.rule.tier!;
    if (skipped.has(tier)) continue;
    // At one place a rule that decides wins over one that passes.
    const isDecided = uses.some((one) => placeOf(one) === placeOf(use) && !one.section.pass);
    if (isDecided) break;
    skipped.add(tier);
    const those = uses.filter((one) => placeOf(one) === placeOf(use)).map((one) =>
      formatSource(one.source) + tierWords(one)
    );
    found.push(
      `${listOf(those)} passes ${words.port} ${words.preposition} the ${words.remote} on to the next tier`,
    );
  }
  return found;
}
