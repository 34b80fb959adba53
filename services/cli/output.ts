/**
 * Output in kubectl's forms: table, wide, json, yaml.
 *
 * @module
 */
import { UsageError } from "./context.ts";
import { harmless } from "./harmless_text.ts";
import { paint, PLAIN, type Screen, strong, tellsState } from "./screen.ts";
import { didYouMean } from "./suggestion.ts";
import { yamlText } from "./yaml_text.ts";

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
  throw new UsageError(
    `Unknown output form "${value}"${
      didYouMean(value, ["table", "wide", "json", "yaml"])
    }: expected table, wide, json or yaml`,
  );
}

/** Writes rows in the form asked for. `json` and `yaml` print `whole` as it is (by default the rows). */
export function render<Row>(
  rows: readonly Row[],
  columns: Column<Row>[],
  form: OutputForm,
  whole: unknown = rows,
): string {
  if (form === "json" || form === "yaml") return written(whole, form);
  const shown = columns.filter((column) => form === "wide" || !column.wide);
  return table(
    shown.map((column) => column.title),
    rows.map((row) => shown.map((column) => show(column.cell(row)))),
    form === "wide",
  );
}

/** One object in both forms: YAML says what JSON says, without anchors and what JSON leaves out. */
function written(whole: unknown, form: "json" | "yaml"): string {
  const json = JSON.stringify(whole, null, 2);
  return form === "json" ? json + "\n" : yamlText(JSON.parse(json));
}

/**
 * A table with columns three spaces apart; the last column is not padded. On a terminal the widest columns are shortened
 * until a line fits, unless `whole`. Cells are words that others may have written: no terminal obeys them, and none begins a line.
 */
export function table(titles: string[], cells: string[][], whole = false): string {
  const rows = cells.map((row) => row.map(harmless));
  const wanted = titles.map((title, index) =>
    rows.reduce((most, row) => Math.max(most, width(row[index] ?? "")), width(title))
  );
  const widths = whole ? wanted : fit(wanted, titles, screen.columns);
  const line = (cells: string[], finish: (cell: string, index: number) => string) =>
    cells.map((cell, index) => {
      const text = shorten(cell, widths[index]);
      const padding = index === cells.length - 1 ? "" : " ".repeat(widths[index] - width(text));
      return finish(text, index) + padding;
    }).join(" ".repeat(GAP)).trimEnd();
  const state = titles.map((title) => tellsState(title.trim()));
  return [
    line(titles, (cell) => strong(cell, screen)),
    ...rows.map((row) => line(row, (cell, index) => state[index] ? paint(cell, screen) : cell)),
  ].join("\n") + "\n";
}

/** What a watch says of an object that is gone, in the form of its other answers. */
export function deletedText(form: OutputForm, name: string, node?: string): string {
  const whole = { ...(node === undefined ? {} : { node }), name, deleted: true };
  if (form === "json" || form === "yaml") return written(whole, form);
  return `${node === undefined ? "" : `${node}   `}${name}   deleted\n`;
}

const GAP = 3;
/** No column is made narrower than this, nor than its title. */
const COLUMN_MIN = 10;
let screen: Screen = PLAIN;

/** Says what tables are written to; plain text of any width until then. */
export function showOn(one: Screen): void {
  screen = one;
}

/** What tables are written to. */
export function currentScreen(): Screen {
  return screen;
}

/** Columns by which a row is known: the others give first. */
const NAMES = /^(NAME|POD|NODE|SERVICE|HOLDER|PREFIX|FRONTEND)$/;

/** Widths that fit into `columns`: the widest gives first, names last. What cannot be made to fit stays too wide. */
function fit(wanted: number[], titles: string[], columns: number | undefined): number[] {
  const widths = [...wanted];
  if (columns === undefined) return widths;
  let over = widths.reduce((sum, one) => sum + one + GAP, -GAP) - columns;
  const least = wanted.map((one, index) => Math.min(one, Math.max(COLUMN_MIN, width(titles[index]))));
  for (const namesToo of [false, true]) {
    while (over > 0) {
      let widest = -1;
      for (let index = 0; index < widths.length; index++) {
        if (widths[index] <= least[index] || (!namesToo && NAMES.test(titles[index].trim()))) continue;
        if (widest < 0 || widths[index] > widths[widest]) widest = index;
      }
      if (widest < 0) break;
      widths[widest]--;
      over--;
    }
  }
  return widths;
}

function shorten(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  return `${[...text].slice(0, columns - 1).join("")}…`;
}

function show(value: string | number | boolean | undefined | null): string {
  if (value === undefined || value === null || value === "") return "-";
  return String(value);
}

/** Width on the screen, of text without colours. */
function width(text: string): number {
  return [...text].length;
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

/** "1 policy", "2 policies"; "? policies" where the number is not known. */
export function numbered(count: number | undefined, one: string, many: string): string {
  return `${count ?? "?"} ${count === 1 ? one : many}`;
}
