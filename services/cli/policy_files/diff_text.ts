/**
 * What changes between two sets of policies, for people and for programs.
 * @module
 */
import type { RuleSource } from "@weir/proto/policy";
import { type Comparison, type Difference, formatRanges } from "@weir/policy-engine/offline";
import { harmless } from "../harmless_text.ts";
import { table } from "../output.ts";
import { markdownCell, reasonOf } from "./deciding_rules.ts";

/** One line for each difference; what opens first. */
export function comparisonTable({ differences, changed }: Comparison): string {
  if (differences.length === 0) return nothing(changed);
  return table(
    ["", "FROM", "TO", "PORTS", "PAIRS", "BECAUSE OF"],
    differences.map((one) => [
      one.effect.toUpperCase(),
      one.from.name,
      one.to.name,
      formatRanges(one.ports),
      String(one.pairs),
      reasonOf(one),
    ]),
  );
}

/** A table for a review. */
export function comparisonMarkdown({ differences, changed }: Comparison): string {
  if (differences.length === 0) return nothing(changed);
  const opening = differences.filter(({ effect }) => effect === "opens").length;
  const rows = differences.map((one) =>
    `| **${one.effect}** | ${markdownCell(one.from.name)} | ${markdownCell(one.to.name)} | ${
      markdownCell(formatRanges(one.ports))
    } | ${one.pairs} | ${markdownCell(reasonOf(one))} |\n`
  );
  return `**${opening} open, ${differences.length - opening} close** (${
    changed.map(markdownCell).join(", ")
  })\n\n| | from | to | ports | pairs | because of |\n| --- | --- | --- | --- | --- | --- |\n${
    rows.join("")
  }`;
}

/** Everything, for programs. */
export function comparisonJson({ differences, changed, classes, isCut }: Comparison): string {
  const whole = {
    changed,
    classes,
    complete: !isCut,
    differences: differences.map(({ effect, from, to, ports, pairs, before, now }) => ({
      effect,
      from: endJson(from),
      to: endJson(to),
      ports: formatRanges(ports),
      ranges: ports,
      pairs,
      before: before.map(ruleJson),
      now: now.map(ruleJson),
    })),
  };
  return JSON.stringify(whole, null, 2) + "\n";
}

function nothing(changed: readonly string[]): string {
  return changed.length === 0
    ? "The policies say the same\n"
    : `Nothing opens and nothing closes (changed: ${changed.map(harmless).join(", ")})\n`;
}

function endJson({ name, type, labels }: Difference["from"]) {
  return { name, type, labels: labels === undefined ? undefined : labels.key.split(";") };
}

function ruleJson({ policy, path, file, line }: RuleSource) {
  return { policy, path, file, line };
}
