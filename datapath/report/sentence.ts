/** Says a finding in one sentence, in the names of the source. @module */
import { CORE_POISON_HELPER, MAP_TYPES, PROGRAM_TYPES, type SourceMap } from "@weir/object";
import { reportMessage, type VerifyReport } from "@weir/verifier";
import { helperName } from "./kernel_versions.ts";
import { argumentsIn, describeValue, fieldIn, nameOfRegister } from "./source_words.ts";

interface Context {
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

type Say = (c: Context) => string;

/** Sentences for the codes whose template names registers or offsets; the other templates are sentences already. */
const SENTENCES: Readonly<Record<number, Say>> = {
  16: (c) =>
    `The functions of this call chain need ${c.n(0)} bytes of stack together; a program has ${c.n(1)}`,
  17: (c) => `The loop at ${place(c, c.n(0))} comes round again with nothing changed, so it never ends`,
  12: (c) => `${place(c, c.n(0), "Instruction")} can never be reached`,
  30: (c) =>
    `Verification stopped after ${c.n(0)} instruction visits: the program has too many different paths`,
  40: (c) => `${upper(variable(c, 0))} is used on a path on which it was never given a value`,
  41: (c) =>
    `\`${c.s(1)}\` on ${c.reg(0)}, a ${
      c.s(2)
    }: only adding to and subtracting from a pointer keeps it a pointer`,
  42: (c) =>
    `A number that is not known before the program runs (${c.n(2)}..${c.n(3)}) is added to ${c.reg(0)}, a ${
      c.s(1)
    }`,
  44: (c) => `${upper(variable(c, 0))} may be NULL and is moved before it is checked`,
  60: (c) =>
    c.report.lostAt >= 0
      ? `${upper(c.reg(0))} ${LOST[howLost(c.report, c.source)]} ${
        place(c, c.report.lostAt)
      }; since then it is only a number, and is ${c.verb} through`
      : `${upper(c.reg(0))} is ${article(c.s(1))}, not a pointer, and is ${c.verb} through`,
  61: (c) =>
    `${upper(c.reg(0))} (${valueOf(c, 0, c.s(1))}) may be NULL and is ${c.verb} through without a check`,
  62: (c) =>
    `${upper(base(c))} is a local variable, but stack bytes ${c.n(1)}..${
      c.n(2)
    } may be ${c.verb}; a function has -512..-1`,
  63: (c) =>
    `${c.n(0)} bytes at stack offset ${c.n(1)} are ${c.verb}; they must start at a multiple of ${c.n(0)}`,
  64: (c) =>
    `${stackVariable(c)} used before it was written: bytes ${c.n(0)}..${
      c.n(1)
    } of the stack hold no value on this path`,
  66: (c) =>
    `The value of map \`${c.map(0)}\` has ${c.n(4)} bytes, but bytes ${c.span(2, 3)} are ${c.verb} through ${
      base(c)
    }`,
  68: (c) => `Map \`${c.map(0)}\` is read-only for programs, but is written through ${base(c)}`,
  69: (c) => `Map \`${c.map(0)}\` is write-only for programs, but is read through ${base(c)}`,
  70: (c) => packet(c),
  72: (c) =>
    `${upper(c.reg(0))} (packet pointer) was moved by a number without a useful upper bound (${c.n(1)}..${
      c.s(2)
    })`,
  73: (c) =>
    / tracing program/.test(c.kind)
      ? `Argument ${Math.floor(c.n(0) / 8) + 1} (offset ${c.n(0)} of the context) cannot be ${c.s(2)} with ${
        bytes(c.n(1))
      }: what the program is attached to has no such argument`
      : `${contextField(c)} cannot be ${c.s(2)} with ${bytes(c.n(1))} in ${c.kind}`,
  75: (c) => `${upper(c.reg(0))} points to ${c.n(4)} bytes, but ${bytesAt(c)} ${c.verb}`,
  76: (c) => `${upper(c.reg(0))} (${c.s(1)}) is read-only memory, but is written`,
  78: (c) => `${c.n(0)} bytes at offset ${c.n(1)} through ${c.reg(2)} are not aligned`,
  86: (c) =>
    `${upper(c.reg(0))} points to ${c.s(1)} (${bytes(c.n(2))}), and ${bytes(c.n(3))} at offset ${
      c.n(4)
    } are read: ${c.s(5)}`,
  87: (c) =>
    `${upper(c.reg(0))} points to ${c.s(1)} of the kernel, which programs may only read, and is written`,
  88: (c) =>
    `${
      upper(c.reg(0))
    } points to kernel memory that no struct describes, so nobody knows how far it may be read`,
  89: (c) => `Fields of ${c.s(1)} may be read only by programs with a GPL-compatible licence`,
  90: (c) => `${upper(c.reg(0))} points to ${c.s(1)}, which cannot be used directly`,
  100: (c) =>
    c.n(0) === CORE_POISON_HELPER
      ? "A field or type that is used here does not exist in the kernel whose types were given"
      : `There is no helper number ${c.n(0)}`,
  101: (c) => `${helper(c, 1)}() cannot be called by ${c.kind}`,
  102: (c) => `${helper(c, 1)}() may only be called by programs with a GPL-compatible licence`,
  103: (c) =>
    `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is ${article(c.s(2))}; it takes: ${c.s(3)}`,
  104: (c) => `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} may be NULL`,
  105: (c) =>
    `The size in argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is not bounded (${c.s(2)}..${c.s(3)})`,
  106: (c) => `The size in argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} may be zero`,
  107: (c) => `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} must be a constant`,
  108: (c) => `${helper(c, 1)}() does not work on map \`${c.map(0)}\``,
  116: (c) =>
    `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is an untrusted ${
      c.s(2)
    }: what it points to may be gone`,
  120: (c) => `The ${c.s(0)} acquired at ${place(c, c.n(1))} is not released on this path`,
  121: (c) =>
    c.report.lostAt >= 0
      ? `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} was released before, at ${
        place(c, c.report.lostAt)
      }`
      : `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} holds nothing that could be released`,
  122: (c) => `A tail call is made while the ${c.s(0)} acquired at ${place(c, c.n(1))} is still held`,
  124: (c) => `The ${c.s(0)} acquired at ${place(c, c.n(1))} is still held when the callback ends`,
  130: (c) => {
    const allowed = c.s(2) === c.s(3) ? c.s(2) : `${c.s(2)}..${c.s(3)}`;
    if (c.s(0) === c.s(1)) return `The program returns ${c.s(0)}; allowed here: ${allowed}`;
    const any = BigInt(c.report.operands[0] ?? 0) === -(1n << 63n) &&
      BigInt(c.report.operands[1] ?? 0) === (1n << 63n) - 1n;
    return `The program may return any number${
      any ? "" : ` in ${c.s(0)}..${c.s(1)}`
    }; allowed here: ${allowed}`;
  },
  160: (c) => `Programs of type ${PROGRAM_TYPES[c.n(0)] ?? c.n(0)} are not supported by this verifier`,
  162: (c) => `The kernel function ${c.s(1)}() is not supported by this verifier`,
  166: (c) =>
    `Map \`${c.map(0)}\` is of type ${
      MAP_TYPES[Number(c.s(1))] ?? c.s(1)
    }, which this verifier does not support`,
  132: () => "The program ends without a return value on this path",
};

/** The one sentence that says what is wrong. */
export function sentenceOf(report: VerifyReport, source: SourceMap, kind = "this type of program"): string {
  if (report.codeFacts === undefined) return "accepted";
  const say = SENTENCES[report.code];
  if (say !== undefined) return say(contextOf(report, source, kind));
  // The template, without its label, with registers said by name.
  const text = reportMessage(report).replace(/^WV\d+ /, "");
  return text.replaceAll(
    /\br(\d+)\b/g,
    (_, digits) => nameOfRegister(Number(digits), report.instruction, source),
  );
}

function contextOf(report: VerifyReport, source: SourceMap, programKind: string): Context {
  const n = (index: number): number => Number(report.operands[index] ?? 0);
  const kind = source.instructionAt(report.instruction).opcode & 7;
  return {
    report,
    source,
    kind: programKind,
    n,
    s: (index) => String(report.operands[index] ?? "?"),
    reg: (index) => nameOfRegister(n(index), report.instruction, source),
    map: (index) => source.mapName(n(index)) ?? String(n(index)),
    verb: kind === 2 || kind === 3 ? "written" : "read",
    span: (low, high) => {
      const first = n(low), last = n(high);
      if (first === last) return `${first}`;
      return last - first <= 0xffff ? `${first}..${last}` : `${first} and anywhere beyond`;
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

const LOST = {
  packet: "was a packet pointer until",
  released: "was released at",
  overwritten: "was saved on the stack and overwritten there at",
} as const;

function packet(c: Context): string {
  const proved = c.n(4);
  const what = `${upper(c.reg(0))} (packet pointer, ${bytes(proved)} proved)`;
  const missing = proved <= 0 && c.report.lostAt >= 0
    ? "the check made before no longer counts"
    : proved <= 0
    ? "no check against data_end was made"
    : `the last check proves only ${proved}`;
  return `${what} is ${c.verb} at ${c.span(2, 3)}; ${missing}`;
}

/** The register through which memory is accessed. */
function base(c: Context): string {
  const { opcode, dst, src } = c.source.instructionAt(c.report.instruction);
  return nameOfRegister((opcode & 7) === 1 ? src : dst, c.report.instruction, c.source);
}

/** A register by the value that was assigned to it: `value = bpf_map_lookup_elem(...)` is found in the line of the access. */
function variable(c: Context, operand: number): string {
  const name = c.reg(operand);
  if (name !== `r${c.n(operand)}`) return name;
  const line = c.source.lineAt(c.report.instruction);
  const word = /\b([A-Za-z_]\w*)\s*(?:\+=|-=|\+\+|--)/.exec(line?.text ?? "")?.[1] ??
    /^\s*(?:return|if)\b\s*\(?\s*([A-Za-z_]\w*)\b(?!\s*\()/.exec(line?.text ?? "")?.[1];
  return word === undefined ? name : `\`${word}\``;
}

function valueOf(c: Context, operand: number, otherwise: string): string {
  const value = c.report.registers[c.n(operand)];
  // Kernel pointers say their struct in the operand.
  if (value?.kind === "kernel pointer") return otherwise.replace(/ or NULL$/, "");
  return value === undefined ? otherwise : describeValue({ ...value, maybeNull: false }, c.source);
}

function contextField(c: Context): string {
  const field = fieldIn(c.source.lineAt(c.report.instruction));
  return field === undefined
    ? `Offset ${c.n(0)} of the context`
    : `\`${field}\` (offset ${c.n(0)} of the context)`;
}

function stackVariable(c: Context): string {
  const line = c.source.lineAt(c.report.instruction);
  const maps = new Set(c.source.maps.map((map) => map.name));
  const text = line?.text.slice(Math.max(0, line.column - 1)) ?? "";
  const taken = [...text.matchAll(/&\s*([A-Za-z_]\w*)/g)].map((found) => found[1]).find((name) =>
    !maps.has(name)
  );
  return taken === undefined ? "A local variable is" : `\`${taken}\` is`;
}

function bytes(count: number): string {
  return count === 1 ? "1 byte" : `${count} bytes`;
}

function bytesAt(c: Context): string {
  const span = c.span(2, 3);
  return span.includes("..") ? `bytes ${span} are` : `byte ${span} is`;
}

function helper(c: Context, operand: number): string {
  const name = c.s(operand);
  return name.startsWith("bpf_") || name.includes(" ") ? name : `bpf_${name}`;
}

/** ` (`&key`)`: how the argument is written in the source. */
function passed(c: Context): string {
  const list = argumentsIn(c.source.lineAt(c.report.instruction), helper(c, 1));
  const text = list?.[c.n(0) - 1];
  return text === undefined || text.length > 60 ? "" : ` (\`${text}\`)`;
}

/** An instruction as a source place: `nat.h:120`. */
export function placeOf(source: SourceMap, instruction: number): string {
  const line = source.lineAt(instruction);
  return line === undefined ? `instruction ${instruction}` : `${fileName(line.file)}:${line.line}`;
}

function place(c: Context, instruction: number, word?: string): string {
  const line = c.source.lineAt(instruction);
  if (line === undefined) return `${word ?? "instruction"} ${instruction}`;
  return `${fileName(line.file)}:${line.line}`;
}

/** The last part of a path. */
export function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function article(noun: string): string {
  return /^(a|an|the) /.test(noun) ? noun : /^[aeiou]/i.test(noun) ? `an ${noun}` : `a ${noun}`;
}

function upper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
