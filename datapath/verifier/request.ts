/**
 * What the host asks the verifier: one program with every fact that its verdict depends on.
 * @module
 */
import { encodeKernelTypes, type KernelTypeFacts } from "./kernel_types.ts";
import { WireWriter } from "./wire.ts";

/** A field of a map value that programs may not touch directly, as the value's BTF declares it. */
export interface SpecialField {
  kind: SpecialFieldKind;
  /** Byte offset in the value. */
  offset: number;
  /** Bytes. */
  size: number;
  /** Of a kernel pointer: BTF id of the kernel struct that it points to; 0 or absent: not known. */
  type?: number;
}

/** Kinds of special fields; numbers are append-only. */
export const SPECIAL_FIELD_KINDS = {
  spinLock: 1,
  timer: 2,
  kptr: 3,
  listHead: 4,
  rbRoot: 5,
  workqueue: 6,
  refcount: 7,
  other: 8,
} as const;
export type SpecialFieldKind = keyof typeof SPECIAL_FIELD_KINDS;

/** Facts of a map that an inner map of a map-in-map must have. */
export interface MapShape {
  /** `enum bpf_map_type`. */
  type: number;
  /** Bytes. */
  keySize: number;
  /** Bytes. */
  valueSize: number;
  maxEntries: number;
  /** `BPF_F_*` flags of the map. */
  flags: number;
  specialFields?: SpecialField[];
}

/** A map that the program's instructions refer to. */
export interface MapFacts extends MapShape {
  /** What the `imm` of `ld_imm64` with src 1 or 2 says: a file descriptor at the gate, an index offline. */
  handle: number;
  /** Whether user space has frozen the map (`BPF_MAP_FREEZE`). */
  frozen?: boolean;
  /** Contents of the value of a frozen, program-read-only array with one entry; constants are folded from it. */
  contents?: Uint8Array;
  /** Template of the inner map of an array_of_maps or hash_of_maps. */
  inner?: MapShape;
}

/** Kinds of arguments of a global function, by its BTF prototype; numbers are append-only. */
export const ARGUMENT_KINDS = {
  scalar: 1,
  /** Pointer to the program's context. */
  context: 2,
  /** Pointer to `size` bytes of memory or NULL. */
  memOrNull: 3,
  /** Pointer to `size` bytes of memory (`__arg_nonnull`). */
  mem: 4,
  /** Anything the verifier has no contract for: programs that use it are answered as unsupported. */
  other: 5,
} as const;
export type ArgumentKind = keyof typeof ARGUMENT_KINDS;

/** Kinds of results of a global function; numbers are append-only. */
export const RETURN_KINDS = { scalar: 1, void: 2, other: 3 } as const;
export type ReturnKind = keyof typeof RETURN_KINDS;

/** A function inside the program. The main program is the one that starts at instruction 0. */
export interface SubprogramFacts {
  /** Index of its first instruction. */
  start: number;
  linkage: "static" | "global";
  name: string;
  /** BTF prototype; needed for global functions only. */
  arguments?: { kind: ArgumentKind; size?: number }[];
  returns?: ReturnKind;
}

/** A kernel function that the program may call. Calls to kfuncs are answered as unsupported, with this name. */
export interface KfuncFacts {
  btfId: number;
  name: string;
}

/**
 * What a kernel's verifier may know nothing of. `quotients`: bounds of quotients, remainders, swapped bytes and of shifts
 * by an unknown number. `distances`: that `b = a + 1` bounds `a` when `b` is compared. `constant-keys`: that an array has an
 * element for a constant key in range. `private-stacks`: that a function of a tracing program has a stack of its own.
 * `signs`: that a number of either sign which fits a byte or two is itself after sign extension.
 */
export type KernelIgnorance = "quotients" | "distances" | "constant-keys" | "private-stacks" | "signs";

/** Limits of one verification; each is a maximum. */
export interface VerifyLimits {
  /** Instruction visits, default 1,000,000. */
  visits?: number;
  /** States kept for pruning or waiting, default 65,536. */
  states?: number;
  /** Bytes of states, default 56 MiB. */
  memoryBytes?: number;
}

