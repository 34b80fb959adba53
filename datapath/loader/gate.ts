/**
 * The verification gate: between libbpf's relocation of a program and the kernel's BPF_PROG_LOAD stands a verifier.
 *
 *     bpf_object__load ─▶ relocate ─▶ prepare hook ─▶ Verifier.verify ─▶ accept: BPF_PROG_LOAD
 *                                                                     └▶ anything else: the load is aborted
 *
 * libbpf calls the hook with the final instructions; a negative answer ends `bpf_object__load` before the kernel has
 * seen a byte. What was loaded and attached before goes on running.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { kindOfSection, type ProgramKind } from "@weir/object";
import { EPERM } from "./errno.ts";
import { BpfError } from "./errors.ts";
import { cString, libbpf, textAt } from "./library.ts";
import { contentHash, VerdictCache } from "./verdict_cache.ts";
import type { GateMap, GateReport, GateRequest, Verifier } from "./verifier.ts";

/** What the gate answered for one program. */
export interface GateDecision {
  object: string;
  section: string;
  program: string;
  report: GateReport;
  verifier: string;
  cached: boolean;
  /** SHA-256 of the instructions with map references zeroed: the same for the same program in every run. */
  contentHash: string;
  /** Tags that the kernel may give these bytes: by SHA-1 (before 6.18) and by SHA-256. */
  tags: string[];
}

/** The verifier said no, or could not say yes. */
export class GateError extends BpfError {
  override readonly name = "GateError";

  constructor(
    readonly object: string,
    readonly program: string,
    readonly report: GateReport | undefined,
    cause?: unknown,
  ) {
    const why = report !== undefined
      ? `${report.verdict} ${report.code} ${report.message}`.trim()
      : `the verifier failed (${(cause as { code?: string })?.code ?? "error"}): ${
        (cause as Error)?.message ?? cause
      }`;
    super(
      report !== undefined ? "gate-rejected" : "gate-failed",
      `Cannot load program ${program} of ${object}: ${why}`,
      {
        cause,
        found: report?.verdict ?? "no verdict",
        expected: "accepted",
        action: report?.code ? `weir verify --explain ${report.code}` : undefined,
      },
    );
  }
}

/** What the loader tells the gate about the object whose programs come next. */
export interface GateObject {
  object: string;
  license: string;
  btf?: Uint8Array<ArrayBuffer>;
  /** Facts of all maps of the object, read once they exist. */
  maps: () => GateMap[];
  /** The program's map descriptors are found in here; decisions are added in here. */
  decisions: GateDecision[];
  /** True when the kernel has this very program already, with these maps: then it is not loaded again. */
  adopt?: (decision: GateDecision, request: GateRequest) => boolean;
}

/** The gate. One per process is current at a time, chosen for the time of one load. */
export class Gate {
  /** Verdicts by what they found, for metrics: accepted, rejected, failed, cached. */
  readonly counts = { accepted: 0, rejected: 0, failed: 0, cached: 0 };

  constructor(readonly verifier: Verifier, readonly cache: VerdictCache = new VerdictCache(undefined)) {}

  /** Judges one program. @throws {GateError} for anything but an accept of exactly these bytes */
  judge(request: GateRequest): GateDecision {
    const decision = (report: GateReport, cached: boolean): GateDecision => ({
      object: request.object,
      section: request.section,
      program: request.program,
      report,
      verifier: this.verifier.version,
      cached,
      contentHash: digestOf("sha256", request.insns),
      tags: kernelTags(request.insns),
    });
    const known = this.cache.get(this.verifier, request);
    if (known !== undefined) {
      this.counts.cached++;
      return decision(known, true);
    }
    let report: GateReport;
    try {
      report = this.verifier.verify(request);
      checkReport(report, request);
    } catch (error) {
      this.counts.failed++;
      throw new GateError(request.object, request.program, undefined, error);
    }
    if (report.verdict !== "accepted") {
      this.counts.rejected++;
      throw new GateError(request.object, request.program, report);
    }
    this.counts.accepted++;
    this.cache.put(this.verifier, request, report);
    return decision(report, false);
  }
}

