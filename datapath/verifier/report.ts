/**
 * What the verifier answers. The bytes come out of a sandbox and are untrusted: every count is bounded, every
 * read checked, and an accept counts only with the hash of the request.
 * @module
 */
import { type CodeFacts, codeLabel, CODES } from "./codes.ts";
import { hashWords, hexWord } from "./request.ts";
import { WireError, WireReader } from "./wire.ts";

export { WireError } from "./wire.ts";

/** The five possible answers. */
export type Verdict = "accepted" | "unsafe" | "not-proved" | "unsupported" | "limit";
const VERDICTS: Verdict[] = ["accepted", "unsafe", "not-proved", "unsupported", "limit"];

/** Kinds of abstract values, in the order of their numbers. */
export const VALUE_KINDS = [
  "uninitialised",
  "number",
  "context",
  "map",
  "map value",
  "stack pointer",
  "packet pointer",
  "packet metadata pointer",
  "end of packet",
  "socket",
  "socket (common)",
  "TCP socket",
  "XDP socket",
  "memory",
  "kernel pointer",
  "flow keys",
  "function",
  "map key",
  "iterator",
] as const;
export type ValueKind = typeof VALUE_KINDS[number];

/** Abstract value of a register. For pointers the numbers describe the variable part of the offset. */
export interface AbstractValue {
  kind: ValueKind;
  maybeNull: boolean;
  readOnly: boolean;
  /** Fixed part of a pointer's offset. */
  offset: number;
  /** Bytes proved to be there (packet) or size of the memory or map value. */
  range: number;
  /** Handle of the map, -1 if there is none. */
  map: number;
  /** Identity: equal ids mean one value; 0 none. */
  id: number;
  /** Known bits: the value agrees with `bits` wherever `unknown` is 0. */
  bits: bigint;
  unknown: bigint;
  smin: bigint;
  smax: bigint;
  umin: bigint;
  umax: bigint;
  s32min: number;
  s32max: number;
  u32min: number;
  u32max: number;
}

/** What all visits of an instruction found in the registers, before the instruction. */
export interface Claim {
  instruction: number;
  /** r0 to r10; a register with different kinds on different paths is "uninitialised" (no claim). */
  registers: AbstractValue[];
}

/** One decision of the path that leads to the failure. */
export interface PathStep {
  instruction: number;
  taken: boolean;
}

/** The verifier's answer. */
export interface VerifyReport {
  verdict: Verdict;
  /** 0 for accepted, else a number of `CODES`. */
  code: number;
  /** Facts of the code; undefined for accepted. */
  codeFacts?: CodeFacts;
  /** Instruction index of the finding; -1 where it has none. */
  instruction: number;
  operands: (bigint | string)[];
  /** Newest branch decisions before the failure, oldest first. */
  path: PathStep[];
  /** Instruction at which the missing fact was lost; -1 unknown. */
  lostAt: number;
  /** Registers at the failure; empty where no state was at hand. */
  registers: AbstractValue[];
  visits: number;
  statesPeak: number;
  statesTotal: number;
  memoryPeak: number;
  /** Hash over the request bytes, as the module saw them. */
  requestHash: string;
  /** Visits per instruction; empty unless asked for. */
  instructionVisits: Uint32Array;
  claims: Claim[];
}

/** First word of a report: "WVRP". */
export const REPORT_MAGIC = 0x50525657;
const REPORT_VERSION = 1;
const INSTRUCTIONS_MAX = 1_000_000;
const VALUE_BYTES = 96;
const NO_VISITS = new Uint32Array(0);

/** Whether a report, which was decoded without an error, names the hash of these request bytes. */
export function answersRequest(report: Uint8Array, request: Uint8Array): boolean {
  const hash = hashWords(request);
  // two 64-bit words, low halves first
  return wordAt(report, 8) === hash[1] && wordAt(report, 12) === hash[0] &&
    wordAt(report, 16) === hash[3] && wordAt(report, 20) === hash[2];
}

function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24;
}

