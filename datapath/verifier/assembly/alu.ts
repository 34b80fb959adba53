// Arithmetic of the number domain.
import { LOW, signExtend, sync, zext32 } from "./number";
import { copyReg, isConst, noBounds, Reg, setConst, setValue } from "./reg";
import { tAdd, tB, tM, tMul, tSub } from "./tnum";

/* ALU operations, by the high nibble of the opcode. */
export const ADD: u8 = 0x00, SUB: u8 = 0x10, MUL: u8 = 0x20, DIV: u8 = 0x30, OR: u8 = 0x40, AND: u8 = 0x50;

export const LSH: u8 = 0x60, RSH: u8 = 0x70, NEG: u8 = 0x80, MOD: u8 = 0x90, XOR: u8 = 0xa0, MOV: u8 = 0xb0;
export const ARSH: u8 = 0xc0, END: u8 = 0xd0;
function addRanges(a: Reg, b: Reg): void {
  const sl = a.smin + b.smin, sh = a.smax + b.smax;
  if (((a.smin ^ sl) & (b.smin ^ sl)) < 0 || ((a.smax ^ sh) & (b.smax ^ sh)) < 0) {
    a.smin = i64.MIN_VALUE;
    a.smax = i64.MAX_VALUE;
  } else {
    a.smin = sl;
    a.smax = sh;
  }
  const ul = a.umin + b.umin, uh = a.umax + b.umax;
  // both ends wrap or none does: the interval stays one
  if ((ul < a.umin) != (uh < a.umax)) {
    a.umin = 0;
    a.umax = u64.MAX_VALUE;
  } else {
    a.umin = ul;
    a.umax = uh;
  }
  const s32l = <i64> a.s32min + <i64> b.s32min, s32h = <i64> a.s32max + <i64> b.s32max;
  if (s32l < <i64> i32.MIN_VALUE || s32h > <i64> i32.MAX_VALUE) {
    a.s32min = i32.MIN_VALUE;
    a.s32max = i32.MAX_VALUE;
  } else {
    a.s32min = <i32> s32l;
    a.s32max = <i32> s32h;
  }
  const u32l = <u64> a.u32min + <u64> b.u32min, u32h = <u64> a.u32max + <u64> b.u32max;
  if ((u32l > LOW) != (u32h > LOW)) {
    a.u32min = 0;
    a.u32max = u32.MAX_VALUE;
  } else {
    a.u32min = <u32> u32l;
    a.u32max = <u32> u32h;
  }
}

function subRanges(a: Reg, b: Reg): void {
  const sl = a.smin - b.smax, sh = a.smax - b.smin;
  if (((a.smin ^ b.smax) & (a.smin ^ sl)) < 0 || ((a.smax ^ b.smin) & (a.smax ^ sh)) < 0) {
    a.smin = i64.MIN_VALUE;
    a.smax = i64.MAX_VALUE;
  } else {
    a.smin = sl;
    a.smax = sh;
  }
  if ((a.umin < b.umax) != (a.umax < b.umin)) {
    a.umin = 0;
    a.umax = u64.MAX_VALUE;
  } else {
    const lo = a.umin - b.umax;
    a.umax = a.umax - b.umin;
    a.umin = lo;
  }
  const s32l = <i64> a.s32min - <i64> b.s32max, s32h = <i64> a.s32max - <i64> b.s32min;
  if (s32l < <i64> i32.MIN_VALUE || s32h > <i64> i32.MAX_VALUE) {
    a.s32min = i32.MIN_VALUE;
    a.s32max = i32.MAX_VALUE;
  } else {
    a.s32min = <i32> s32l;
    a.s32max = <i32> s32h;
  }
  if ((a.u32min < b.u32max) != (a.u32max < b.u32min)) {
    a.u32min = 0;
    a.u32max = u32.MAX_VALUE;
  } else {
    const lo = a.u32min - b.u32max;
    a.u32max = a.u32max - b.u32min;
    a.u32min = lo;
  }
}