/** The load that is running: libbpf's hook has no room for a reference of ours. */
let running: Running | undefined;
interface Running {
  gate: Gate;
  object: GateObject;
  error?: unknown;
}
const sections = new Map<string, ProgramKind>();
let hook: Deno.UnsafeCallback<typeof HOOK_TYPE> | undefined;
const HOOK_TYPE = { parameters: ["pointer", "pointer", "i64"], result: "i32" } as const;

/** Makes libbpf ask the gate before every program of these sections. @throws {BpfError} for a section nobody knows */
export function guardSections(names: Iterable<string>): void {
  hook ??= new Deno.UnsafeCallback(HOOK_TYPE, prepareLoad);
  for (const name of names) {
    if (sections.has(name)) continue;
    const kind = kindOfSection(name);
    if (kind === undefined) {
      throw new BpfError("open-failed", `Cannot load section ${name}: its name tells no program type`);
    }
    // struct libbpf_prog_handler_opts: sz, cookie, prog_setup_fn, prog_prepare_load_fn, prog_attach_fn
    const opts = new BigUint64Array([40n, 0n, 0n, Deno.UnsafePointer.value(hook.pointer), 0n]);
    const result = libbpf().libbpf_register_prog_handler(
      cString(name),
      kind.type,
      // libbpf 1.1 does not know tcx; sched_cls programs need no expected attach type before 6.6 or after.
      kind.type === 3 ? 0 : kind.attachType,
      new Uint8Array(opts.buffer),
    );
    if (result < 0) throw new BpfError("open-failed", `Cannot guard section ${name}`, { errno: -result });
    sections.set(name, kind);
  }
}

/** Runs a load with the gate standing. @throws what the gate threw, if it did */
export function withGate<T>(gate: Gate, object: GateObject, load: () => T): T {
  if (running !== undefined) throw new BpfError("gate-failed", "Cannot load two objects at once");
  const now: Running = { gate, object };
  running = now;
  try {
    const result = load();
    if (now.error !== undefined) throw now.error;
    return result;
  } catch (error) {
    throw now.error ?? error; // the gate's own words, not libbpf's "permission denied"
  } finally {
    running = undefined;
  }
}

/** libbpf's hook: 0 lets the load go on. It must never throw into C. */
function prepareLoad(program: Deno.PointerValue, opts: Deno.PointerValue): number {
  if (running === undefined) return -EPERM; // nobody asked for this load
  try {
    const request = readRequest(running.object, program, opts);
    const decision = running.gate.judge(request);
    running.object.decisions.push(decision);
    return running.object.adopt?.(decision, request) ? standIn(program, opts) : 0;
  } catch (error) {
    running.error = error;
    return -EPERM;
  }
}

function readRequest(object: GateObject, program: Deno.PointerValue, opts: Deno.PointerValue): GateRequest {
  const bpf = libbpf();
  const section = textAt(bpf.bpf_program__section_name(program));
  // struct bpf_prog_load_opts: expected_attach_type 12, prog_flags 20, func_info 56 (count 64, size 68), line_info 72
  const view = new Deno.UnsafePointerView(opts!);
  const optsBytes = Number(view.getBigUint64(0));
  if (optsBytes < 88) {
    throw new BpfError("gate-failed", "Cannot read the load options: libbpf's layout changed");
  }
  const flags = sections.get(section)?.flags ?? 0;
  if (flags !== 0) writeFlags(opts, view.getUint32(20) | flags);
  const insns = copyBytes(bpf.bpf_program__insns(program), Number(bpf.bpf_program__insn_cnt(program)) * 8);
  const funcInfoRecordBytes = view.getUint32(68), lineInfoRecordBytes = view.getUint32(84);
  return {
    object: object.object,
    section,
    program: textAt(bpf.bpf_program__name(program)),
    type: bpf.bpf_program__type(program),
    expectedAttachType: view.getUint32(12),
    flags: view.getUint32(20),
    license: object.license,
    insns,
    maps: usedMaps(insns, object.maps()),
    btf: object.btf,
    funcInfo: copyBytes(view.getPointer(56), view.getUint32(64) * funcInfoRecordBytes),
    funcInfoRecordBytes,
    lineInfo: copyBytes(view.getPointer(72), view.getUint32(80) * lineInfoRecordBytes),
    lineInfoRecordBytes,
  };
}