/** One program to verify. */
export interface VerifyRequest {
  name: string;
  /** `enum bpf_prog_type`. */
  programType: number;
  /** `enum bpf_attach_type`, the expected attach type; 0 where none is set. */
  attachType?: number;
  /** `BPF_F_*` flags of the load (strict alignment 1, any alignment 2, sleepable 16, ...). */
  programFlags?: number;
  /** Whether the licence string is compatible with the GPL. */
  gplCompatible: boolean;
  /** Also refuse stack that was never written, addresses that leave the program, unaligned accesses. Default false. */
  strict?: boolean;
  /** What the kernel that is to load the program does not know: nothing is accepted that rests on it. Default: none. */
  kernelIgnores?: readonly KernelIgnorance[];
  /** Name of the kernel profile whose tables count. Default `default`. */
  kernelProfile?: string;
  limits?: VerifyLimits;
  /** The final, relocated instructions, 8 bytes each. */
  instructions: Uint8Array;
  maps?: MapFacts[];
  subprograms?: SubprogramFacts[];
  kfuncs?: KfuncFacts[];
  /** What is known of the kernel's types; programs of type tracing need it. */
  kernelTypes?: KernelTypeFacts;
  /** Name of the function that the program's BTF marks as exception callback. */
  exceptionCallback?: string;
  /** Also count visits per instruction. */
  recordVisits?: boolean;
  /**
   * Walk every path to its end instead of ending those that a walked one covers. For tests: what is accepted with
   * pruning must be accepted without, or reach a limit. Programs with callbacks are pruned all the same.
   */
  exhaustive?: boolean;
  /** Also return, for these instructions or all, the join over all states of each register's abstract value. */
  claims?: number[] | "all";
}

/** Default limits. */
export const DEFAULT_LIMITS: Required<VerifyLimits> = {
  visits: 1_000_000,
  states: 65_536,
  memoryBytes: 56 * 1024 * 1024,
};

/** First word of a request: "WVRQ". */
export const REQUEST_MAGIC = 0x51525657;
/** Version of the request's layout. */
export const REQUEST_VERSION = 2;

/** Request option bits; append-only. */
const OPTION_GPL = 1, OPTION_STRICT = 2, OPTION_VISITS = 4, OPTION_CLAIMS_ALL = 8, OPTION_EXHAUSTIVE = 16;
const IGNORANCE_OPTIONS: Readonly<Record<KernelIgnorance, number>> = {
  quotients: 32,
  distances: 64,
  "constant-keys": 128,
  "private-stacks": 256,
  signs: 512,
};

/** One buffer for all requests: nothing between clearing it and copying out of it runs anything else. */
const writer = new WireWriter();

/** Bytes of a request as the module reads them. */
export function encodeRequest(request: VerifyRequest): Uint8Array<ArrayBuffer> {
  writeRequest(request);
  return writer.bytes();
}

/** The same bytes without a copy of one's own: they count until the next request is encoded. */
export function encodeRequestOnce(request: VerifyRequest): Uint8Array<ArrayBuffer> {
  writeRequest(request);
  return writer.view();
}

const NO_BYTES = new Uint8Array();

function writeRequest(request: VerifyRequest): void {
  if (request.instructions.length % 8 !== 0) {
    throw new RangeError(
      `Cannot encode request: ${request.instructions.length} bytes are no whole instructions`,
    );
  }
  const { limits } = request;
  const w = writer;
  w.clear();
  w.u32(REQUEST_MAGIC);
  w.u32(REQUEST_VERSION);
  w.text(request.name);
  w.u32(request.programType);
  w.u32(request.attachType ?? 0);
  w.u32(request.programFlags ?? 0);
  w.u32(
    (request.gplCompatible ? OPTION_GPL : 0) | (request.strict ? OPTION_STRICT : 0) |
      (request.recordVisits ? OPTION_VISITS : 0) | (request.claims === "all" ? OPTION_CLAIMS_ALL : 0) |
      (request.exhaustive ? OPTION_EXHAUSTIVE : 0) |
      (request.kernelIgnores?.reduce((bits, what) => bits | IGNORANCE_OPTIONS[what], 0) ?? 0),
  );
  w.text(request.kernelProfile ?? "default");
  w.u32(limits?.visits ?? DEFAULT_LIMITS.visits);
  w.u32(limits?.states ?? DEFAULT_LIMITS.states);
  w.u32(limits?.memoryBytes ?? DEFAULT_LIMITS.memoryBytes);
  w.byteString(request.instructions);
  encodeMaps(w, request.maps ?? []);
  encodeSubprograms(w, request.subprograms ?? []);
  const kfuncs = request.kfuncs ?? [];
  w.u32(kfuncs.length);
  for (const kfunc of kfuncs) {
    w.u32(kfunc.btfId);
    w.text(kfunc.name);
  }
  const claims = Array.isArray(request.claims) ? request.claims : [];
  w.u32(claims.length);
  for (const index of claims) w.u32(index);
  encodeKernelTypes(w, request.kernelTypes);
  w.text(request.exceptionCallback ?? "");
}