function mulRanges(a: Reg, b: Reg): void {
  const big = a.umax > LOW || b.umax > LOW;
  const small = a.smin >= <i64> i32.MIN_VALUE && a.smax <= <i64> i32.MAX_VALUE &&
    b.smin >= <i64> i32.MIN_VALUE && b.smax <= <i64> i32.MAX_VALUE;
  const p = a.smin * b.smin, q = a.smin * b.smax, s = a.smax * b.smin, t = a.smax * b.smax;
  if (big) {
    a.umin = 0;
    a.umax = u64.MAX_VALUE;
  } else {
    a.umin *= b.umin;
    a.umax *= b.umax;
  }
  if (small) {
    a.smin = min(min(p, q), min(s, t));
    a.smax = max(max(p, q), max(s, t));
  } else {
    a.smin = i64.MIN_VALUE;
    a.smax = i64.MAX_VALUE;
  }
  const h = <u64> a.u32max * <u64> b.u32max;
  if (h > LOW) {
    a.u32min = 0;
    a.u32max = u32.MAX_VALUE;
  } else {
    a.u32min *= b.u32min;
    a.u32max = <u32> h;
  }
  const p2 = <i64> a.s32min * <i64> b.s32min, q2 = <i64> a.s32min * <i64> b.s32max;
  const s2 = <i64> a.s32max * <i64> b.s32min, t2 = <i64> a.s32max * <i64> b.s32max;
  const l2 = min(min(p2, q2), min(s2, t2)), h2 = max(max(p2, q2), max(s2, t2));
  if (l2 < <i64> i32.MIN_VALUE || h2 > <i64> i32.MAX_VALUE) {
    a.s32min = i32.MIN_VALUE;
    a.s32max = i32.MAX_VALUE;
  } else {
    a.s32min = <i32> l2;
    a.s32max = <i32> h2;
  }
}

/// dst = dst OP src on numbers; `signed` is sdiv and smod of ISA v4. `src` may be changed. Never dead.
export function alu(dst: Reg, src: Reg, op: u8, is32: bool, signed: bool): void {
  if (is32) {
    zext32(dst);
    zext32(src);
  }
  const known = isConst(src);
  const width: u64 = is32 ? 32 : 64;
  switch (op) {
    case ADD: {
      tAdd(dst.bits, dst.unk, src.bits, src.unk);
      dst.bits = tB;
      dst.unk = tM;
      addRanges(dst, src);
      break;
    }
    case SUB: {
      tSub(dst.bits, dst.unk, src.bits, src.unk);
      dst.bits = tB;
      dst.unk = tM;
      subRanges(dst, src);
      break;
    }
    case MUL: {
      tMul(dst.bits, dst.unk, src.bits, src.unk);
      dst.bits = tB;
      dst.unk = tM;
      mulRanges(dst, src);
      break;
    }
    case AND: {
      const bits = dst.bits & src.bits, may = (dst.bits | dst.unk) & (src.bits | src.unk);
      const top = min(dst.umax, src.umax), low = <u32> min(dst.u32max, src.u32max);
      const negative = dst.smin < 0 && src.smin < 0;
      noBounds(dst);
      dst.bits = bits;
      dst.unk = may & ~bits;
      dst.umax = top;
      dst.u32max = low;
      if (!negative && !is32) dst.smin = 0;
      break;
    }
    case OR: {
      const bits = dst.bits | src.bits, may = dst.bits | dst.unk | src.bits | src.unk;
      const low = max(dst.umin, src.umin);
      noBounds(dst);
      dst.bits = bits;
      dst.unk = may & ~bits;
      dst.umin = low;
      break;
    }
    case XOR: {
      const unk = dst.unk | src.unk, bits = (dst.bits ^ src.bits) & ~unk;
      noBounds(dst);
      dst.bits = bits;
      dst.unk = unk;
      break;
    }
    case LSH: {
      if (src.umax >= width) {
        noBounds(dst);
        break;
      }
      const lo = src.umin, hi = src.umax, ul = dst.umin, uh = dst.umax, ob = dst.bits, om = dst.unk;
      const s32l = dst.s32min, s32h = dst.s32max;
      const trailing = min(<u64> ctz(ob | om), 63);
      noBounds(dst);
      if (known) {
        dst.bits = ob << lo;
        dst.unk = om << lo;
      } else dst.unk = u64.MAX_VALUE << min(trailing + lo, 63);
      if (lo == 32 && hi == 32 && !is32) {
        // the low half moves up: its sign decides
        dst.smin = <i64> s32l << 32;
        dst.smax = <i64> s32h << 32;
      }
      if (uh <= u64.MAX_VALUE >> hi) {
        dst.umin = ul << lo;
        dst.umax = uh << hi;
      }
      break;
    }
    case RSH: {
      if (src.umax >= width) {
        noBounds(dst);
        break;
      }
      const lo = src.umin, hi = src.umax, ul = dst.umin, uh = dst.umax, ob = dst.bits, om = dst.unk;
      noBounds(dst);
      if (known) {
        dst.bits = ob >> lo;
        dst.unk = om >> lo;
      }
      dst.umin = ul >> hi;
      dst.umax = uh >> lo;
      break;
    }
    case ARSH: {
      if (src.umax >= width) {
        noBounds(dst);
        break;
      }
      if (is32) signExtend(dst, 4);
      const lo = src.umin, hi = src.umax, sl = dst.smin, sh = dst.smax, ob = dst.bits, om = dst.unk;
      noBounds(dst);
      if (known) {
        dst.bits = <u64> (<i64> ob >> lo);
        dst.unk = <u64> (<i64> om >> lo);
        dst.bits &= ~dst.unk;
      }
      dst.smin = sl < 0 ? sl >> lo : sl >> hi;
      dst.smax = sh < 0 ? sh >> hi : sh >> lo;
      if (is32) sync(dst);
      break;
    }
    case DIV:
    case MOD:
      divide(dst, src, op, is32, signed);
      break;
    default:
      noBounds(dst);
  }
  if (is32) {
    if (op != ADD && op != SUB && op != MUL) {
      // the 32-bit parts were not kept by these operations: take them from the low half of the 64-bit ones
      sync(dst);
    }
    zext32(dst);
  } else sync(dst);
}

