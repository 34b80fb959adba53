// Which numbers a verdict can depend on. Two states that differ only in other numbers need one exploration.
//
// Sinks are found while walking: a number added to a pointer, a size handed to a helper, a result that must lie
// in a range, the operands of a branch with one side proved dead. From each sink relevance flows backwards over
// the instructions (never along one path only), so it holds for every path that has used it. It only grows, and
// a state is pruned only by states that were explored to their ends: every decision made in that exploration
// has its sink already. Branches with both sides walked need nothing of their operands, unless what is learned
// there reaches a relevant number.
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_LD,
  BPF_LDX,
  BPF_ST,
  BPF_STX,
  claimCount,
  count,
  dstOf,
  findSub,
  immOf,
  isJump,
  M_HIGH,
  mark,
  OP_CALL,
  OP_EXIT,
  OP_JA,
  OP_JA32,
  OP_LDIMM,
  opcode,
  options,
  srcOf,
  subOf,
  subs,
  targetOf,
  usesCallbacks,
} from "./program";
import { defFirst, defLast, useFirst, useLast, wroteFirst, wroteLast } from "./liveness";

let relR: StaticArray<u16> = new StaticArray<u16>(0);
let sinkR: StaticArray<u16> = new StaticArray<u16>(0);
let relLo: StaticArray<u64> = new StaticArray<u64>(0);
let relHi: StaticArray<u64> = new StaticArray<u64>(0);
let predStart: StaticArray<i32> = new StaticArray<i32>(0);
let preds: StaticArray<i32> = new StaticArray<i32>(0);
let queue: StaticArray<i32> = new StaticArray<i32>(0);
let queued: StaticArray<u8> = new StaticArray<u8>(0);
let top: i32 = 0;
let exitRel: StaticArray<u8> = new StaticArray<u8>(256);
let everything: bool = false, everySlot: bool = false;

export function relevantRegs(i: i32): u32 {
  return everything ? 0x7ff : relR[i];
}
export function relevantSlot(i: i32, k: u32): bool {
  if (everything || everySlot) return true;
  const g = k * 2;
  return ((g < 64 ? relLo[i] >> g : relHi[i] >> (g - 64)) & 3) != 0;
}

/// The same as words of granules.
export function relevantLow(i: i32): u64 {
  return everything || everySlot ? u64.MAX_VALUE : relLo[i];
}
export function relevantHigh(i: i32): u64 {
  return everything || everySlot ? u64.MAX_VALUE : relHi[i];
}

function push(i: i32): void {
  if (queued[i]) return;
  queued[i] = 1;
  queue[top++] = i;
}

/// The registers in `mask` matter at this instruction.
export function sink(i: i32, mask: u32): void {
  if (everything || (mask & ~<u32> sinkR[i]) == 0) return;
  sinkR[i] |= <u16> mask;
  push(i);
  drain();
}

function mask(a: u8, b: u8, high: bool): u64 {
  if (a == 255) return 0;
  let lo = <i32> a, hi = <i32> b;
  if (high) {
    lo = max(lo - 64, 0);
    hi -= 64;
  } else hi = min(hi, 63);
  if (hi < lo || hi < 0 || lo > 63) return 0;
  return (u64.MAX_VALUE >> (63 - (hi - lo))) << lo;
}

