/**
 * What changes as SARIF 2.1.0, which code hosts show beside the lines: a warning for what opens, a note for what closes.
 * @module
 */
import { WEIR_VERSION } from "@weir/common/version";
import { type Comparison, type Difference, formatRanges } from "@weir/policy-engine/offline";
import { reasonOf } from "./deciding_rules.ts";

/** The text of the report. */
export function comparisonSarif({ differences }: Comparison): string {
  const report = {
    version: "2.1.0",
    runs: [{
      tool: {
        driver: {
          name: "weir policy diff",
          version: WEIR_VERSION,
          rules: [
            { id: "opens", shortDescription: { text: "Connections that open" } },
            { id: "closes", shortDescription: { text: "Connections that close" } },
          ],
        },
      },
      results: differences.map(resultOf),
    }],
  };
  return JSON.stringify(report, null, 2) + "\n";
}

function resultOf(difference: Difference) {
  const { effect, from, to, ports, pairs, before, now } = difference;
  const rules = now.length > 0 ? now : before, more = pairs > 1 ? `, and ${pairs - 1} more pairs` : "";
  return {
    ruleId: effect,
    level: effect === "opens" ? "warning" : "note",
    message: {
      text: `${from.name} to ${to.name} ${effect} on ${formatRanges(ports)}${more}: ${reasonOf(difference)}`,
    },
    locations: rules.filter(({ file }) => file !== "").slice(0, 1).map(({ file, line }) => ({
      physicalLocation: { artifactLocation: { uri: file }, region: { startLine: Math.max(1, line) } },
    })),
  };
}