function divide(dst: Reg, src: Reg, op: u8, is32: bool, signed: bool): void {
  if (signed) {
    if (isConst(dst) && isConst(src)) {
      let a = is32 ? <i64> (<i32> dst.bits) : <i64> dst.bits;
      const b = is32 ? <i64> (<i32> src.bits) : <i64> src.bits;
      if (b == 0) a = op == DIV ? 0 : a;
      else if (b == -1) a = op == DIV ? 0 - a : 0; // INT_MIN / -1 wraps to INT_MIN
      else a = op == DIV ? a / b : a % b;
      setValue(dst, <u64> a);
      return;
    }
    noBounds(dst);
    return;
  }
  // division by zero gives 0, the remainder by zero the dividend (32-bit: its low half)
  const ul = dst.umin, uh = dst.umax, one = isConst(dst);
  const bl = src.umin, bh = src.umax;
  noBounds(dst);
  if (op == DIV) {
    if (bl == 0) dst.umax = uh;
    else {
      dst.umin = ul / bh;
      dst.umax = uh / bl;
    }
  } else if (bl > 0 && bl == bh && one) {
    dst.umin = dst.umax = ul % bl;
  } else if (bl > 0 && uh < bl) {
    dst.umin = ul;
    dst.umax = uh;
  } else {
    dst.umax = bl == 0 ? uh : min(uh, bh - 1);
  }
}

/// dst = -dst
export function negate(dst: Reg, is32: bool, zero: Reg): void {
  setConst(zero, 0);
  if (is32) zext32(dst);
  tSub(0, 0, dst.bits, dst.unk);
  const b = tB, m = tM;
  subRanges(zero, dst);
  zero.from = dst.from;
  copyReg(dst, zero);
  dst.bits = b;
  dst.unk = m;
  if (is32) zext32(dst);
  else sync(dst);
}
