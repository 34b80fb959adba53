/**
 * What a check found, for people and for programs.
 * @module
 */
import { type CheckResult, CHECKS, type Finding } from "@weir/policy-engine/check";
import { harmless } from "../harmless_text.ts";
import { table } from "../output.ts";
import { markdownCell } from "./deciding_rules.ts";
import { sarifReport } from "./sarif.ts";

/** One line for each finding, and how many there are. */
export function checkTable({ findings, policies }: CheckResult): string {
  if (findings.length === 0) {
    return `Nothing found in ${policies} ${policies === 1 ? "policy" : "policies"}\n`;
  }
  const rows = findings.map((one) => [
    one.severity.toUpperCase(),
    one.id,
    harmless(placeOf(one)),
    harmless(subjectOf(one)),
    harmless(`${one.says}. ${one.action}`),
  ]);
  return table(["", "CHECK", "WHERE", "POLICY", "WHAT"], rows) + `${countsText(findings)}\n`;
}

/** A table for a review. */
export function checkMarkdown({ findings, policies }: CheckResult): string {
  if (findings.length === 0) return `**Nothing found** in ${policies} policies\n`;
  const rows = findings.map((one) =>
    `| **${one.severity}** | ${one.id} | ${markdownCell(placeOf(one))} | ${markdownCell(subjectOf(one))} | ${
      markdownCell(`${one.says}. ${one.action}`)
    } |\n`
  );
  return `**${
    countsText(findings)
  }**\n\n| | check | where | policy | what |\n| --- | --- | --- | --- | --- |\n${rows.join("")}`;
}

/** Everything, for programs. */
export function checkJson({ findings, policies, workloads, isCut }: CheckResult): string {
  return JSON.stringify({ policies, workloads, complete: !isCut, findings }, null, 2) + "\n";
}

/** For code hosts. */
export function checkSarif({ findings }: CheckResult): string {
  const rules = Object.entries(CHECKS).map(([id, { title }]) => [id, title]);
  return sarifReport(
    "weir policy check",
    Object.fromEntries(rules),
    findings.map(({ id, severity, file, line, column, says, action, ...one }) => ({
      ...{ ruleId: id, level: severity, file, line, column },
      text: `${[subjectOf(one), `${says}. ${action}`].filter((text) => text !== "").join(": ")}`,
    })),
  );
}

function placeOf({ file, line, column }: Finding): string {
  return `${file}:${line}${column > 0 ? `:${column}` : ""}`;
}

function subjectOf({ policy, path }: Pick<Finding, "policy" | "path">): string {
  return [policy, path].filter((text) => text !== "").join(" ");
}

function countsText(findings: readonly Finding[]): string {
  const counts = (["error", "warning", "note"] as const).flatMap((severity) => {
    const count = findings.filter((one) => one.severity === severity).length;
    return count === 0 ? [] : [`${count} ${severity}${count === 1 ? "" : "s"}`];
  });
  return counts.join(", ");
}
