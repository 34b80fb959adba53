// Conditional jumps: what is known on each side, and which sides there are.
import * as E from "./gen/codes";
import { strict } from "./access";
import { leaks } from "./arith";
import { JEQ, JGE, JGT, JLE, JLT, JNE, opposite, refine } from "./compare";
import { BPF_JMP32, dstOf, immOf, opcode, srcOf } from "./instruction";
import { fail1, fail2 } from "./outcome";
import {
  copyReg,
  F_NULL,
  isConst,
  K_END,
  K_KEY,
  K_MAP,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
  REG_BYTES,
  setConst,
} from "./reg";
import { sink } from "./relevance";
import { eachReg, reg } from "./run";
import { markNull, spreadNumber } from "./spread";
import { frameOf, regOf, State } from "./state";

const REACH: i64 = 1 << 29;
const bufA: usize = memory.data(REG_BYTES, 8);
const bufB: usize = memory.data(REG_BYTES, 8);
const bufC: usize = memory.data(REG_BYTES, 8);
const bufD: usize = memory.data(REG_BYTES, 8);
function R(b: usize): Reg {
  return changetype<Reg>(b);
}

export const TAKEN: i32 = 1, NOT_TAKEN: i32 = 2;
/// Checks operands; afterwards `sides` tells which sides there are and `narrow` applies what they know.
export let sides: i32 = 0;

/// How a comparison is understood: 1 numbers, 2 pointer with NULL, 3 packet, 0 nothing is learned.
let mode: i32 = 0;

let op: u8 = 0, is32: bool = false, d: u32 = 0, s: u32 = 0, byReg: bool = false;
export function prepareBranch(i: i32): bool {
  const code = opcode(i);
  op = code & 0xf0;
  is32 = (code & 7) == BPF_JMP32;
  d = dstOf(i);
  byReg = (code & 8) != 0;
  s = byReg ? srcOf(i) : 0;
  mode = 0;
  sides = TAKEN | NOT_TAKEN;
  const a = reg(d);
  if (a.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, d);
  const a1 = R(bufA), b1 = R(bufB), a2 = R(bufC), b2 = R(bufD);
  if (byReg) {
    if (reg(s).kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, s);
    copyReg(b1, reg(s));
  } else setConst(b1, <u64> (<i64> immOf(i)));
  if (a.kind == K_NUM && b1.kind == K_NUM) {
    if (byReg && d == s) return true;
    mode = 1;
    copyReg(a1, a);
    // what a comparison teaches about one of them comes from the other
    if (byReg) a1.from = b1.from = a.from | b1.from;
    copyReg(a2, a1);
    copyReg(b2, b1);
    if (!refine(a1, b1, op, is32)) sides &= ~TAKEN;
    if (!refine(a2, b2, opposite(op), is32)) sides &= ~NOT_TAKEN;
    const mask: u32 = (1 << d) | (byReg ? 1 << s : 0);
    // a side that is proved dead rests on the operands
    if (sides != (TAKEN | NOT_TAKEN)) sink(mask);
    // a register without any value left: this path cannot be, both sides are dead
    return true;
  }
  if (byReg) sink((1 << d) | (1 << s));
  if (is32) return comparable(i, a, b1);
  const zero = b1.kind == K_NUM && isConst(b1) && b1.bits == 0;
  if (a.kind > K_NUM && zero && (op == JEQ || op == JNE)) {
    // as the kernel has it: a register that holds 0 tells nothing of a pointer
    if (a.flags & F_NULL) mode = byReg ? 0 : 2;
    else if (neverNull(a)) sides = op == JEQ ? NOT_TAKEN : TAKEN;
    return true;
  }
  if (a.kind > K_NUM && b1.kind > K_NUM && (op == JEQ || op == JNE) && (a.flags | b1.flags) & F_NULL) {
    if (((a.flags & b1.flags) & F_NULL) == 0 && neverNull(a.flags & F_NULL ? b1 : a)) mode = 4;
    return true;
  }
  if (packetPair(a, b1)) mode = 3;
  return mode != 0 || comparable(i, a, b1);
}

/// In strict mode an address is compared only with NULL, with another that may be NULL, and within the packet.
function comparable(i: i32, a: Reg, b: Reg): bool {
  if (!strict()) return true;
  if (a.kind > K_NUM && b.kind > K_NUM) return fail2(E.POINTER_COMPARISON, i, d, s);
  return leaks(i, a.kind > K_NUM ? d : s, a.kind > K_NUM ? a : b);
}

/// Whether the pointer cannot be 0. One that was moved without a bound may have come round to it.
function neverNull(r: Reg): bool {
  if (r.smin <= -REACH || r.smax >= REACH) return false;
  switch (r.kind) {
    case K_VALUE:
    case K_KEY:
    case K_SOCK:
    case K_SKC:
    case K_TCP:
    case K_XSK:
    case K_MEM:
    case K_MAP:
      return (r.flags & F_NULL) == 0;
    default:
      return false;
  }
}

/// Whether r is the unmoved start of the packet.
function packetStart(r: Reg): bool {
  return r.kind == K_PKT && r.id == 0 && r.off == 0 && isConst(r) && r.bits == 0;
}

function bounds(end: Reg, kind: u8): bool {
  return kind == K_PKT ? end.kind == K_END : kind == K_META ? packetStart(end) : false;
}

function packetPair(a: Reg, b: Reg): bool {
  if (op != JGT && op != JLT && op != JGE && op != JLE) return false;
  return bounds(b, a.kind) || bounds(a, b.kind);
}

/// Gives one side of the branch that was prepared what it knows. `st` is a copy of or the state itself.
export function narrow(st: State, taken: bool): void {
  const f = frameOf(st, st.depth);
  if (mode == 1) {
    const a = regOf(f, d);
    const ra = taken ? R(bufA) : R(bufC), rb = taken ? R(bufB) : R(bufD);
    copyReg(a, ra);
    spreadNumber(st, a);
    if (byReg) {
      const b = regOf(f, s);
      copyReg(b, rb);
      spreadNumber(st, b);
    }
    return;
  }
  if (mode == 2) {
    markNull(st, regOf(f, d).id, (op == JEQ) == taken);
    return;
  }
  if (mode == 4) {
    if ((op == JEQ) != taken) return;
    const a = regOf(f, d);
    markNull(st, a.flags & F_NULL ? a.id : regOf(f, s).id, false);
    return;
  }
  if (mode != 3) return;
  const a = regOf(f, d), b = regOf(f, s);
  const held = taken ? op : opposite(op);
  if (bounds(b, a.kind)) {
    if (held == JLE || held == JLT) proved(st, a, held == JLT);
  } else if (held == JGE || held == JGT) proved(st, b, held == JGT);
}

let provedKind: u8 = 0;
/// p <= end (or p < end): the bytes up to p are there, for every pointer with p's base.
function proved(st: State, p: Reg, less: bool): void {
  const n = p.off + (less ? 1 : 0);
  // `base < end` proves one byte; the kernel takes nothing from it, and what it refuses we do not accept
  if (p.off <= 0 || n > 0xffff || p.umax > <u64> (0xffff - p.off)) return;
  provedKind = p.kind;
  eachReg(
    st,
    (r: Reg, id: u64, size: u64): void => {
      if (r.kind == provedKind && <u64> r.id == id && r.size < <i32> size) r.size = <i32> size;
    },
    p.id,
    n,
  );
}
