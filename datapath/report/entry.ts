/** One program's verdict, as `weir verify -o json` lists it. @module */
import {
  ATTACH_TYPES,
  type BpfObject,
  type ObjectError,
  type ObjectProgram,
  PROGRAM_TYPES,
  type SourceMap,
} from "@weir/object";
import { codeLabel, type Verdict, type VerifyReport } from "@weir/verifier";
import { type Budget, budgetOf } from "./budget.ts";
import { explain, type LostPlace, type PathPlace, type Place } from "./explanation.ts";
import { codeName, pageOf } from "./pages.ts";
import { OBJECT_CODES } from "./pages_object.ts";
import type { Requirement } from "./requirement.ts";
import { article } from "./sentence_context.ts";

/** One entry of the list. Names of the fields are part of the command's contract. */
export interface Entry {
  /** Path of the object file as it was given. */
  readonly object: string;
  readonly section: string;
  readonly program: string;
  /** `xdp`, `sched_cls`, ...; empty when not known. */
  readonly type: string;
  /** `cgroup_inet4_connect`, ...; empty when the section asks for none. */
  readonly attachType: string;
  readonly verdict: Verdict;
  /** `WV0070`; empty when accepted. */
  readonly code: string;
  /** Short name of the code. */
  readonly name: string;
  readonly message: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The source line. */
  readonly text: string;
  /** The function that the line is in. */
  readonly function: string;
  /** Branches on the way, oldest first. */
  readonly path: readonly PathPlace[];
  readonly pathOmitted: number;
  readonly lostAt: LostPlace | null;
  readonly suggestion: string;
  readonly visits: number;
  readonly statesPeak: number;
  readonly memoryPeak: number;
  readonly timeUs: number;
  /** Hash of what was verified: bytes, maps, options. Empty when nothing was. */
  readonly hash: string;
  readonly budget: Budget | null;
  /** What the kernel asked for with `--kernel` lacks; empty when nothing or not asked. */
  readonly missing: readonly Requirement[];
  /** Things that a reader should know though they change no verdict. */
  readonly notes: readonly string[];
}

/** Also fixes the order of the fields in JSON and YAML. */
const NOTHING = {
  verdict: "unsupported",
  code: "",
  name: "",
  message: "",
  file: "",
  line: 0,
  column: 0,
  text: "",
  function: "",
  path: [],
  pathOmitted: 0,
  lostAt: null,
  visits: 0,
  statesPeak: 0,
  memoryPeak: 0,
  timeUs: 0,
  hash: "",
  budget: null,
  missing: [],
  notes: [],
} as const;

/** Names a program in an entry. */
function subject(object: string, program: ObjectProgram | undefined): Pick<
  Entry,
  "object" | "section" | "program" | "type" | "attachType"
> {
  const kind = program?.kind;
  return {
    object,
    section: program?.section ?? "",
    program: program?.name ?? "",
    type: kind === undefined ? "" : PROGRAM_TYPES[kind.type] ?? String(kind.type),
    // Attach type 0 is also "cgroup_inet_ingress"; only cgroup_skb programs mean that by it.
    attachType: kind === undefined || (kind.attachType === 0 && PROGRAM_TYPES[kind.type] !== "cgroup_skb")
      ? ""
      : ATTACH_TYPES[kind.attachType] ?? String(kind.attachType),
  };
}

/** An entry for a verdict. */
export function entryOf(
  path: string,
  program: ObjectProgram,
  report: VerifyReport,
  source: SourceMap,
  extra: { timeUs: number; missing?: readonly Requirement[]; notes?: readonly string[] },
): Entry {
  const about = subject(path, program);
  const explanation = explain(
    report,
    source,
    article(`${about.type} program`),
  );
  const place: Partial<Place> = explanation.place ?? {};
  return {
    ...subject(path, program),
    ...NOTHING,
    verdict: report.verdict,
    code: explanation.code,
    name: explanation.name,
    message: explanation.message,
    file: place.file ?? "",
    line: place.line ?? 0,
    column: place.column ?? 0,
    text: place.text ?? "",
    function: explanation.functionName ?? "",
    path: explanation.path,
    pathOmitted: explanation.pathOmitted,
    lostAt: explanation.lostAt ?? null,
    suggestion: explanation.suggestion,
    visits: report.visits,
    statesPeak: report.statesPeak,
    memoryPeak: report.memoryPeak,
    timeUs: extra.timeUs,
    hash: report.requestHash,
    budget: budgetOf(report, source),
    missing: extra.missing ?? [],
    notes: extra.notes ?? [],
  };
}

/** An entry for a program, or a whole object, that could not be judged. */
export function entryOfFailure(
  path: string,
  program: ObjectProgram | undefined,
  code: number,
  message: string,
): Entry {
  return {
    ...subject(path, program),
    ...NOTHING,
    // An object beyond a limit is a limit, everything else could not be judged.
    verdict: code === OBJECT_CODES["too-large"] ? "limit" : "unsupported",
    code: codeLabel(code),
    name: codeName(code),
    message,
    suggestion: pageOf(code)?.fix ?? "",
  };
}

/** An entry for an error of the object reader. */
export function entryOfObjectError(
  path: string,
  program: ObjectProgram | undefined,
  error: ObjectError,
): Entry {
  return entryOfFailure(path, program, OBJECT_CODES[error.code], error.message);
}

/** Whether a program has what the object's licence and maps promise; used by notes. */
export function notesOf(object: BpfObject, program: ObjectProgram): string[] {
  const notes: string[] = [];
  const source = program.kind?.source;
  if (source === "prefix") {
    notes.push(
      `Section "${program.section}" is no name of libbpf 1.0; its beginning was taken as the program's type`,
    );
  } else if (source === "context") {
    notes.push(
      `Section "${program.section}" names no program type; the type was taken from the function's parameter`,
    );
  } else if (source === "guess") {
    notes.push(
      `Section "${program.section}" names no program type; it was taken for tc's custom. Say the type with --type`,
    );
  }
  if (object.btf === undefined) notes.push("Compiled without -g: no source lines can be shown");
  return notes;
}
