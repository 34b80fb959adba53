/**
 * What changes as SARIF: a warning for what opens, a note for what closes.
 * @module
 */
import { type Comparison, type Difference, formatRanges } from "@weir/policy-engine/offline";
import { reasonOf } from "./deciding_rules.ts";
import { sarifReport, type SarifResult } from "./sarif.ts";

/** The text of the report. */
export function comparisonSarif({ differences }: Comparison): string {
  const rules = { opens: "Connections that open", closes: "Connections that close" };
  return sarifReport("weir policy diff", rules, differences.map(resultOf));
}

function resultOf(difference: Difference): SarifResult {
  const { effect, from, to, ports, pairs, before, now } = difference;
  const rules = now.length > 0 ? now : before, more = pairs > 1 ? `, and ${pairs - 1} more pairs` : "";
  const { file, line } = rules.find(({ file }) => file !== "") ?? { file: "", line: 0 };
  return {
    ruleId: effect,
    level: effect === "opens" ? "warning" : "note",
    text: `${from.name} to ${to.name} ${effect} on ${formatRanges(ports)}${more}: ${reasonOf(difference)}`,
    file,
    line,
  };
}
