/** What sentences about findings are made of: operands, and the words of the source for them. @module */
import { MAP_TYPES, type SourceMap } from "@weir/object";
import type { VerifyReport } from "@weir/verifier";
import { helperName } from "./kernel_versions.ts";
import {
  argumentsIn,
  describeValue,
  fieldIn,
  nameOfRegister,
  withoutCasts,
  wordsOfRegister,
} from "./source_words.ts";

/** A finding, ready to be said. */
export interface Context {
  readonly report: VerifyReport;
  readonly source: SourceMap;
  /** Operand as a number. */
  n(index: number): number;
  /** Operand as text. */
  s(index: number): string;
  /** Name of the register in an operand. */
  reg(index: number): string;
  /** Map by the handle in an operand. */
  map(index: number): string;
  /** "read" or "written" by the instruction found. */
  readonly verb: string;
  /** First and last byte that an access may touch, in two operands: `34..37`. */
  span(low: number, high: number): string;
  /** The program's type in words, "a tc program". */
  readonly kind: string;
}

/** Says one code. */
export type Say = (c: Context) => string;

export function contextOf(report: VerifyReport, source: SourceMap, programKind: string): Context {
  const n = (index: number): number => Number(report.operands[index] ?? 0);
  const kind = source.instructionAt(report.instruction).opcode & 7;
  return {
    report,
    source,
    kind: programKind,
    n,
    s: (index) => String(report.operands[index] ?? "?"),
    reg: (index) => wordsOfRegister(n(index), report.instruction, report.registers, source),
    map: (index) => source.mapName(n(index)) ?? String(n(index)),
    verb: kind === 2 || kind === 3 ? "written" : "read",
    span: (low, high) => {
      const first = n(low), last = n(high);
      if (first === last) return `${first}`;
      if (last - first <= 0xffff) return `${first}..${last}`;
      if (first >= -0xffff) return `${first} and anywhere beyond`;
      return last <= 0xffff ? `${last} and anywhere before` : "anywhere before and beyond";
    },
  };
}

/** How a pointer became a number at the report's `lostAt`. */
export function howLost(report: VerifyReport, source: SourceMap): "packet" | "released" | "overwritten" {
  const { opcode, src, immediate } = source.instructionAt(report.lostAt);
  if (opcode !== 0x85) return "overwritten";
  const name = src === 0 ? helperName(immediate) : "";
  if (/release|ringbuf_(submit|discard)/.test(name)) return "released";
  return /read|get_|load_|lookup|strto/.test(name) ? "overwritten" : "packet";
}

export const LOST = {
  packet: "was a packet pointer until",
  released: "was released at",
  overwritten: "was saved on the stack and overwritten there at",
} as const;

export function packet(c: Context): string {
  const proved = c.n(4);
  const what = `${upper(c.reg(0))} (packet pointer, ${bytes(proved)} proved)`;
  const missing = proved <= 0 && c.report.lostAt >= 0
    ? "the check made before no longer counts"
    : proved <= 0
    ? "no check against data_end covers it"
    : `the last check proves only ${proved}`;
  return `${what} is ${c.verb} at ${c.span(2, 3)}; ${missing}`;
}

/** The register through which memory is accessed. */
export function base(c: Context): string {
  const { opcode, dst, src } = c.source.instructionAt(c.report.instruction);
  const register = (opcode & 7) === 1 ? src : dst;
  return wordsOfRegister(register, c.report.instruction, c.report.registers, c.source);
}

/** A register by the value that was assigned to it: `value = bpf_map_lookup_elem(...)` is found in the line of the access. */
export function variable(c: Context, operand: number): string {
  const register = c.n(operand), name = nameOfRegister(register, c.report.instruction, c.source);
  if (name !== `r${register}`) return name;
  const line = c.source.lineAt(c.report.instruction);
  const word = /\b([A-Za-z_]\w*)\s*(?:\+=|-=|\+\+|--)/.exec(line?.text ?? "")?.[1] ??
    /^\s*(?:return|if)\b\s*\(?\s*([A-Za-z_]\w*)\b(?!\s*\()/.exec(line?.text ?? "")?.[1];
  return word === undefined ? c.reg(operand) : `\`${word}\``;
}

export function valueOf(c: Context, operand: number, otherwise: string): string {
  const value = c.report.registers[c.n(operand)];
  // Kernel pointers say their struct in the operand.
  if (value?.kind === "kernel pointer") return otherwise.replace(/ or NULL$/, "");
  return value === undefined ? otherwise : describeValue({ ...value, maybeNull: false }, c.source);
}

export function contextField(c: Context, what = "the context"): string {
  const field = fieldIn(c.source.lineAt(c.report.instruction));
  return field === undefined ? `Offset ${c.n(0)} of ${what}` : `\`${field}\` (offset ${c.n(0)} of ${what})`;
}

export function stackVariable(c: Context): string {
  const line = c.source.lineAt(c.report.instruction);
  const maps = new Set(c.source.maps.map((map) => map.name));
  const text = line?.text.slice(Math.max(0, line.column - 1)) ?? "";
  const taken = [...text.matchAll(/&\s*([A-Za-z_]\w*)/g)].map((found) => found[1]).find((name) =>
    !maps.has(name)
  );
  return taken === undefined ? "A local variable is" : `\`${taken}\` is`;
}

export function bytes(count: number): string {
  return count === 1 ? "1 byte" : `${count} bytes`;
}

export function bytesAt(c: Context): string {
  const span = c.span(2, 3);
  return span.includes("..") ? `bytes ${span} are` : `byte ${span} is`;
}

export function helper(c: Context, operand: number): string {
  const name = c.s(operand);
  return name.startsWith("bpf_") || name.includes(" ") ? name : `bpf_${name}`;
}

/** ` (`&key`)`: how the argument is written in the source. */
export function passed(c: Context, callee: string = helper(c, 1)): string {
  const list = argumentsIn(c.source.lineAt(c.report.instruction), callee);
  const text = list?.[c.n(0) - 1];
  if (text === undefined || text.length > 60) return "";
  return ` (\`${withoutCasts(text).trim()}\`)`;
}

/** An instruction as a source place: `nat.h:120`. */
export function placeOf(source: SourceMap, instruction: number): string {
  const line = source.lineAt(instruction);
  return line === undefined ? `instruction ${instruction}` : `${fileName(line.file)}:${line.line}`;
}

export function place(c: Context, instruction: number, word?: string): string {
  const line = c.source.lineAt(instruction);
  if (line === undefined) return `${word ?? "instruction"} ${instruction}`;
  return `${fileName(line.file)}:${line.line}`;
}

/**
 * Whether a register's number, or the variable part of its offset, may be negative as the source's `int`: it has an upper
 * bound and no lower one. What was never compared at all is not meant.
 */
export function mayBeNegative({ report }: Pick<Context, "report">, register: number): boolean {
  const value = report.registers[register];
  return value !== undefined && ((value.s32min < 0 && value.s32max < 0x7fff_ffff) ||
    (value.smin < 0n && value.smax < 1n << 62n));
}

/** "an array map" of a map type's number. */
export function typeOfMap(type: number): string {
  const name = MAP_TYPES[type];
  return name === undefined ? "a map of a type that is not known" : `${article(name)} map`;
}

/** The last part of a path. */
export function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function article(noun: string): string {
  return /^(a|an|the) /.test(noun)
    ? noun
    : /^([aeio]|u(?!s)|[x](dp|sk)|l(?=ru|sm|pm|wt)|sk_)/i.test(noun)
    ? `an ${noun}`
    : `a ${noun}`;
}

export function upper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
