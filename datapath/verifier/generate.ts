/**
 * Writes `assembly/gen/`: `tables.ts` from the kernel profile in `profile/`, `codes.ts` from the codes of answers.
 * @module
 */
import { CODES } from "./codes.ts";

const HERE = new URL("./", import.meta.url);
/** Where the files of {@link generateAssembly} belong. */
export const tablesGenDirectory: URL = new URL("assembly/gen/", HERE);

/** Program columns of the profile, in the order of their numbers in the module. */
export const PROGRAM_COLUMNS: string[] = [
  ...rows("helpers_allowed.tsv")[0].slice(2),
  ...rows("helpers_tracing.tsv")[0].slice(2),
];
/** Columns of the first table; those of tracing programs follow. */
const PROBED_COLUMNS = rows("helpers_allowed.tsv")[0].length - 2;

/** What tracing programs may return, as the kernel's check_return_code() says: entry and exit 0, iterators 0 or 1. */
const TRACING_RETURNS: Record<string, [number, number]> = {
  tp_btf: [-1, -1],
  fentry: [0, 0],
  fexit: [0, 0],
  fmod_ret: [-1, -1],
  iter: [0, 1],
};

const ARGUMENTS = [
  "none",
  "any",
  "ctx",
  "map",
  "key",
  "val",
  "uval",
  "mem",
  "mem?",
  "umem",
  "size",
  "size0",
  "asize",
  "u32",
  "u64",
  "sockc",
  "sockb",
  "sockb?",
  "sockref",
  "rbref",
  "func",
  "stack?",
  "any?",
  "memn",
  "fix20",
  "fix40",
  "lock",
  "ctx?",
  "umemi",
  "btask",
  "btask?",
  "bskc",
  "bseq",
  "bpath",
  "bfile",
  "bskb",
  "bxdp",
  "bskc?",
  "str",
  "bcgrp",
  "bcgrp?",
  "timer",
]; // deno-fmt-ignore
const RETURNS = ["int", "void", "value?", "value", "sock?", "skc?", "tcp?", "mem?", "cpu", "btask", "bregs", "btcp6?", "btcp?", "btw?", "breq?", "budp6?", "bunix?", "bmptcp?", "bsocket?"];
const KINDS: Record<string, number> = {
  scalar: 1,
  pkt: 6,
  pkt_end: 8,
  pkt_meta: 7,
  flow_keys: 15,
  sock: 9,
  sock_or_null: 9 | 32,
  sock_common_or_null: 10 | 32,
  trusted_ptr_nf_hook_state: 14,
  trusted_ptr_sk_buff: 14,
}; // deno-fmt-ignore

function text(name: string): string {
  return Deno.readTextFileSync(new URL(`profile/${name}`, HERE));
}
function rows(name: string): string[][] {
  return text(name).trimEnd().split("\n").map((line) => line.split("\t"));
}
function list(name: string, type: string, values: (number | bigint | string)[]): string {
  const body = values.map(String).join(",").replaceAll(/(.{90,110}?),/g, "$1,\n");
  return `export const ${name}: StaticArray<${type}> = [\n${body}\n];\n`;
}

function contextTables(): string {
  const packed: number[] = [], starts: number[] = [], ends: number[] = [];
  // columns that are alike share their entries: the module's memory is made anew for each program
  const known = new Map<string, number>();
  const all = rows("ctx_access.tsv").slice(1);
  for (const column of PROGRAM_COLUMNS) {
    const entries: number[] = [];
    for (const [prog, off, size, access, result, reg] of all) {
      if (prog !== column || result !== "ok") continue;
      const kind = access === "W" ? 1 : KINDS[reg];
      if (kind === undefined) throw new Error(`ctx_access.tsv: unknown register kind ${reg}`);
      entries.push(
        (Number(off) | (Number(size) << 16) | ((access === "W" ? 1 : 0) << 20) | (kind << 24)) >>> 0,
      );
    }
    const key = entries.join();
    let start = known.get(key);
    if (start === undefined) {
      known.set(key, start = packed.length);
      packed.push(...entries);
    }
    starts.push(start);
    ends.push(start + entries.length);
  }
  return "/* offset 16 | size 4 | write 1 | unused 3 | kind 5, nullable 1 */\n" +
    list("CTX", "u32", packed) + list("CTX_START", "u32", starts) + list("CTX_END", "u32", ends);
}

