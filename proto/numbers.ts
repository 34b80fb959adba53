/**
 * The numbers that programs, messages and people share, each in one table of `numbers/`: drop reasons, trace points, match
 * types, ... From them are generated the programs' header, the enum of drop reasons and `gen/numbers.ts`.
 * @module
 */

/** A line of a table. */
export interface NumberRow {
  readonly number: number;
  /** In C, behind the table's prefix; "": the programs have no name for it. */
  readonly c: string;
  /** Enumerator in the messages, "" where there is none. */
  readonly name: string;
  /** What people read, "" where there is nothing but the name. */
  readonly text: string;
  readonly deprecated: boolean;
}

/** Tables by what they are called in TypeScript. */
export const NUMBER_TABLES = [
  { name: "DROP_REASONS", file: "drop_reasons.tsv", prefix: "DROP_", one: "DROP" },
  { name: "TRACE_POINTS", file: "trace_points.tsv", prefix: "TRACE_", one: "TRACE" },
  { name: "TRACE_REASONS", file: "trace_reasons.tsv", prefix: "REASON_", one: "REASON" },
  { name: "MATCH_TYPES", file: "match_types.tsv", prefix: "MATCH_", one: "MATCH" },
  { name: "EVENT_TYPES", file: "event_types.tsv", prefix: "EVENT_", one: "EVENT" },
  { name: "TROUBLES", file: "troubles.tsv", prefix: "TROUBLE_", one: "TROUBLE" },
  { name: "EVENT_FLAGS", file: "event_flags.tsv", prefix: "EVENT_", one: "EVENT_FLAG" },
  { name: "EVENT_FILES", file: "event_files.tsv", prefix: "FILE_", one: "FILE" },
  { name: "FAILSAFES", file: "failsafes.tsv", prefix: "FAILSAFE_", one: "FAILSAFE" },
  { name: "DATAGRAM_LEGS", file: "datagram_legs.tsv", prefix: "DATAGRAM_", one: "DATAGRAM" },
] as const;

/** Numbers that Cilium has for drop reasons, and those that are ours. */
const CILIUM_DROPS_MAX = 205, OWN_DROPS_MIN = 240, OWN_DROPS_MAX = 254;

/** Reads a table. @throws what is wrong with which line */
export function parseNumbers(source: string, file: string): { doc: string; rows: NumberRow[] } {
  const rows: NumberRow[] = [], doc: string[] = [], seen = new Set<string>();
  let last = -1;
  for (const [at, line] of source.split("\n").entries()) {
    if (line === "") continue;
    if (line.startsWith("#")) {
      doc.push(line.slice(1).trim());
      continue;
    }
    const fault = (what: string) => new Error(`Cannot read ${file}, line ${at + 1}: ${what}`);
    const cells = line.split("\t"), [number, c, name, text, note] = cells;
    if (cells.length < 4 || cells.length > 5) throw fault(`${cells.length} columns, expected 4 or 5`);
    if (!/^\d+$/.test(number) || Number(number) > 255) throw fault(`number "${number}", expected 0 to 255`);
    if (Number(number) <= last) throw fault(`number ${number} does not come after ${last}`);
    if (note !== undefined && note !== "deprecated") throw fault(`"${note}", expected "deprecated"`);
    for (const [kind, word] of [["c", c], ["name", name]] as const) {
      if (word === "-") continue;
      if (!/^[A-Z][A-Z0-9_]*$/.test(word)) throw fault(`name "${word}", expected capitals`);
      if (seen.has(`${kind} ${word}`)) throw fault(`${word} is there already`);
      seen.add(`${kind} ${word}`);
    }
    last = Number(number);
    const plain = (word: string) => word === "-" ? "" : word;
    rows.push({
      number: last,
      c: plain(c),
      name: plain(name),
      text: plain(text),
      deprecated: note !== undefined,
    });
  }
  return { doc: doc.join("\n"), rows };
}

/** Every table as it is on disk. */
export function readNumbers(): Map<typeof NUMBER_TABLES[number], { doc: string; rows: NumberRow[] }> {
  const tables = new Map(NUMBER_TABLES.map((table) => {
    const url = new URL(`numbers/${table.file}`, import.meta.url);
    return [table, parseNumbers(Deno.readTextFileSync(url), `proto/numbers/${table.file}`)];
  }));
  for (const { number, name, text } of tables.get(NUMBER_TABLES[0])!.rows) {
    const ours = number >= OWN_DROPS_MIN && number <= OWN_DROPS_MAX;
    if (!ours && number > CILIUM_DROPS_MAX) {
      throw new Error(
        `Drop reason ${number} is neither Cilium's (to ${CILIUM_DROPS_MAX}) nor ours (from 240)`,
      );
    }
    if (name === "" || (ours && text === "")) {
      throw new Error(`Drop reason ${number} has no name or no words`);
    }
  }
  return tables;
}

/** `gen/numbers.ts`. */
export function numbersSource(header: string): string {
  let out = header.replace(".proto files", "tables in proto/numbers") +
    'import type { NumberRow } from "../numbers.ts";\n';
  for (const [{ name, one }, { doc, rows }] of readNumbers()) {
    out += `\n/** ${doc.split("\n")[0]} */\nexport const ${name}: readonly NumberRow[] = [\n`;
    for (const row of rows) out += `  ${JSON.stringify(row)},\n`;
    out += `];\n/** Numbers of {@link ${name}} by their names in C. */\nexport const ${one} = {\n`;
    for (const { c, number } of rows) if (c !== "") out += `  ${c}: ${number},\n`;
    out += "} as const;\n";
  }
  return out;
}

/** `flow/gen/drop_reason.proto`. */
export function dropReasonProto(): string {
  const { rows } = [...readNumbers()][0][1];
  const line = (row: NumberRow) =>
    `  ${row.name} = ${row.number}${row.deprecated ? " [deprecated = true]" : ""};\n`;
  return "// Generated by proto/generate.ts from proto/numbers/drop_reasons.tsv. Do not edit.\n" +
    'syntax = "proto3";\npackage flow;\n\n' +
    `enum DropReason {\n  DROP_REASON_UNKNOWN = 0;\n${rows.map(line).join("")}}\n`;
}