/** Maps that the instructions name, in the order in which they first do. */
function usedMaps(insns: Uint8Array<ArrayBuffer>, maps: GateMap[]): GateMap[] {
  const view = new DataView(insns.buffer);
  const fds = new Set<number>();
  for (let at = 0; at + 16 <= insns.length; at += 8) {
    if (insns[at] !== 0x18) continue;
    const kind = insns[at + 1] >> 4;
    if (kind === 1 || kind === 2) fds.add(view.getInt32(at + 4, true));
    at += 8;
  }
  return [...fds].flatMap((fd) => maps.filter((map) => map.fd === fd));
}

function checkReport(report: GateReport, request: GateRequest): void {
  const verdicts = ["accepted", "unsafe", "not-proved", "unsupported", "limit"];
  const wellFormed = report !== null && typeof report === "object" && verdicts.includes(report.verdict) &&
    typeof report.code === "string" && typeof report.message === "string" && Number.isFinite(report.visits);
  if (!wellFormed) throw new BpfError("gate-failed", "Cannot believe the verifier: its report is malformed");
  if (report.verdict === "accepted" && report.hash !== contentHash(request.insns)) {
    throw new BpfError("gate-failed", "Cannot believe the verifier: its accept is for other bytes", {
      found: report.hash,
      expected: contentHash(request.insns),
    });
  }
}

/** The tags that kernels give a program: its instructions with map references zeroed, hashed, the first 8 bytes. */
export function kernelTags(insns: Uint8Array): string[] {
  return ["sha1", "sha256"].map((name) => digestOf(name, insns).slice(0, 16));
}

function digestOf(algorithm: string, insns: Uint8Array): string {
  const bytes = insns.slice();
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 16 <= bytes.length; at += 8) {
    if (bytes[at] !== 0x18) continue;
    const kind = bytes[at + 1] >> 4;
    if (kind === 1 || kind === 2) {
      view.setInt32(at + 4, 0, true);
      view.setInt32(at + 12, 0, true);
    }
    at += 8;
  }
  return createHash(algorithm).update(Buffer.from(bytes)).digest("hex");
}

function copyBytes(pointer: Deno.PointerValue, size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  if (pointer !== null && size > 0) new Deno.UnsafePointerView(pointer).copyInto(bytes);
  return bytes;
}

/** `r0 = 1; exit`, which programs of every type may answer. */
const STAND_IN = Uint8Array.from([0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);

/** libbpf loads every program of an object: what the kernel has already is loaded as two instructions that nobody uses. */
function standIn(program: Deno.PointerValue, opts: Deno.PointerValue): number {
  const view = new DataView(Deno.UnsafePointerView.getArrayBuffer(opts!, 88));
  view.setUint32(64, 0, true); // func_info_cnt, line_info_cnt: they tell of other instructions
  view.setUint32(80, 0, true);
  return libbpf().bpf_program__set_insns(program, STAND_IN, BigInt(STAND_IN.length / 8));
}

/** Sets prog_flags of the load options: the hook stands in for libbpf's own preparation of that section. */
function writeFlags(opts: Deno.PointerValue, flags: number): void {
  new DataView(Deno.UnsafePointerView.getArrayBuffer(opts!, 88)).setUint32(20, flags, true);
}
