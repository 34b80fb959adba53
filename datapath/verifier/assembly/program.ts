// The program as it was handed over: instructions, maps, functions; and the checks of its structure.
import { fail, fail1, fail2, failIS, failS } from "./outcome";
import { BYTES_OF_ANSWER, BYTES_OF_SLOT, setAnswers, setAttach, setStructs } from "./btf";

export const INSNS_MAX: i32 = 1000000;
const FUNCTIONS_MAX: i32 = 256;
const MAPS_MAX: i32 = 64;

export class MapInfo {
  handle: u32 = 0;
  type: u32 = 0;
  keySize: u32 = 0;
  valueSize: u32 = 0;
  maxEntries: u32 = 0;
  flags: u32 = 0;
  frozen: bool = false;
  contents: usize = 0;
  contentsLength: u32 = 0;
  inner: i32 = -1; // index of the inner map's facts
  fieldCount: u32 = 0;
  fields: usize = 0; // {kind, offset, size} x fieldCount
}

export class Sub {
  start: i32 = 0;
  end: i32 = 0;
  isGlobal: bool = false;
  name: string = "";
  returns: u32 = 3;
  argCount: u32 = 0;
  args: usize = 0; // {kind, size} x argCount
  isCallback: bool = false;
  changesPacket: bool = false;
  tailCalls: bool = false;
  usesLdAbs: bool = false;
  depth: i32 = 0; // bytes of stack, found while walking
  fpEscapes: bool = false;
}

export let insns: usize = 0;
export let count: i32 = 0;
export let progType: i32 = 0, attachType: i32 = 0, progFlags: u32 = 0, options: u32 = 0;
export let visitsMax: u32 = 0, statesMax: u32 = 0, memoryMax: u32 = 0;
export const maps: Array<MapInfo> = [];
export let outerMaps: i32 = 0;
export const subs: Array<Sub> = [];
export let claimList: usize = 0, claimCount: u32 = 0;
export let subOf: StaticArray<u8> = new StaticArray<u8>(0);
export let mark: StaticArray<u8> = new StaticArray<u8>(0);
/// Kind of pointer that each load or store was walked with so far, plus one; 0 not yet.
export let addressKind: StaticArray<u8> = new StaticArray<u8>(0);
export const M_HIGH: u8 = 1, M_TARGET: u8 = 2, M_SEEN: u8 = 4, M_FORCE: u8 = 8, M_CALLBACK: u8 = 16;
export let usesCallbacks: bool = false;
/// A helper wants bytes of the stack to be initialised although it is privileged (bpf_check_mtu).
export let usesWritten: bool = false;
let kfuncs: usize = 0, kfuncCount: u32 = 0;

// --- instruction fields ---
// @ts-ignore: decorator

export function opcode(i: i32): u8 {
  return load<u8>(insns + (<usize> i << 3));
}

// @ts-ignore: decorator

export function dstOf(i: i32): u32 {
  return <u32> load<u8>(insns + (<usize> i << 3), 1) & 15;
}

// @ts-ignore: decorator

export function srcOf(i: i32): u32 {
  return <u32> load<u8>(insns + (<usize> i << 3), 1) >> 4;
}

// @ts-ignore: decorator

export function offOf(i: i32): i32 {
  return <i32> load<i16>(insns + (<usize> i << 3), 2);
}

// @ts-ignore: decorator

export function immOf(i: i32): i32 {
  return load<i32>(insns + (<usize> i << 3), 4);
}

export const BPF_LD: u8 = 0,
  BPF_LDX: u8 = 1,
  BPF_ST: u8 = 2,
  BPF_STX: u8 = 3,
  BPF_ALU: u8 = 4,
  BPF_JMP: u8 = 5;
export const BPF_JMP32: u8 = 6, BPF_ALU64: u8 = 7;
export const OP_CALL: u8 = 0x85,
  OP_EXIT: u8 = 0x95,
  OP_JA: u8 = 0x05,
  OP_JA32: u8 = 0x06,
  OP_LDIMM: u8 = 0x18;

