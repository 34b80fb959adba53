/**
 * What the gate asks of a verifier. `StructuralVerifier` answers until the sandboxed one accepts all our programs.
 * @module
 */
import type { SpecialField } from "@weir/verifier";
import type { MapInfo } from "./info.ts";

/** One map that a program refers to, as the kernel and libbpf know it. */
export interface GateMap {
  /** Descriptor that stands in the program's instructions. */
  fd: number;
  info: MapInfo;
  /** Name in the object; the kernel keeps 15 characters only. */
  name: string;
  /** Contents of a frozen one-entry array (`.rodata`): constants that the verifier may fold. */
  frozen?: Uint8Array<ArrayBuffer>;
  /** Template of the inner maps of a map of maps. */
  inner?: InnerMap;
  /** Fields of its values that only helpers may touch. */
  specialFields?: SpecialField[];
}

/** What all inner maps of a map of maps have in common. */
export interface InnerMap {
  type: number;
  keySize: number;
  valueSize: number;
  entriesMax: number;
  flags: number;
  /** As of {@link GateMap}. */
  specialFields?: SpecialField[];
}

/** One program as it is about to be given to the kernel. */
export interface GateRequest {
  object: string;
  section: string;
  program: string;
  /** BPF_PROG_TYPE_*, expected BPF_* attach type, BPF_F_* flags. */
  type: number;
  expectedAttachType: number;
  flags: number;
  license: string;
  /** The final, relocated instructions, 8 bytes each. */
  insns: Uint8Array<ArrayBuffer>;
  maps: GateMap[];
  /** The object's `.BTF`, if it has one. */
  btf?: Uint8Array<ArrayBuffer>;
  /** `struct bpf_func_info` and `bpf_line_info` records of this program, instruction offsets from its start. */
  funcInfo?: Uint8Array<ArrayBuffer>;
  funcInfoRecordBytes: number;
  lineInfo?: Uint8Array<ArrayBuffer>;
  lineInfoRecordBytes: number;
}

/** Verdicts of a verifier. */
export type GateVerdict = "accepted" | "unsafe" | "not-proved" | "unsupported" | "limit";

/** A verifier's answer. It is untrusted: an accept counts only with the hash of the bytes that were sent. */
export interface GateReport {
  verdict: GateVerdict;
  /** Stable code of the finding, "" when accepted. */
  code: string;
  message: string;
  /** SHA-256 of `insns`, lower-case hex. */
  hash: string;
  visits: number;
  timeUs: number;
}

/** Judges programs. `version` changes whenever an answer might. */
export interface Verifier {
  /** How `weir status` names the gate. */
  readonly mode: "structural" | "verifier";
  readonly version: string;
  /** Facts of the kernel that the judgement depends on, part of the cache key. */
  readonly kernelProfile: string;
  /** May throw: out of fuel, out of memory, trapped, malformed report. Each aborts the load. */
  verify(request: GateRequest): GateReport;
}
