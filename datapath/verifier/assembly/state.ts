// States: the frames of the call chain with registers and stack, the held references, the newest branch
// decisions. All of it lies in blocks of an arena with free lists per size; the arena has a declared maximum.
import * as E from "./gen/codes";
import { liveHigh, liveLow } from "./liveness";
import { fail1 } from "./outcome";
import { K_FP, Reg, setKind } from "./reg";

export const FRAMES_MAX: i32 = 8;
export const REFS_MAX: u32 = 16;
export const PATH_MAX: u32 = 64;
export const T_INVALID: u8 = 0, T_MISC: u8 = 1, T_ZERO: u8 = 2, T_SPILL: u8 = 3;
/* One slot, 104 bytes: 8 byte types (index 0 is the lowest address), then the saved register, which counts as
 * long as the first `n` types are T_SPILL. Slot k covers frame offsets -8(k+1) to -8k-1. */
export const SLOT_BYTES: u32 = 8 + 96;

const FRAME_HEAD: u32 = 16;
export const REGS_BYTES: u32 = 11 * 96;

/* Frame: callsite 4 | function 2, callback kind 1, unused 1 | slots 4 | unused 4 | 11 registers | slots */
@unmanaged
export class Frame {
  callsite: i32;
  sub: u16;
  callback: u8; // 0 none, 1 loop, 2 for_each
  pad: u8;
  slots: u32;
  rounds: u32; // how often the helper that this frame is calling has called back
}

@unmanaged
export class Ref {
  id: u32;
  insn: i32;
  kind: u8;
  frame: u8;
  pad: u16;
}

export const REF_BYTES: u32 = 12;

@unmanaged
export class State {
  next: usize; // list of kept states at one instruction, or of waiting ones
  parent: usize; // the kept state that this one continues
  branches: i32; // continuations not finished
  insn: i32;
  depth: i32; // frames - 1
  refCount: u32;
  pathCount: u32;
  lostAt: i32;
  hits: u32;
  misses: u32;
  freed: u32;
  hint: u32; // kept states: where the last comparison failed, see prune.ts
  relevant: u64; // kept states: numbers that a decision after it rested on, see relevance.ts
  pending: u64; // kept states: what was added to `relevant` and not yet told to the paths that it ended
  pendingNext: usize;
  ended: usize; // kept states: paths that it ended while it was open, linked by next
  waitsFor: usize; // kept states: the outermost unfinished state that a path after it ended at; 0: none
  order: u32; // kept states: counts up as they are kept
  goes: u32; // how often may_goto went on
  isEntry: u32; // kept states: others wait or waited for it
  lockId: u32; // identity of the map value whose lock is held, 0: none
  lockMap: i32;
  lockAt: i32; // instruction that took it
  pad: u32;
  frames: u32;
}

// 8 frame pointers, then 16 references, then the ring of 64 decisions
const FRAMES_AT: usize = offsetof<State>("frames");

const REFS_AT: usize = FRAMES_AT + 4 * 8;
const PATH_AT: usize = REFS_AT + 16 * REF_BYTES;
export const STATE_BYTES: usize = PATH_AT + 4 * 64;
export function frameOf(s: State, k: i32): Frame {
  return changetype<Frame>(load<usize>(changetype<usize>(s) + FRAMES_AT + (<usize> k << 2)));
}

export function setFrame(s: State, k: i32, f: Frame): void {
  store<usize>(changetype<usize>(s) + FRAMES_AT + (<usize> k << 2), changetype<usize>(f));
}

export function regOf(f: Frame, r: u32): Reg {
  return changetype<Reg>(changetype<usize>(f) + FRAME_HEAD + r * 96);
}

export function slotTypes(f: Frame, k: u32): usize {
  return changetype<usize>(f) + FRAME_HEAD + REGS_BYTES + k * SLOT_BYTES;
}

export function slotReg(f: Frame, k: u32): Reg {
  return changetype<Reg>(slotTypes(f, k) + 8);
}

export function refOf(s: State, k: u32): Ref {
  return changetype<Ref>(changetype<usize>(s) + REFS_AT + k * REF_BYTES);
}

export function pathStep(s: State, k: u32): u32 {
  return load<u32>(changetype<usize>(s) + PATH_AT + ((k % PATH_MAX) << 2));
}

export function addPath(s: State, insn: i32, taken: bool): void {
  store<u32>(
    changetype<usize>(s) + PATH_AT + ((s.pathCount % PATH_MAX) << 2),
    (<u32> insn << 1) | (taken ? 1 : 0),
  );
  s.pathCount++;
}

const CLASSES: u32 = 18;
const freeLists: StaticArray<usize> = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
export let memoryUsed: u64 = 0, memoryPeak: u64 = 0, memoryLimit: u64 = 0;
let bump: usize = 0, bumpEnd: usize = 0;
// chunks grow from 16 KiB to 1 MiB: a small program stays within the memory that the sandbox keeps resident
let chunk: usize = 8 << 10;

