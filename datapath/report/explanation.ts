/** From the verifier's report to an explanation that a person can act on. @module */
import type { LineInfo, SourceMap } from "@weir/object";
import { codeLabel, type VerifyReport } from "@weir/verifier";
import { followsKernelPointer } from "./kernel_pointer.ts";
import { helperName } from "./kernel_versions.ts";
import { walksPacket } from "./packet_loop.ts";
import { loopOfLimit } from "./loop.ts";
import { pageOf } from "./pages.ts";
import { howLost, placeOf, sentenceOf } from "./sentence.ts";
import { nameOfRegister } from "./source_words.ts";

/** How many steps of a path are shown. */
const PATH_STEPS_MAX = 10;

/** A place in the source. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The line's text, without indentation. */
  readonly text: string;
  readonly instruction: number;
}

/** A branch on the way to the finding. */
export interface PathPlace extends Place {
  /** The line at which the program went on, when it is another. */
  readonly nextLine?: number;
}

/** Where something that had been proved was lost. */
export interface LostPlace extends Place {
  /** `from` when the place is where a pointer came from that may be NULL. */
  readonly label: "lost" | "from";
  /** What did it: `bpf_skb_store_bytes at nat.h:120 invalidated it`. */
  readonly reason: string;
}

/** What is wrong, where, how one gets there, what to do. */
export interface Explanation {
  /** `WV0070`; empty for accepted. */
  readonly code: string;
  /** Short name of the code, `packet-out-of-bounds`. */
  readonly name: string;
  /** One sentence. */
  readonly message: string;
  readonly place?: Place;
  /** The function of the source that the place is in. */
  readonly functionName?: string;
  /** Oldest first, neighbours that are the same line once, the last {@link PATH_STEPS_MAX}. */
  readonly path: readonly PathPlace[];
  /** Steps left out before the first shown. */
  readonly pathOmitted: number;
  readonly lostAt?: LostPlace;
  /** What to change; empty for accepted. */
  readonly suggestion: string;
}

/**
 * Explains a report about a program whose source is known.
 * @param kind The program's type in words, `a sched_cls program`.
 */
export function explain(report: VerifyReport, source: SourceMap, kind?: string): Explanation {
  const path = pathOf(report, source);
  const place = placeAt(report.instruction, source);
  const functionName = source.functionAt(report.instruction)?.name;
  const lostAt = lostPlace(report, source);
  return {
    code: report.code === 0 ? "" : codeLabel(report.code),
    name: report.codeFacts?.name ?? "",
    message: sentenceOf(report, source, kind),
    ...(place === undefined ? {} : { place }),
    ...(functionName === undefined || report.instruction < 0 ? {} : { functionName }),
    path: path.slice(-PATH_STEPS_MAX),
    pathOmitted: Math.max(0, path.length - PATH_STEPS_MAX),
    ...(lostAt === undefined ? {} : { lostAt }),
    suggestion: suggestionOf(report, source, lostAt, kind),
  };
}

function suggestionOf(
  report: VerifyReport,
  source: SourceMap,
  lostAt: LostPlace | undefined,
  kind?: string,
): string {
  if (report.code === 0) return "";
  if (report.codeFacts?.name === "context-access" && kind?.includes(" tracing ")) {
    return "Declare the arguments with BPF_PROG() as the kernel's function or tracepoint has them";
  }
  const followed = followsKernelPointer(report, source, kind ?? "");
  if (followed !== undefined) {
    const { pointer, expression } = followed;
    if (!/^[A-Za-z_][\w.]*(->[\w.]+)+$/.test(expression)) {
      return `Copy what \`${pointer}\` points to with bpf_probe_read_kernel(), or bpf_probe_read_kernel_str() if it is a string`;
    }
    const read = `BPF_CORE_READ(${expression.replaceAll("->", ", ")})`;
    return `Read it with ${read}, or copy it with bpf_probe_read_kernel(&copy, sizeof(copy), &${expression})`;
  }
  if (walksPacket(report)) {
    return "Bound the loop beside the check against data_end: for (i = 0; i < 64 && data + 1 <= end; i++), or use bpf_loop()";
  }
  if (loopOfLimit(report) !== undefined) {
    return "Give the loop a bound that is a constant, the smaller the better, or use bpf_loop()";
  }
  if (/ may be negative/.test(sentenceOf(report, source, kind))) {
    return "Make the number unsigned, or check that it is not below 0 as well as its upper bound";
  }
  const isPacket = report.codeFacts?.name === "packet-out-of-bounds" ||
    report.codeFacts?.name === "not-a-pointer";
  if (lostAt !== undefined && isPacket && howLost(report, source) === "packet") {
    return "Load data and data_end from the context again after that call and repeat the check before this access";
  }
  const checked = report.codeFacts?.name === "packet-out-of-bounds" ? packetCheck(report, source) : undefined;
  if (checked !== undefined) return `${pageOf(report.code)?.fix}: ${checked}`;
  const isReleased = lostAt !== undefined && report.code === 60 && howLost(report, source) === "released";
  return pageOf(isReleased ? 121 : report.code)?.fix ?? "";
}