function drain(): void {
  while (top > 0) {
    const i = queue[--top];
    queued[i] = 0;
    const op = opcode(i), c = op & 7;
    let r: u32 = 0, lo: u64 = 0, hi: u64 = 0;
    if (op == OP_EXIT) r = exitRel[subOf[i]] ? 1 : 0;
    else {
      if (op != OP_JA && op != OP_JA32) {
        const n = i + (op == OP_LDIMM ? 2 : 1);
        r = relR[n];
        lo = relLo[n];
        hi = relHi[n];
      }
      if (isJump(op)) {
        const t = targetOf(i);
        r |= relR[t];
        lo |= relLo[t];
        hi |= relHi[t];
      }
    }
    const d: u32 = 1 << dstOf(i), s: u32 = 1 << srcOf(i);
    if (c == BPF_ALU || c == BPF_ALU64) {
      const o = op & 0xf0;
      if (r & d) {
        if (o == 0xb0) r &= ~d;
        if (op & 8 && o != 0xd0) r |= s;
      }
    } else if (c == BPF_LD) r &= op == OP_LDIMM ? ~d : ~0x3f;
    else if (c == BPF_LDX) {
      if (r & d) {
        r &= ~d;
        lo |= mask(useFirst(i), useLast(i), false);
        hi |= mask(useFirst(i), useLast(i), true);
      }
    } else if (c == BPF_ST || c == BPF_STX) {
      if (c == BPF_STX && (op & 0xe0) == 0xc0) {
        const f = immOf(i);
        if (f == 0xf1) r &= ~1;
        else if (f & 1) r &= ~s;
      } else {
        if (c == BPF_STX) {
          const hit = (lo & mask(wroteFirst(i), wroteLast(i), false)) |
            (hi & mask(wroteFirst(i), wroteLast(i), true));
          if (hit || everySlot) r |= s;
        }
        lo &= ~mask(defFirst(i), defLast(i), false);
        hi &= ~mask(defFirst(i), defLast(i), true);
      }
    } else if (op == OP_CALL) {
      const r0 = r & 1;
      r &= ~0x3f;
      if (srcOf(i) == 1) {
        const k = findSub(i + 1 + immOf(i));
        if (!subs[k].isGlobal) {
          if (r0 && !exitRel[k]) {
            exitRel[k] = 1;
            for (let e = subs[k].start; e < subs[k].end; e++) {
              if (!(mark[e] & M_HIGH) && opcode(e) == OP_EXIT) push(e);
            }
          }
          r |= <u32> relR[subs[k].start] & 0x3e;
        }
      }
    } else if (op != OP_EXIT && op != OP_JA && op != OP_JA32) {
      // what a comparison teaches about one operand comes from the other
      if (op & 8 && r & (d | s)) r |= d | s;
    }
    r |= sinkR[i];
    if (<u16> r == relR[i] && lo == relLo[i] && hi == relHi[i]) continue;
    // never less than before: sinks and facts only add up
    relR[i] |= <u16> r;
    relLo[i] |= lo;
    relHi[i] |= hi;
    for (let p = predStart[i]; p < predStart[i + 1]; p++) push(preds[p]);
  }
}

/// Prepares the flow graph; `escapes`: some function lets its frame pointer out.
export function prepareRelevance(): void {
  // claims speak of every number, so with them none is left out of the comparison
  everything = usesCallbacks || (options & 8) != 0 || claimCount != 0;
  if (everything) return;
  for (let k = 0; k < subs.length; k++) if (subs[k].fpEscapes) everySlot = true;
  relR = new StaticArray<u16>(count);
  sinkR = new StaticArray<u16>(count);
  relLo = new StaticArray<u64>(count);
  relHi = new StaticArray<u64>(count);
  queue = new StaticArray<i32>(count + 1);
  queued = new StaticArray<u8>(count);
  predStart = new StaticArray<i32>(count + 2);
  for (let pass = 0; pass < 2; pass++) {
    for (let i = 0; i < count; i++) {
      if (mark[i] & M_HIGH) continue;
      const op = opcode(i);
      if (op != OP_EXIT && op != OP_JA && op != OP_JA32) edge(i, i + (op == OP_LDIMM ? 2 : 1), pass);
      if (isJump(op)) edge(i, targetOf(i), pass);
      if (op == OP_CALL && srcOf(i) == 1) edge(i, i + 1 + immOf(i), pass);
    }
    if (pass == 0) {
      // counts to starts; pass 1 fills backwards from the ends
      let sum = 0;
      for (let i = 0; i <= count; i++) {
        sum += predStart[i];
        predStart[i] = sum;
      }
      preds = new StaticArray<i32>(sum);
    }
  }
  predStart[count] = preds.length;
  if (everySlot) {
    for (let i = 0; i < count; i++) if (!(mark[i] & M_HIGH) && (opcode(i) & 7) == BPF_STX) push(i);
    drain();
  }
}
function edge(from: i32, to: i32, pass: i32): void {
  if (pass == 0) predStart[to]++;
  else preds[--predStart[to]] = from;
}
