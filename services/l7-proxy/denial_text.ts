/** What a client is told whose request is denied. @module */
import type { SideVerdict } from "./connection_judge.ts";

/** Rules that a denial names; a place with more has them in its flow. */
const RULES_NAMED_MAX = 3;
/**
 * One sentence: which policy and which of its rules judged, and what none of them allows.
 *
 *     Denied by policy cnp:shop/db spec.ingress[0].toPorts[0].rules.l7: no rule allows select on shop.secret
 */
export function denialText(sides: readonly SideVerdict[], what: string): string {
  const rules = sides.at(-1)?.deniedBy ?? [];
  if (rules.length === 0) return `Denied by network policy: no rule allows ${what}`;
  const names = rules.slice(0, RULES_NAMED_MAX).map(withoutPlace);
  if (rules.length > names.length) names.push(`${rules.length - names.length} more`);
  return `Denied by policy ${names.join(", ")}: no rule allows ${what}`;
}

/** Without file and line: those are for who writes policies, and are in the flow. */
function withoutPlace(rule: string): string {
  const at = rule.indexOf(" (");
  return at < 0 ? rule : rule.slice(0, at);
}