/** The check that a packet access lacks, where the line follows a typed pointer: all of what it points to is compared. */
function packetCheck(report: VerifyReport, source: SourceMap): string | undefined {
  const quoted = nameOfRegister(Number(report.operands[0] ?? -1), report.instruction, source);
  const name = /^`([A-Za-z_]\w*)`$/.exec(quoted)?.[1];
  const text = source.lineAt(report.instruction)?.text ?? "";
  if (name === undefined || !new RegExp(`\\b${name}\\s*->|[^\\w)\\s]\\s*\\*${name}\\b`).test(text)) {
    return undefined;
  }
  return `if ((void *)(${name} + 1) > data_end) return ...`;
}

function placeAt(instruction: number, source: SourceMap): Place | undefined {
  if (instruction < 0) return undefined;
  const line = source.lineAt(instruction);
  return line === undefined ? undefined : toPlace(line, instruction);
}

function toPlace(line: LineInfo, instruction: number): Place {
  return { file: line.file, line: line.line, column: line.column, text: line.text.trim(), instruction };
}

function pathOf(report: VerifyReport, source: SourceMap): PathPlace[] {
  const path: PathPlace[] = [];
  for (const step of report.path) {
    const line = source.lineAt(step.instruction);
    if (line === undefined) continue;
    const { opcode, offset, immediate } = source.instructionAt(step.instruction);
    // JMP32|JA (gotol) has its distance in the constant.
    const distance = opcode === 0x06 ? immediate : offset;
    const next = source.lineAt(step.instruction + 1 + (step.taken ? distance : 0));
    const nextLine = next !== undefined && next.file === line.file && next.line !== line.line
      ? next.line
      : undefined;
    const last = path.at(-1);
    if (last !== undefined && last.file === line.file && last.line === line.line) path.pop();
    path.push({ ...toPlace(line, step.instruction), ...(nextLine === undefined ? {} : { nextLine }) });
  }
  return path;
}

/** Codes whose `lostAt` is where a pointer came from that may be NULL. */
const MAYBE_NULL = new Set([44, 61, 104]);

function lostPlace(report: VerifyReport, source: SourceMap): LostPlace | undefined {
  if (report.lostAt < 0) return undefined;
  const { opcode, src, immediate } = source.instructionAt(report.lostAt);
  const where = placeOf(source, report.lostAt);
  const call = src === 0 ? helperName(immediate) : callee(report.lostAt, source);
  const reason = MAYBE_NULL.has(report.code)
    ? opcode === 0x85
      ? `${call} at ${where} gives NULL when there is nothing to give`
      : `what was read at ${where} may be NULL`
    : howLost(report, source) === "released"
    ? `${call} at ${where} released it`
    : howLost(report, source) === "overwritten"
    ? `what was saved on the stack was overwritten at ${where}`
    : `${call} at ${where} invalidated it`;
  const line = source.lineAt(report.lostAt);
  const place = line === undefined
    ? { file: "", line: 0, column: 0, text: "", instruction: report.lostAt }
    : toPlace(line, report.lostAt);
  return { ...place, label: MAYBE_NULL.has(report.code) ? "from" : "lost", reason };
}

function callee(instruction: number, source: SourceMap): string {
  return source.referenceAt(instruction)?.name ?? "a function";
}