/** Decodes untrusted report bytes. Throws `WireError`. */
export function decodeReport(bytes: Uint8Array): VerifyReport {
  const r = new WireReader(bytes);
  if (r.u32() !== REPORT_MAGIC) throw new WireError(0, "this is no report");
  if (r.u32() !== REPORT_VERSION) throw new WireError(4, "unknown version of the report");
  // two 64-bit words, low halves first
  const b = hexWord(r.u32()), a = hexWord(r.u32()), d = hexWord(r.u32()), c = hexWord(r.u32());
  const requestHash = a + b + c + d;
  const verdictNumber = r.u32();
  const verdict = VERDICTS[verdictNumber];
  if (verdict === undefined) throw new WireError(r.offset - 4, `verdict ${verdictNumber}`);
  const code = r.u32();
  const codeFacts = CODES.get(code);
  if (verdict === "accepted" ? code !== 0 : codeFacts?.class !== verdict) {
    throw new WireError(r.offset - 4, `code ${code} does not belong to verdict ${verdict}`);
  }
  const instruction = r.i32();
  const lostAt = r.i32();
  const visits = r.u32(), statesPeak = r.u32(), statesTotal = r.u32(), memoryPeak = r.u32();
  const operands: (bigint | string)[] = [];
  for (let n = r.count(8, 8); n > 0; n--) {
    const kind = r.u32();
    if (kind === 0) operands.push(r.i64());
    else if (kind === 1) operands.push(r.text(256));
    else throw new WireError(r.offset - 4, `operand kind ${kind}`);
  }
  const path: PathStep[] = [];
  for (let n = r.count(4, 64); n > 0; n--) {
    const step = r.u32();
    path.push({ instruction: step >>> 1, taken: (step & 1) === 1 });
  }
  const registers = decodeValues(r, r.count(VALUE_BYTES, 11));
  const counts = r.count(4, INSTRUCTIONS_MAX);
  const instructionVisits = counts === 0 ? NO_VISITS : new Uint32Array(counts);
  for (let i = 0; i < instructionVisits.length; i++) instructionVisits[i] = r.u32();
  const claims: Claim[] = [];
  for (let n = r.count(4 + 11 * VALUE_BYTES, INSTRUCTIONS_MAX); n > 0; n--) {
    claims.push({ instruction: r.u32(), registers: decodeValues(r, 11) });
  }
  r.end();
  return {
    verdict,
    code,
    codeFacts,
    instruction,
    operands,
    path,
    lostAt,
    registers,
    visits,
    statesPeak,
    statesTotal,
    memoryPeak,
    requestHash,
    instructionVisits,
    claims,
  };
}

/* A value on the wire, 96 bytes:
 *   kind | flags | offset | range | map | id        6 x 4
 *   bits | unknown | smin | smax | umin | umax      6 x 8
 *   s32min | s32max | u32min | u32max | 2 x unused  6 x 4
 */
function decodeValues(r: WireReader, count: number): AbstractValue[] {
  const values: AbstractValue[] = [];
  for (let n = 0; n < count; n++) {
    const kindNumber = r.u32();
    const kind = VALUE_KINDS[kindNumber];
    if (kind === undefined) throw new WireError(r.offset - 4, `value kind ${kindNumber}`);
    const flags = r.u32();
    const value: AbstractValue = {
      kind,
      maybeNull: (flags & 1) !== 0,
      readOnly: (flags & 2) !== 0,
      offset: r.i32(),
      range: r.i32(),
      map: r.i32(),
      id: r.u32(),
      bits: r.u64(),
      unknown: r.u64(),
      smin: r.i64(),
      smax: r.i64(),
      umin: r.u64(),
      umax: r.u64(),
      s32min: r.i32(),
      s32max: r.i32(),
      u32min: r.u32(),
      u32max: r.u32(),
    };
    r.u32();
    r.u32();
    values.push(value);
  }
  return values;
}

/** The report's one-sentence message, in registers and numbers; @weir/report says it in names of the source. */
export function reportMessage(report: VerifyReport): string {
  if (report.codeFacts === undefined) return "accepted";
  const text = report.codeFacts.template.replaceAll(
    /\{(\d)\}/g,
    (_, n) => String(report.operands[Number(n)] ?? "?"),
  );
  return `${codeLabel(report.code)} ${text}`;
}