function helperTables(): string {
  const allowed: bigint[] = new Array(256).fill(0n);
  for (const row of rows("helpers_allowed.tsv").slice(1)) {
    let mask = 0n;
    row.slice(2).forEach((v, i) => mask |= v === "1" ? 1n << BigInt(i) : 0n);
    allowed[Number(row[0])] = mask;
  }
  for (const row of rows("helpers_tracing.tsv").slice(1)) {
    row.slice(2).forEach((v, i) => {
      if (v === "1") allowed[Number(row[0])] |= 1n << BigInt(PROBED_COLUMNS + i);
    });
  }
  const names: string[] = new Array(256).fill("");
  for (const row of rows("helpers_allowed.tsv").slice(1)) names[Number(row[0])] = row[1];
  const contract: number[] = new Array(256 * 8).fill(0);
  for (const line of text("helper_contracts.txt").split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [id, name, returns, flags, ...args] = line.split(" ");
    const at = Number(id) * 8;
    names[Number(id)] = name;
    const ret = RETURNS.indexOf(returns);
    if (ret < 0) throw new Error(`helper_contracts.txt: ${line}`);
    let bits = 1;
    for (const flag of flags) if (flag !== "-") bits |= 2 << "gpksr".indexOf(flag);
    contract[at] = bits;
    contract[at + 1] = ret;
    args.forEach((arg, i) => {
      const kind = ARGUMENTS.indexOf(arg);
      if (kind < 0) throw new Error(`helper_contracts.txt: ${line}`);
      contract[at + 2 + i] = kind;
    });
  }
  return list("ALLOWED", "u64", allowed.map((v) => `0x${v.toString(16)}`)) +
    "/* per helper: flags (1 known, 2 GPL, 4 packet changed, 8 packet pointers, 16 sleepable, 32 bounded result) | result | 5 arguments | unused */\n" +
    list("CONTRACT", "u8", contract) + nameText(names) +
    helperNumbers(names) +
    ARGUMENTS.map((a, i) => `export const A_${constant(a)}: u8 = ${i};\n`).join("") +
    RETURNS.map((a, i) => `export const R_${constant(a)}: u8 = ${i};\n`).join("");
}

/** One text for all names, for each text of its own has a header. */
function nameText(names: string[]): string {
  const all = JSON.stringify(names.join(" ").trimEnd());
  return `/* by number, a space after each */\nexport const HELPER_NAMES: string =\n${all};\n`;
}

function constant(name: string): string {
  return name.toUpperCase().replace("?", "_NULL");
}

function returnTables(): string {
  const ranges: number[] = [];
  const all = rows("retval_range.tsv").slice(1);
  for (const column of PROGRAM_COLUMNS) {
    if (Object.hasOwn(TRACING_RETURNS, column)) {
      ranges.push(...TRACING_RETURNS[column]);
      continue;
    }
    const row = all.find((r) => r[0] === column);
    if (!row) throw new Error(`retval_range.tsv: no row for ${column}`);
    const values = row[1] === "all" ? [-1, -1] : row[1].split(",").map(Number);
    ranges.push(values[0], values[values.length - 1]);
  }
  return "/* lowest, highest; -1, -1: anything */\n" + list("RETURN_RANGE", "i32", ranges);
}

/** A constant per code, and the verdict number of each: its class, in the order of the report's verdicts. */
function generateCodes(): string {
  const classes: number[] = new Array(256).fill(4);
  const order = ["accepted", "unsafe", "not-proved", "unsupported", "limit"];
  for (const code of CODES.values()) classes[code.number] = order.indexOf(code.class);
  return "// Generated by datapath/verifier/generate.ts from codes.ts. Do not edit.\n" +
    [...CODES.values()].map(({ name, number }) =>
      `export const ${name.toUpperCase().replaceAll("-", "_")}: i32 = ${number};\n`
    ).join("") + "/* code to verdict */\n" + list("CODE_CLASS", "u8", classes) +
    "export function codeClass(code: i32): u32 { return CODE_CLASS[code & 255]; }\n";
}

/** A constant per helper: its number. */
function helperNumbers(names: string[]): string {
  return names.map((name, id) => name === "" ? "" : `export const H_${name.toUpperCase()}: i32 = ${id};\n`)
    .join("");
}

/** The generated sources by file name. */
export function generateAssembly(): Map<string, string> {
  return new Map([["codes.ts", generateCodes()], ["tables.ts", generateTables()]]);
}

function generateTables(): string {
  return "// Generated by datapath/verifier/generate.ts from profile/. Do not edit.\n" +
    PROGRAM_COLUMNS.map((c, i) => `export const P_${c.toUpperCase().replaceAll("/", "_")}: i32 = ${i};\n`)
      .join("") +
    contextTables() + helperTables() + returnTables();
}
