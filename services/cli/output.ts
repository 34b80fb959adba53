/**
 * Output in kubectl's forms: table, wide, json, yaml.
 *
 * @module
 */
import { stringify } from "yaml";
import { UsageError } from "./context.ts";

/** Forms of `-o`. */
export type OutputForm = "table" | "wide" | "json" | "yaml";

/** One column of a table. */
export interface Column<Row> {
  readonly title: string;
  /** Text of the cell; empty becomes "-". */
  readonly cell: (row: Row) => string | number | boolean | undefined | null;
  /** Shown with `-o wide` only. */
  readonly wide?: boolean;
}

/** Reads the value of `-o`; undefined is the table. */
export function outputForm(value: string | undefined): OutputForm {
  if (value === undefined || value === "table") return "table";
  if (value === "wide" || value === "json" || value === "yaml") return value;
  throw new UsageError(`Unknown output form "${value}": expected table, wide, json or yaml`);
}

/** Writes rows in the form asked for. `json` and `yaml` print `whole` as it is (by default the rows). */
export function render<Row>(
  rows: readonly Row[],
  columns: Column<Row>[],
  form: OutputForm,
  whole: unknown = rows,
): string {
  if (form === "json") return JSON.stringify(whole, null, 2) + "\n";
  if (form === "yaml") return stringify(whole);
  const shown = columns.filter((column) => form === "wide" || !column.wide);
  return table(
    shown.map((column) => column.title),
    rows.map((row) => shown.map((column) => show(column.cell(row)))),
  );
}

/** A table with columns three spaces apart; the last column is not padded. */
export function table(titles: string[], rows: string[][]): string {
  const widths = titles.map((title, index) =>
    Math.max(width(title), ...rows.map((row) => width(row[index] ?? "")))
  );
  const line = (cells: string[]) =>
    cells.map((cell, index) =>
      index === cells.length - 1 ? cell : cell + " ".repeat(widths[index] - width(cell))
    )
      .join("   ").trimEnd();
  return [titles, ...rows].map(line).join("\n") + "\n";
}

function show(value: string | number | boolean | undefined | null): string {
  if (value === undefined || value === null || value === "") return "-";
  return String(value);
}

// deno-lint-ignore no-control-regex
const COLOUR = /\x1b\[[0-9;]*m/g;

/** Width on the screen: colours take no room. */
function width(text: string): number {
  return text.replace(COLOUR, "").length;
}

/** Age as kubectl shows it: 5s, 3m12s, 2h5m, 4d. */
export function age(sinceUnixS: number, nowUnixS: number): string {
  if (!sinceUnixS) return "-";
  const seconds = Math.max(0, Math.floor(nowUnixS - sinceUnixS));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}