/// Target of a jump instruction.
export function targetOf(i: i32): i32 {
  return i + 1 + (opcode(i) == OP_JA32 ? immOf(i) : offOf(i));
}
export function isJump(op: u8): bool {
  const c = op & 7;
  if (c == BPF_JMP) return op != OP_CALL && op != OP_EXIT;
  return c == BPF_JMP32;
}

// --- reading the request ---
let at: usize = 0, end: usize = 0, broken: bool = false;
function u(): u32 {
  if (at + 4 > end) {
    broken = true;
    return 0;
  }
  const v = load<u32>(at);
  at += 4;
  return v;
}
let strLength: u32 = 0;
function str(): usize {
  const n = u();
  if (broken || <u64> n > <u64> (end - at)) {
    broken = true;
    strLength = 0;
    return at;
  }
  const p = at;
  const padded = (<usize> n + 3) & ~3;
  if (padded > end - at) broken = true;
  else at += padded;
  strLength = broken ? 0 : n;
  return p;
}
function many(each: u32): u32 {
  const n = u();
  if (<u64> n * each > <u64> (end - at)) {
    broken = true;
    return 0;
  }
  return n;
}
function text(): string {
  const p = str();
  return String.UTF8.decodeUnsafe(p, min<u32>(strLength, 128));
}
function shape(m: MapInfo): void {
  m.type = u();
  m.keySize = u();
  m.valueSize = u();
  m.maxEntries = u();
  m.flags = u();
  m.fieldCount = many(12);
  m.fields = at;
  at += m.fieldCount * 12;
}

export function readRequest(pointer: usize, length: u32): bool {
  at = pointer;
  end = pointer + length;
  if (u() != 0x51525657 || u() != 1) return failS(1, -1, "magic or version");
  text();
  progType = u();
  attachType = u();
  progFlags = u();
  options = u();
  const profile = text();
  visitsMax = u();
  statesMax = u();
  memoryMax = u();
  insns = str();
  if (broken || strLength & 7) return failS(1, -1, "instructions");
  count = <i32> (strLength >> 3);
  if (profile != "default") return failS(168, -1, profile);
  const n = many(28);
  const inners: Array<MapInfo> = [];
  for (let i: u32 = 0; i < n && !broken; i++) {
    const m = new MapInfo();
    m.handle = u();
    shape(m);
    m.frozen = u() != 0;
    m.contents = str();
    m.contentsLength = strLength;
    if (u() != 0) {
      const inner = new MapInfo();
      inner.handle = m.handle;
      shape(inner);
      m.inner = <i32> n + inners.length;
      inners.push(inner);
    }
    maps.push(m);
  }
  outerMaps = maps.length;
  for (let i = 0; i < inners.length; i++) maps.push(inners[i]);
  const s = many(20);
  for (let i: u32 = 0; i < s && !broken; i++) {
    const sub = new Sub();
    sub.start = u();
    sub.isGlobal = u() == 1;
    sub.name = text();
    sub.returns = u();
    sub.argCount = many(8);
    sub.args = at;
    at += sub.argCount * 8;
    subs.push(sub);
  }
  kfuncCount = many(8);
  kfuncs = at;
  for (let i: u32 = 0; i < kfuncCount && !broken; i++) {
    u();
    str();
  }
  claimCount = many(4);
  claimList = at;
  at += claimCount * 4;
  if (!broken && !readKernelTypes()) return failS(1, -1, "kernel types");
  if (broken || at != end) return failS(1, -1, "length");
  for (let i = 0; i < maps.length; i++) {
    const m = maps[i];
    if (m.keySize > 512 && m.type != 4 || m.valueSize > 1 << 28) return failS(1, -1, "map sizes");
    if (m.contentsLength > m.valueSize) return failS(1, -1, "map contents");
  }
  return true;
}

function readKernelTypes(): bool {
  if (u() != 0) {
    const target = text(), refused = text(), flags = u();
    const n = many(BYTES_OF_SLOT);
    if (broken || !setAttach(target, refused, flags, at, n)) return false;
    at += n * BYTES_OF_SLOT;
  }
  const n = many(BYTES_OF_ANSWER);
  if (broken || !setAnswers(at, n)) return false;
  at += n * BYTES_OF_ANSWER;
  const s = many(12);
  setStructs(at, s);
  for (let i: u32 = 0; i < s && !broken; i++) {
    u();
    u();
    str();
  }
  const callback = text();
  if (callback.length) return failS(173, -1, callback);
  return true;
}

