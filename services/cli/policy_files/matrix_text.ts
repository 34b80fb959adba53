/**
 * A matrix for people and for programs. Its table has a line for each source and a column for each destination:
 *
 *     FROM \ TO    1     2    3         all   every port
 *     1 shop/web   all   a    -         a     a set of ports, named below
 *     2 shop/db    -     all  -         a*    some of them by L7 rules
 *
 * @module
 */
import {
  type End,
  formatRanges,
  type Matrix,
  type MatrixCell,
  type PortRange,
} from "@weir/policy-engine/offline";
import { table } from "../output.ts";

/** The pairs that reach each other, one line each. */
export function matrixList(matrix: Matrix): string {
  const rows = matrix.cells.filter(({ ports }) => ports.length > 0).map(({ from, to, ports, judged }) => [
    from.name,
    to.name,
    formatRanges(ports),
    judged.length === 0 ? "-" : formatRanges(judged),
  ]);
  return table(["FROM", "TO", "PORTS", "BY L7 RULES"], rows);
}

/** Everything, for programs. */
export function matrixJson({ ends, cells }: Matrix): string {
  const whole = {
    ends: ends.map(({ name, type }) => ({ name, type })),
    pairs: cells.map(({ from, to, ports, judged }) => ({
      from: from.name,
      to: to.name,
      ports: formatRanges(ports),
      ranges: ports,
      judged,
    })),
  };
  return JSON.stringify(whole, null, 2) + "\n";
}

/** A grid, and what its letters mean. */
export function matrixTable(matrix: Matrix): string {
  const { ends } = matrix, letters = new Map<string, string>(), cellOf = cellsByPair(matrix);
  const rows = ends.map((from, at) => [
    `${at + 1} ${from.name}`,
    ...ends.map((to) => markOf(cellOf(from, to), letters)),
  ]);
  const titles = ["FROM \\ TO", ...ends.map((_, at) => `${at + 1}`)];
  const legend = [...letters].map(([ports, letter]) => `${letter}   ${ports}\n`).join("");
  const judged = matrix.cells.some(({ judged }) => judged.length > 0)
    ? "*   L7 rules judge each request on some of them\n"
    : "";
  return `${table(titles, rows, true)}${legend === "" && judged === "" ? "" : "\n"}${legend}${judged}`;
}

/** Finds the cell of a pair. */
export function cellsByPair({ cells }: Matrix): (from: End, to: End) => MatrixCell | undefined {
  const byFrom = new Map<End, Map<End, MatrixCell>>();
  for (const cell of cells) {
    const row = byFrom.get(cell.from) ?? new Map<End, MatrixCell>();
    byFrom.set(cell.from, row.set(cell.to, cell));
  }
  return (from, to) => byFrom.get(from)?.get(to);
}

function markOf(cell: MatrixCell | undefined, letters: Map<string, string>): string {
  if (cell === undefined) return "";
  const { ports, judged } = cell, star = judged.length > 0 ? "*" : "";
  if (ports.length === 0) return "-";
  return setName(ports, letters) + star;
}

/** `all`, or the letters of a set of ports: a, b, ... z, aa, ab. */
function setName(ports: readonly PortRange[], letters: Map<string, string>): string {
  const text = formatRanges(ports);
  if (text === "all") return text;
  const known = letters.get(text) ?? lettersOf(letters.size);
  letters.set(text, known);
  return known;
}

function lettersOf(number: number): string {
  const last = String.fromCharCode(97 + number % 26);
  return number < 26 ? last : lettersOf(Math.floor(number / 26) - 1) + last;
}