export function setMemoryLimit(v: u64): void {
  memoryLimit = v;
}

function classBytes(k: u32): usize {
  return k == 17 ? STATE_BYTES : <usize> (FRAME_HEAD + REGS_BYTES + k * 4 * SLOT_BYTES);
}

function take(k: u32): usize {
  const size = classBytes(k);
  memoryUsed += size;
  if (memoryUsed > memoryPeak) memoryPeak = memoryUsed;
  const p = freeLists[k];
  if (p) {
    freeLists[k] = load<usize>(p);
    return p;
  }
  if (bump + size > bumpEnd) {
    // blocks never split: what is left of a chunk is lost, at most 8 KiB of each
    chunk = min<usize>(chunk << 1, 1 << 20);
    bump = heap.alloc(chunk);
    bumpEnd = bump + chunk;
  }
  const q = bump;
  bump += size;
  return q;
}

function give(k: u32, p: usize): void {
  memoryUsed -= classBytes(k);
  store<usize>(p, freeLists[k]);
  freeLists[k] = p;
}

/// Memory outside of the arena that counts like it.
export function countMemory(bytes: i64): void {
  memoryUsed += bytes;
  if (memoryUsed > memoryPeak) memoryPeak = memoryUsed;
}

/// Whether a third of the arena is gone.
export function memoryScarce(): bool {
  return memoryUsed > memoryLimit / 3;
}

/// Whether the arena is still within its limit.
export function memoryOk(insn: i32): bool {
  return memoryUsed <= memoryLimit ? true : fail1(E.MEMORY_LIMIT, insn, memoryUsed);
}

export function newFrame(slots: u32): Frame {
  const k = (slots + 3) >> 2;
  const f = changetype<Frame>(take(k));
  memory.fill(changetype<usize>(f), 0, classBytes(k));
  f.slots = k << 2;
  return f;
}

export function freeFrame(f: Frame): void {
  give(f.slots >> 2, changetype<usize>(f));
}

/// A frame whose registers are all unusable but r10.
export function enterFrame(s: State, k: i32, sub: i32, callsite: i32): Frame {
  const f = newFrame(0);
  f.callsite = callsite;
  f.sub = <u16> sub;
  f.callback = 0;
  const fp = regOf(f, 10);
  setKind(fp, K_FP);
  fp.frame = <u8> k;
  zeroVar(fp);
  setFrame(s, k, f);
  s.depth = k;
  return f;
}

/// Variable part of a pointer's offset: none.
export function zeroVar(r: Reg): void {
  r.bits = 0;
  r.unk = 0;
  r.smin = 0;
  r.smax = 0;
  r.umin = 0;
  r.umax = 0;
  r.s32min = 0;
  r.s32max = 0;
  r.u32min = 0;
  r.u32max = 0;
}

/// Makes room for slot k of frame number `n`.
export function ensureSlot(s: State, n: i32, k: u32): Frame {
  const f = frameOf(s, n);
  if (k < f.slots) return f;
  const g = newFrame(k + 1);
  const slots = g.slots;
  memory.copy(changetype<usize>(g), changetype<usize>(f), classBytes(f.slots >> 2));
  g.slots = slots;
  freeFrame(f);
  setFrame(s, n, g);
  return g;
}

export function newState(): State {
  const s = changetype<State>(take(17));
  memory.fill(changetype<usize>(s), 0, STATE_BYTES);
  s.lostAt = -1;
  return s;
}

/// How many slots of frame `k` can still be read when the state goes on at `insn`.
function slotsAhead(s: State, k: i32, insn: i32): u32 {
  const at = k == s.depth ? insn : frameOf(s, k + 1).callsite;
  const high = liveHigh(at), low = liveLow(at);
  return high != 0 ? 32 + (65 - <u32> clz(high)) / 2 : (65 - <u32> clz(low)) / 2;
}

/// A copy that goes on at `insn`, or stands for what does; the stack that is not read any more is left out.
export function copyState(from: State, insn: i32): State {
  const s = changetype<State>(take(17));
  memory.copy(changetype<usize>(s), changetype<usize>(from), STATE_BYTES);
  for (let k = 0; k <= from.depth; k++) {
    const f = frameOf(from, k), c = min(f.slots, slotsAhead(from, k, insn) + 3) >> 2;
    const g = changetype<Frame>(take(c));
    memory.copy(changetype<usize>(g), changetype<usize>(f), classBytes(c));
    g.slots = c << 2;
    setFrame(s, k, g);
  }
  s.insn = insn;
  s.next = 0;
  s.branches = 0;
  s.hits = 0;
  s.misses = 0;
  s.hint = 0;
  s.relevant = 0;
  s.pending = 0;
  s.pendingNext = 0;
  s.ended = 0;
  s.waitsFor = 0;
  s.isEntry = 0;
  return s;
}

export function freeState(s: State): void {
  for (let k = 0; k <= s.depth; k++) freeFrame(frameOf(s, k));
  give(17, changetype<usize>(s));
}