function kfuncName(id: i32): string {
  let p = kfuncs;
  for (let i: u32 = 0; i < kfuncCount; i++) {
    const n = load<u32>(p + 4);
    if (load<i32>(p) == id) return String.UTF8.decodeUnsafe(p + 8, min<u32>(n, 128));
    p += 8 + ((n + 3) & ~3);
  }
  return "?";
}

export function findMap(handle: u32): i32 {
  for (let i = 0; i < outerMaps; i++) if (maps[i].handle == handle) return i;
  return -1;
}

/// Whether values of a map have a spin lock; `at` is one at that offset, -1: anywhere.
export function hasLock(map: i32, at: i64): bool {
  const m = maps[map];
  for (let k: u32 = 0; k < m.fieldCount; k++) {
    const p = m.fields + k * 12;
    if (load<u32>(p) == 1 && load<u32>(p, 8) == 4 && (at < 0 || <i64> load<u32>(p, 4) == at)) return true;
  }
  return false;
}

/// Program types in which the kernel takes no map with locks: socket filters and tracing in any context.
function mayLock(): bool {
  return progType != 1 && progType != 2 && progType != 5 && progType != 7 && progType != 17 && progType != 24;
}

export function findSub(start: i32): i32 {
  for (let i = 0; i < subs.length; i++) if (subs[i].start == start) return i;
  return -1;
}

function addSub(start: i32): bool {
  if (findSub(start) >= 0) return true;
  if (subs.length >= FUNCTIONS_MAX) return fail2(14, start, subs.length + 1, FUNCTIONS_MAX);
  const sub = new Sub();
  sub.start = start;
  subs.push(sub);
  return true;
}

// --- structure ---
/// Checks encoding, functions and control flow of the whole program.
export function checkStructure(): bool {
  if (count == 0) return fail(2, -1);
  if (count > INSNS_MAX) return fail2(3, -1, count, INSNS_MAX);
  mark = new StaticArray<u8>(count);
  addressKind = new StaticArray<u8>(count);
  subOf = new StaticArray<u8>(count);
  let usedMaps = 0;
  if (!addSub(0)) return false;
  for (let i = 0; i < count; i++) {
    const op = opcode(i);
    if (op == OP_LDIMM) {
      if (i + 1 >= count || load<u32>(insns + (<usize> (i + 1) << 3)) != 0) return fail(10, i);
      mark[i + 1] |= M_HIGH;
      if (srcOf(i) == 1 || srcOf(i) == 2) usedMaps++;
    }
    if (!checkEncoding(i, op)) return false;
    if (op == OP_LDIMM) i++;
  }
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i);
    let callee = -1;
    if (op == OP_CALL && srcOf(i) == 1) callee = i + 1 + immOf(i);
    else if (op == OP_LDIMM && srcOf(i) == 4) callee = i + 1 + immOf(i);
    else continue;
    if (callee < 0 || callee >= count || mark[callee] & M_HIGH) return fail1(8, i, callee);
    if (!addSub(callee)) return false;
    if (op == OP_LDIMM) {
      subs[findSub(callee)].isCallback = true;
      usesCallbacks = true;
    }
  }
  if (outerMaps > MAPS_MAX) return fail2(18, -1, outerMaps, MAPS_MAX);
  subs.sort((a, b) => a.start - b.start);
  for (let k = 0; k < subs.length; k++) {
    const s = subs[k];
    if (
      s.start < 0 || s.start >= count || mark[s.start] & M_HIGH || (k > 0 && subs[k - 1].start == s.start)
    ) {
      return fail1(20, -1, s.start);
    }
    s.end = k + 1 < subs.length ? subs[k + 1].start : count;
    if (s.end > count) return fail1(20, -1, s.end);
    for (let i = s.start; i < s.end; i++) subOf[i] = <u8> k;
  }
  return checkFlow() && checkCalls();
}

