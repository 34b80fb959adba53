/** Renders entries for people and programs. @module */
import { stringify } from "yaml";
import type { Entry } from "./entry.ts";
import { toSarif } from "./sarif.ts";
import { fileName } from "./sentence.ts";

/** Forms of `-o`. */
export const FORMATS = ["table", "json", "yaml", "sarif"] as const;

/** One of {@link FORMATS}. */
export type Format = (typeof FORMATS)[number];

/** The entries in a form. `verbose` adds the budget of each program to the table. */
export function renderEntries(
  entries: readonly Entry[],
  format: Format,
  options: { verbose?: boolean; version: string },
): string {
  switch (format) {
    case "json":
      return JSON.stringify(entries, null, 2) + "\n";
    case "yaml":
      return stringify(entries, { lineWidth: 0 });
    case "sarif":
      return JSON.stringify(toSarif(entries, options.version), null, 2) + "\n";
    case "table":
      return renderTable(entries) + renderDetails(entries, options.verbose ?? false) + renderSum(entries);
  }
}

function renderTable(entries: readonly Entry[]): string {
  const rows = [["OBJECT", "PROGRAM", "TYPE", "VERDICT", "CODE", "VISITS", "TIME"]];
  for (const entry of entries) {
    rows.push([
      fileName(entry.object),
      entry.program || "-",
      entry.type || "-",
      entry.verdict,
      entry.code || "-",
      String(entry.visits),
      `${(entry.timeUs / 1000).toFixed(1)}ms`,
    ]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()).join(
    "\n",
  ) + "\n";
}

function renderDetails(entries: readonly Entry[], verbose: boolean): string {
  const parts: string[] = [];
  for (const entry of entries) {
    const lines: string[] = [];
    if (entry.verdict !== "accepted") lines.push(...explanationLines(entry));
    if (entry.budget !== null && (verbose || entry.budget.warning !== "")) lines.push(...budgetLines(entry));
    for (const need of entry.missing) {
      lines.push(
        `  needs ${need.name} (${need.kind}), in the kernel since ${need.since}${
          need.at ? `, used at ${need.at}` : ""
        }`,
      );
    }
    if (verbose) lines.push(...entry.notes.map((note) => `  note: ${note}`));
    if (lines.length === 0) continue;
    parts.push([`${fileName(entry.object)} ${entry.program}`.trim() + ":", ...lines].join("\n"));
  }
  return parts.length === 0 ? "" : "\n" + parts.join("\n\n") + "\n";
}

/** The explanation of one entry, the text that people read. */
export function renderExplanation(entry: Entry): string {
  return explanationLines(entry).join("\n") + "\n";
}

function explanationLines(entry: Entry): string[] {
  const lines = [`  ${entry.verdict} ${entry.code}: ${entry.message}`];
  if (entry.line > 0) {
    lines.push(`    at ${fileName(entry.file)}:${entry.line} in ${entry.function}():  ${entry.text}`);
  }
  if (entry.path.length > 0) {
    lines.push(
      `    path:${entry.pathOmitted > 0 ? ` (${entry.pathOmitted} earlier branches left out)` : ""}`,
    );
    for (const step of entry.path) {
      const next = step.nextLine === undefined ? "" : `  -> line ${step.nextLine}`;
      lines.push(`      ${fileName(step.file)}:${step.line}  ${step.text}${next}`);
    }
  }
  if (entry.lostAt !== null) lines.push(`    ${entry.lostAt.label}: ${entry.lostAt.reason}`);
  if (entry.suggestion !== "") lines.push(`    to do: ${entry.suggestion}`);
  return lines;
}

function budgetLines(entry: Entry): string[] {
  const budget = entry.budget!;
  const lines = [
    `  budget: ${budget.visits} of ${budget.visitsMax} visits (${budget.percent}%), ${entry.statesPeak} states at peak, ${
      Math.ceil(entry.memoryPeak / 1024)
    } KiB`,
  ];
  if (budget.warning !== "") lines.push(`  warning: ${budget.warning}`);
  for (const line of budget.lines) {
    lines.push(`    ${String(line.visits).padStart(8)}  ${fileName(line.file)}:${line.line}  ${line.text}`);
  }
  return lines;
}

function renderSum(entries: readonly Entry[]): string {
  const counts = new Map<string, number>();
  for (const entry of entries) counts.set(entry.verdict, (counts.get(entry.verdict) ?? 0) + 1);
  const words = [...counts].map(([verdict, count]) => `${count} ${verdict}`).join(", ");
  const codes = [...new Set(entries.map((entry) => entry.code).filter((code) => code !== ""))];
  const hint = codes.length === 0 ? "" : `; weir verify --explain ${codes[0]} says more`;
  return `\n${entries.length} programs: ${words || "none"}${hint}\n`;
}
