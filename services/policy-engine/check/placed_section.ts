/** Sections of policies with all that is around them. @module */
import { type Direction, DIRECTIONS, type Policy, type PolicyRule, type RuleSection } from "../policy.ts";

/** One section of a rule. */
export interface PlacedSection {
  readonly policy: Policy;
  readonly rule: PolicyRule;
  readonly direction: Direction;
  readonly section: RuleSection;
}

/** All sections of policies, in the order of the texts. */
export function sectionsOf(policies: Iterable<Policy>): PlacedSection[] {
  const found: PlacedSection[] = [];
  for (const policy of policies) {
    for (const rule of policy.rules) {
      for (const direction of DIRECTIONS) {
        for (const section of rule.directions[direction].sections) {
          found.push({ policy, rule, direction, section });
        }
      }
    }
  }
  return found;
}