function checkEncoding(i: i32, op: u8): bool {
  const dst = dstOf(i), src = srcOf(i), off = offOf(i), imm = immOf(i);
  if (dst > 10) return fail1(6, i, dst);
  const c = op & 7;
  if (c == BPF_ALU || c == BPF_ALU64) {
    const o = op & 0xf0;
    if (o > 0xd0) return fail1(4, i, op);
    if (o == 0xd0) {
      if (off != 0 || src != 0) return fail1(5, i, op);
      if (imm != 16 && imm != 32 && imm != 64) return fail1(5, i, op);
      if (c == BPF_ALU64 && op & 8) return fail1(5, i, op);
    } else if (o == 0x80) {
      if (op & 8 || off != 0 || src != 0 || imm != 0) return fail1(5, i, op);
    } else if (op & 8) {
      if (imm != 0) return fail1(5, i, op);
      if (src > 10) return fail1(6, i, src);
      if (o == 0xb0) {
        if (off != 0 && off != 8 && off != 16 && !(off == 32 && c == BPF_ALU64)) {
          if (c == BPF_ALU64 && off == 1) return failS(163, i, "Address space cast (arena)");
          return fail1(5, i, op);
        }
      } else if (off != 0 && !(off == 1 && (o == 0x30 || o == 0x90))) return fail1(5, i, op);
    } else {
      if (src != 0) return fail1(5, i, op);
      if (off != 0 && !(off == 1 && (o == 0x30 || o == 0x90))) return fail1(5, i, op);
      if (o == 0x60 || o == 0x70 || o == 0xc0) {
        const width = c == BPF_ALU64 ? 64 : 32;
        if (imm < 0 || imm >= width) return fail2(46, i, imm, width);
      }
    }
    return true;
  }
  if (src > 10) return fail1(6, i, src);
  if (c == BPF_JMP || c == BPF_JMP32) {
    const o = op & 0xf0;
    if (c == BPF_JMP && o == 0x80) {
      if (op != OP_CALL || off != 0 && src != 2 || dst != 0 || src > 2) return fail1(5, i, op);
      if (src == 2) return failIS(162, i, imm, kfuncName(imm));
      return true;
    }
    if (c == BPF_JMP && o == 0x90) {
      if (op != OP_EXIT || off != 0 || imm != 0 || src != 0 || dst != 0) return fail1(5, i, op);
      return true;
    }
    if (o == 0) {
      if (op & 8 || src != 0 || dst != 0) return fail1(5, i, op);
      if (c == BPF_JMP ? imm != 0 : off != 0) return fail1(5, i, op);
      return true;
    }
    if (o == 0xe0) return failS(163, i, "may_goto");
    if (o > 0xd0) return fail1(4, i, op);
    if (op & 8 ? imm != 0 : src != 0) return fail1(5, i, op);
    return true;
  }
  const mode = op & 0xe0, size = op & 0x18;
  if (c == BPF_LD) {
    if (op == OP_LDIMM) {
      if (off != 0) return fail1(5, i, op);
      if (src == 3) return fail1(169, i, imm);
      if (src == 5 || src == 6) return failS(163, i, "Map reference by index");
      if (src > 6) return fail1(5, i, op);
      if (src == 1 || src == 2) {
        if (findMap(<u32> imm) < 0) return fail1(84, i, <u32> imm);
        if (src == 1 && immOf(i + 1) != 0) return fail1(5, i, op);
        if (!mayLock() && hasLock(findMap(<u32> imm), -1)) return fail2(115, i, imm, progType);
      }
      return true;
    }
    if ((mode != 0x20 && mode != 0x40) || size == 0x18) return fail1(4, i, op);
    if (off != 0 || dst != 0 || (mode == 0x20 && src != 0)) return fail1(5, i, op);
    return true;
  }
  if (c == BPF_LDX) {
    if (mode != 0x60 && !(mode == 0x80 && size != 0x18)) return fail1(4, i, op);
    if (imm != 0) return fail1(5, i, op);
    return true;
  }
  if (c == BPF_ST) {
    if (mode != 0x60) return fail1(4, i, op);
    if (src != 0) return fail1(5, i, op);
    return true;
  }
  if (mode == 0x60) return imm == 0 ? true : fail1(5, i, op);
  if (mode != 0xc0) return fail1(4, i, op);
  if (imm == 0x100 || imm == 0x110) return failS(163, i, "Load acquire and store release");
  if (size != 0 && size != 0x18) return fail1(4, i, op);
  const plain = imm & ~1;
  if (plain != 0 && plain != 0x40 && plain != 0x50 && plain != 0xa0 && imm != 0xe1 && imm != 0xf1) {
    return fail1(5, i, op);
  }
  if (imm != 0 && src == 10 && imm & 1) return fail(7, i);
  return true;
}

