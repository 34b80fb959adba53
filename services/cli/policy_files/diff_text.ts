/**
 * What changes between two sets of policies, for people and for programs.
 * @module
 */
import type { RuleSource } from "@weir/proto/policy";
import { type Comparison, type Difference, formatRanges } from "@weir/policy-engine/offline";
import { harmless } from "../harmless_text.ts";
import { table } from "../output.ts";

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
  const cell = (text: string) => harmless(text).replace(/[|\\`*_<>[\]]/g, (sign) => `\\${sign}`);
  const rows = differences.map((one) =>
    `| **${one.effect}** | ${cell(one.from.name)} | ${cell(one.to.name)} | ${
      cell(formatRanges(one.ports))
    } | ${one.pairs} | ${cell(reasonOf(one))} |\n`
  );
  return `**${opening} open, ${differences.length - opening} close** (${
    changed.map(cell).join(", ")
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

/** What a person has to read: the rules that decide now, or those that did when none does any more. */
export function reasonOf({ effect, before, now }: Pick<Difference, "effect" | "before" | "now">): string {
  if (now.length > 0) return listed(now);
  if (before.length > 0) {
    return `${listed(before)} ${effect === "opens" ? "is gone or changed" : "no longer allows it"}`;
  }
  return "no policy is about it";
}

function listed(sources: readonly RuleSource[]): string {
  const shown = sources.slice(0, 3).map(({ policy, path, file, line }) =>
    `${policy} ${path} (${file === "" ? `line ${line}` : `${file}:${line}`})`
  );
  const more = sources.length - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
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
