/**
 * Rules that say nothing: an allow of which every connection is denied, and one of which every connection is allowed elsewhere, so
 * that its L7 rules filter nothing, or it could go.
 * @module
 */
import {
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  precedence,
  PRIORITY_ORDINARY,
  type Requirement,
  type Tier,
  tierOf,
} from "@weir/common";
import { placeOf } from "../explain_words.ts";
import type { PortMatch, PortRules } from "../policy.ts";
import { type Finding, finding } from "./finding.ts";
import type { PlacedSection } from "./placed_section.ts";
import { peerWithin, portWithin, selectorWithin } from "./within.ts";

/** Pairs of peers and ports that are compared before the rest is left. */
const COMPARED_MAX = 4_000_000;

/** What was found, and whether there was more to compare than is. */
export interface Shadowed {
  readonly findings: readonly Finding[];
  readonly isCut: boolean;
}

type Effect = "denied-allow" | "bypassed-l7" | "covered-rule";

/** Looks at every section against those whose subject takes its own in. */
export function shadowedRules(sections: readonly PlacedSection[]): Shadowed {
  const index = new SubjectIndex(sections), findings: Finding[] = [];
  const budget = { left: COMPARED_MAX }, orders = new Map(sections.map((section, at) => [section, at]));
  for (const inner of sections) {
    if (inner.section.peers.length === 0 || inner.section.ports.length === 0) continue;
    const around = index.around(inner).filter((outer) => outer !== inner);
    for (const effect of effectsOn(inner)) {
      const outers = around.filter((outer) => canHave(effect, inner, outer));
      const by = coveredBy(inner, outers, budget, effect === "covered-rule");
      if (by === undefined) continue;
      // Of two that say the same the later one is too much.
      const isMutual = effect === "covered-rule" && by.length === 1 &&
        orders.get(by[0])! > orders.get(inner)! &&
        coveredBy(by[0], [inner], budget, true) !== undefined &&
        selectorWithin(by[0].rule.subject, inner.rule.subject);
      if (!isMutual) findings.push(findingOf(effect, inner, by));
      break;
    }
    if (budget.left <= 0) return { findings, isCut: true };
  }
  return { findings, isCut: false };
}

function effectsOn({ section }: PlacedSection): Effect[] {
  if (section.deny || section.pass) return ["covered-rule"];
  return section.ports.some(({ rules }) => rules !== undefined)
    ? ["denied-allow", "bypassed-l7", "covered-rule"]
    : ["denied-allow", "covered-rule"];
}

function canHave(effect: Effect, inner: PlacedSection, outer: PlacedSection): boolean {
  // Of two tiers a pass may lead past one, and within one the rule that is asked first counts.
  if (tierOfSection(inner) !== tierOfSection(outer) || placeOfSection(outer) > placeOfSection(inner)) {
    return false;
  }
  if (effect === "denied-allow") return outer.section.deny;
  return outer.section.deny === inner.section.deny &&
    Boolean(outer.section.pass) === Boolean(inner.section.pass);
}

function placeOfSection({ section: { priority = PRIORITY_ORDINARY } }: PlacedSection): number {
  return priority;
}

function tierOfSection(placed: PlacedSection): Tier {
  return tierOf(precedence(placeOfSection(placed), false));
}

/** The sections that take in a section's every peer, each with all of its ports; undefined: some peer is left. */
function coveredBy(
  { section: inner }: PlacedSection,
  outers: readonly PlacedSection[],
  budget: { left: number },
  withRules: boolean,
): PlacedSection[] | undefined {
  const found = new Set<PlacedSection>();
  const hasPorts = outers.filter(({ section: { ports, deny } }) => {
    budget.left -= ports.length * inner.ports.length;
    return budget.left > 0 &&
      inner.ports.every((port) =>
        ports.some((other) => portWithin(port, other) && (deny || takesRules(port, other, withRules)))
      );
  });
  for (const { selector } of inner.peers) {
    const outer = hasPorts.find(({ section: { peers } }) => {
      budget.left -= peers.length;
      return budget.left > 0 && peers.some((other) => peerWithin(selector, other.selector));
    });
    if (outer === undefined) return undefined;
    found.add(outer);
  }
  return [...found];
}

/** Whether what passes by the rules of one port passes by the other. */
function takesRules({ rules }: PortMatch, { rules: others }: PortMatch, withRules: boolean): boolean {
  if (others === undefined) return !(withRules && rules !== undefined);
  return withRules && rules !== undefined && rulesText(rules) === rulesText(others);
}

function rulesText({ kind, rules }: PortRules): string {
  return JSON.stringify([kind, rules.map(({ rule }) => rule)]);
}

function findingOf(
  effect: Effect,
  { policy, rule, section }: PlacedSection,
  by: readonly PlacedSection[],
): Finding {
  const [{ policy: other, section: first }] = by, more = by.length > 1 ? ` and ${by.length - 1} more` : "";
  const where = `${other.name} ${first.path} (${placeOf(other, first.line)})${more}`;
  const { path, line, deny, pass } = section, place = { id: effect, policy, path, line };
  if (effect === "denied-allow") {
    return finding({
      ...place,
      says: `all that it allows is denied by ${where}`,
      action: rule.tier === undefined
        ? "Take the allow out, or make the deny narrower: a deny always wins"
        : "Take the allow out, or put it above the deny",
    });
  }
  if (effect === "bypassed-l7") {
    return finding({
      ...place,
      says: `its L7 rules filter nothing: ${where} lets the same connections pass without any`,
      action: "Take the other allow out, or give it these rules too",
    });
  }
  const [verb, does] = deny ? ["deny", "denies"] : pass ? ["pass", "passes"] : ["allow", "allows"];
  return finding({
    ...place,
    says: `it ${does} nothing that ${where} does not ${verb} already`,
    action: "It can go, if nobody relies on it when the other one changes",
  });
}

/** Sections by what their subjects ask: whoever takes a subject in asks for nothing that this does not say. */
class SubjectIndex {
  /** By direction, and one label with its value that the subject asks for; "" where it asks for none. */
  readonly #lists = new Map<string, PlacedSection[]>();

  constructor(sections: readonly PlacedSection[]) {
    for (const section of sections) {
      for (const key of keysOf(section.rule.subject.requirements)) {
        const place = `${section.direction} ${key}`, list = this.#lists.get(place);
        if (list) list.push(section);
        else this.#lists.set(place, [section]);
      }
    }
  }

  around({ rule: { subject }, direction }: PlacedSection): PlacedSection[] {
    const keys = new Set([
      "",
      ...subject.requirements.filter(isIn).map(({ key, values }) => `${key}=${values[0]}`),
    ]);
    return [...keys].flatMap((key) => this.#lists.get(`${direction} ${key}`) ?? [])
      .filter((outer) => selectorWithin(subject, outer.rule.subject));
  }
}

function keysOf(requirements: readonly Requirement[]): string[] {
  const isCommon = ({ key }: Requirement) => key === LABEL_NAMESPACE || key === LABEL_CLUSTER;
  const asked = requirements.filter(isIn), best = asked.find((one) => !isCommon(one)) ?? asked[0];
  return best === undefined ? [""] : best.values.map((value) => `${best.key}=${value}`);
}

function isIn({ operator }: Requirement): boolean {
  return operator === "In";
}