/// Jumps stay in their function, every instruction is reached from its function's start.
function checkFlow(): bool {
  const stack = new StaticArray<i32>(count);
  for (let k = 0; k < subs.length; k++) {
    const s = subs[k];
    let last = s.end - 1;
    if (mark[last] & M_HIGH) return fail(11, last);
    const lop = opcode(last);
    if (lop != OP_EXIT && lop != OP_JA && lop != OP_JA32) return fail(11, last);
    let top = 0;
    stack[top++] = s.start;
    mark[s.start] |= M_SEEN;
    while (top > 0) {
      const i = stack[--top];
      const op = opcode(i);
      if (op == OP_EXIT) continue;
      if (isJump(op)) {
        const t = targetOf(i);
        if (t < s.start || t >= s.end) return fail1(8, i, t);
        if (mark[t] & M_HIGH) return fail1(9, i, t);
        mark[t] |= M_TARGET;
        if (!(mark[t] & M_SEEN)) {
          mark[t] |= M_SEEN;
          stack[top++] = t;
        }
        if (op == OP_JA || op == OP_JA32) continue;
        if (i + 1 < s.end) mark[i + 1] |= M_TARGET;
      }
      const next = i + (op == OP_LDIMM ? 2 : 1);
      if (next >= s.end) return fail(11, i);
      if (op == OP_CALL && srcOf(i) != 2) mark[next] |= M_TARGET;
      if (!(mark[next] & M_SEEN)) {
        mark[next] |= M_SEEN;
        stack[top++] = next;
      }
    }
    for (let i = s.start; i < s.end; i++) {
      if (!(mark[i] & (M_SEEN | M_HIGH))) return fail1(12, i, i);
    }
  }
  return true;
}

/// No recursion; what a function does that its callers must know.
function checkCalls(): bool {
  const n = subs.length;
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i), s = subs[subOf[i]];
    if (op == OP_CALL && srcOf(i) == 0) {
      if (immOf(i) == 12) {
        s.tailCalls = true;
        s.changesPacket = true;
      }
      if (helperChangesPacket(immOf(i))) s.changesPacket = true;
      if (immOf(i) == 163) usesWritten = true;
    }
    if (op & 7) continue;
    if (op != OP_LDIMM) s.usesLdAbs = true;
  }
  // reach[a * n + b]: a calls b, in one or more steps
  const reach = new StaticArray<u8>(n * n);
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i);
    if ((op == OP_CALL && srcOf(i) == 1) || (op == OP_LDIMM && srcOf(i) == 4)) {
      const b = findSub(i + 1 + immOf(i));
      reach[<i32> subOf[i] * n + b] = 1;
    }
  }
  for (let k = 0; k < n; k++) {
    for (let a = 0; a < n; a++) {
      if (!reach[a * n + k]) continue;
      for (let b = 0; b < n; b++) if (reach[k * n + b]) reach[a * n + b] = 1;
    }
  }
  for (let a = 0; a < n; a++) {
    if (reach[a * n + a]) {
      // a timer's function may set the timer again: that is no recursion, but not modelled
      for (let i = 0; i < count; i++) {
        if (!(mark[i] & M_HIGH) && opcode(i) == OP_CALL && srcOf(i) == 0 && immOf(i) == 170) {
          return failIS(161, i, 170, "bpf_timer_set_callback");
        }
      }
      return fail1(13, subs[a].start, subs[a].start);
    }
    for (let b = 0; b < n; b++) {
      if (reach[a * n + b]) {
        if (subs[b].changesPacket) subs[a].changesPacket = true;
      }
    }
  }
  return true;
}

import { CONTRACT } from "./gen/tables";
export function helperChangesPacket(id: i32): bool {
  return id > 0 && id < 256 && (CONTRACT[id * 8] & 4) != 0;
}