function encodeShape(w: WireWriter, shape: MapShape): void {
  w.u32(shape.type);
  w.u32(shape.keySize);
  w.u32(shape.valueSize);
  w.u32(shape.maxEntries);
  w.u32(shape.flags);
  const fields = shape.specialFields ?? [];
  w.u32(fields.length);
  for (const field of fields) {
    w.u32(SPECIAL_FIELD_KINDS[field.kind]);
    w.u32(field.offset);
    w.u32(field.size);
    w.u32(field.type ?? 0);
  }
}

function encodeMaps(w: WireWriter, maps: MapFacts[]): void {
  w.u32(maps.length);
  for (const map of maps) {
    w.u32(map.handle);
    encodeShape(w, map);
    w.u32(map.frozen ? 1 : 0);
    w.byteString(map.contents ?? NO_BYTES);
    w.u32(map.inner ? 1 : 0);
    if (map.inner) encodeShape(w, map.inner);
  }
}

function encodeSubprograms(w: WireWriter, subprograms: SubprogramFacts[]): void {
  w.u32(subprograms.length);
  for (const sub of subprograms) {
    w.u32(sub.start);
    w.u32(sub.linkage === "global" ? 1 : 0);
    w.text(sub.name);
    w.u32(RETURN_KINDS[sub.returns ?? "other"]);
    const args = sub.arguments ?? [];
    w.u32(args.length);
    for (const arg of args) {
      w.u32(ARGUMENT_KINDS[arg.kind]);
      w.u32(arg.size ?? 0);
    }
  }
}

/**
 * Hash of request bytes, 32 hexadecimal digits, as the module computes it: four lanes of 32 bits over the 32-bit words,
 * each with a multiplier of its own. An accept counts only with this hash. It shows that the module read what was sent;
 * it is not meant to resist an attacker, for verdicts are kept under a SHA-256 of their own.
 */
export function requestHash(bytes: Uint8Array): string {
  const [a, b, c, d] = hashWords(bytes);
  return hexWord(a) + hexWord(b) + hexWord(c) + hexWord(d);
}

const words = new Int32Array(4);

/** The hash in four words, which count until the next call. */
export function hashWords(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let a = 0x811c9dc5 | 0, b = 0x9ae16a3b | 0, c = 0x2f90404f, d = 0x165667b1;
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const word = view.getInt32(at, true);
    a = Math.imul(a ^ word, 0x01000193);
    a ^= a >>> 15;
    b = Math.imul(b ^ word, 0x85ebca6b);
    b ^= b >>> 13;
    c = Math.imul(c ^ word, 0xc2b2ae35);
    c ^= c >>> 16;
    d = Math.imul(d ^ word, 0x27d4eb2f);
    d ^= d >>> 14;
  }
  words[0] = a;
  words[1] = b;
  words[2] = c;
  words[3] = d;
  return words;
}

/** Bytes as two digits each: small programs spend their time on small things. */
const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Eight hexadecimal digits of the low 32 bits. */
export function hexWord(word: number): string {
  return HEX[word >>> 24] + HEX[(word >>> 16) & 255] + HEX[(word >>> 8) & 255] + HEX[word & 255];
}
