// The number domain: known bits, signed and unsigned ranges in 64 and 32 bits. Every operation over-approximates;
// `sync` refines the parts by each other and answers whether any value is left.
import { noBounds, Reg, setUnknown, setValue } from "./reg";
import { OPTION_NO_SIGNS, options } from "./options";
import { tB, tM, tRange } from "./tnum";

/// A number in lo..hi, unsigned.
export function setRangeU(r: Reg, lo: u64, hi: u64): void {
  setUnknown(r);
  r.umin = lo;
  r.umax = hi;
  sync(r);
}

export function setRangeS(r: Reg, lo: i64, hi: i64): void {
  setUnknown(r);
  r.smin = lo;
  r.smax = hi;
  sync(r);
}

const SIGN: u64 = 0x8000000000000000;
export const LOW: u64 = 0xffffffff;
/// Refines every part by every other; false: no value is left.
export function sync(r: Reg): bool {
  if (r.unk == 0) {
    // one value: it lies in every range, or none is left
    const v = r.bits;
    if (
      r.umin > v || r.umax < v || r.smin > <i64> v || r.smax < <i64> v || r.u32min > <u32> v ||
      r.u32max < <u32> v || r.s32min > <i32> v || r.s32max < <i32> v
    ) return false;
    setValue(r, v);
    return true;
  }
  for (let round = 0; round < 4; round++) {
    const ob = r.bits, om = r.unk, oa = r.umin, oz = r.umax, osa = r.smin, osz = r.smax;
    const o32 = r.u32min ^ (r.u32max * 31), os32 = r.s32min ^ (r.s32max * 31);
    // from the bits
    r.umin = max(r.umin, r.bits);
    r.umax = min(r.umax, r.bits | r.unk);
    r.smin = max(r.smin, <i64> (r.bits | (r.unk & SIGN)));
    r.smax = min(r.smax, <i64> (r.bits | (r.unk & ~SIGN)));
    const b32 = <u32> r.bits, m32 = <u32> r.unk;
    r.u32min = max(r.u32min, b32);
    r.u32max = min(r.u32max, b32 | m32);
    r.s32min = max(r.s32min, <i32> (b32 | (m32 & 0x80000000)));
    r.s32max = min(r.s32max, <i32> (b32 | (m32 & 0x7fffffff)));
    // 32 from 64
    if (r.umin >> 32 == r.umax >> 32) {
      r.u32min = max(r.u32min, <u32> r.umin);
      r.u32max = min(r.u32max, <u32> r.umax);
    }
    if (r.smin >> 32 == r.smax >> 32) {
      r.u32min = max(r.u32min, <u32> r.smin);
      r.u32max = min(r.u32max, <u32> r.smax);
    }
    if (r.smin >= <i64> i32.MIN_VALUE && r.smax <= <i64> i32.MAX_VALUE) {
      r.s32min = max(r.s32min, <i32> r.smin);
      r.s32max = min(r.s32max, <i32> r.smax);
    }
    // signed and unsigned, 32
    if (<i32> r.u32min <= <i32> r.u32max) {
      r.s32min = max(r.s32min, <i32> r.u32min);
      r.s32max = min(r.s32max, <i32> r.u32max);
    }
    if (<u32> r.s32min <= <u32> r.s32max) {
      r.u32min = max(r.u32min, <u32> r.s32min);
      r.u32max = min(r.u32max, <u32> r.s32max);
    }
    // signed and unsigned, 64
    if (<i64> r.umin <= <i64> r.umax) {
      r.smin = max(r.smin, <i64> r.umin);
      r.smax = min(r.smax, <i64> r.umax);
    }
    if (<u64> r.smin <= <u64> r.smax) {
      r.umin = max(r.umin, <u64> r.smin);
      r.umax = min(r.umax, <u64> r.smax);
    }
    // a signed range across zero is two unsigned ones: when the unsigned range meets only one, it is that one
    if (r.smin < 0 && r.smax >= 0) {
      if (r.umax < <u64> r.smin) r.smin = 0;
      else if (r.umin > <u64> r.smax) r.smax = -1;
    }
    if (r.s32min < 0 && r.s32max >= 0) {
      if (r.u32max < <u32> r.s32min) r.s32min = 0;
      else if (r.u32min > <u32> r.s32max) r.s32max = -1;
    }
    // 64 from 32: among values with the same high half the low half decides
    r.umin = max(r.umin, (r.umin & ~LOW) | <u64> r.u32min);
    r.umax = min(r.umax, (r.umax & ~LOW) | <u64> r.u32max);
    r.smin = max(r.smin, <i64> ((<u64> r.smin & ~LOW) | <u64> r.u32min));
    r.smax = min(r.smax, <i64> ((<u64> r.smax & ~LOW) | <u64> r.u32max));
    if (r.smin >= <i64> i32.MIN_VALUE && r.smax <= <i64> i32.MAX_VALUE) {
      r.smin = max(r.smin, <i64> r.s32min);
      r.smax = min(r.smax, <i64> r.s32max);
    }
    if (r.umin > r.umax || r.smin > r.smax || r.u32min > r.u32max || r.s32min > r.s32max) return false;
    // the bits from the ranges
    tRange(r.umin, r.umax);
    if ((tB ^ r.bits) & ~tM & ~r.unk) return false;
    r.bits |= tB;
    r.unk &= tM;
    r.bits &= ~r.unk;
    tRange(<u64> r.u32min, <u64> r.u32max);
    const low = tM | ~LOW, lowBits = tB & LOW;
    if ((lowBits ^ r.bits) & ~low & ~r.unk) return false;
    r.bits |= lowBits & ~low;
    r.unk &= low;
    r.bits &= ~r.unk;
    if (
      ob == r.bits && om == r.unk && oa == r.umin && oz == r.umax && osa == r.smin && osz == r.smax &&
      o32 == (r.u32min ^ (r.u32max * 31)) && os32 == (r.s32min ^ (r.s32max * 31))
    ) break;
  }
  return true;
}

/// Keeps the low 32 bits and clears the rest.
export function zext32(r: Reg): void {
  r.bits &= LOW;
  r.unk &= LOW;
  r.umin = <u64> r.u32min;
  r.umax = <u64> r.u32max;
  r.smin = <i64> r.u32min;
  r.smax = <i64> r.u32max;
  sync(r);
}

function unbound64(r: Reg): void {
  r.smin = i64.MIN_VALUE;
  r.smax = i64.MAX_VALUE;
  r.umin = 0;
  r.umax = u64.MAX_VALUE;
}

function unbound32(r: Reg): void {
  r.s32min = i32.MIN_VALUE;
  r.s32max = i32.MAX_VALUE;
  r.u32min = 0;
  r.u32max = u32.MAX_VALUE;
}

/// Keeps the low `bytes` bytes, cleared above (zero extension).
export function truncate(r: Reg, bytes: u32): void {
  if (bytes >= 8) return;
  if (bytes == 4) return zext32(r);
  const mask: u64 = (<u64> 1 << (bytes * 8)) - 1;
  const same = (r.umin & ~mask) == (r.umax & ~mask);
  const lo = r.umin & mask, hi = r.umax & mask;
  r.bits &= mask;
  r.unk &= mask;
  unbound64(r);
  unbound32(r);
  if (same) {
    r.umin = lo;
    r.umax = hi;
  } else r.umax = mask;
  sync(r);
}

/// Whether the number is what sign extension makes of its low `bytes` bytes.
export function fitsSigned(r: Reg, bytes: u32): bool {
  const top: i64 = (<i64> 1 << (bytes * 8 - 1)) - 1;
  return r.smin >= -top - 1 && r.smax <= top;
}

/// Sign-extends the low `bytes` bytes to 64 bits.
export function signExtend(r: Reg, bytes: u32): void {
  const shift: u64 = 64 - <u64> bytes * 8;
  const top: i64 = (<i64> 1 << (bytes * 8 - 1)) - 1, bottom: i64 = -top - 1;
  const fits = fitsSigned(r, bytes);
  const lo32 = r.s32min, hi32 = r.s32max;
  const lo = r.smin, hi = r.smax;
  if (options & OPTION_NO_SIGNS && r.unk != 0) return extendAsKernel(r, shift);
  r.bits = <u64> ((<i64> (r.bits << shift)) >> shift);
  r.unk = <u64> ((<i64> (r.unk << shift)) >> shift);
  r.bits &= ~r.unk;
  unbound64(r);
  unbound32(r);
  r.smin = bottom;
  r.smax = top;
  if (fits) {
    r.smin = lo;
    r.smax = hi;
  } else if (bytes == 4) {
    r.smin = <i64> lo32;
    r.smax = <i64> hi32;
  } else if (<i64> lo32 >= bottom && <i64> hi32 <= top) {
    r.smin = <i64> lo32;
    r.smax = <i64> hi32;
  }
  sync(r);
}

/// The same with what coerce_reg_to_size_sx() of 6.18 keeps: a range of one sign whose ends agree above the width.
function extendAsKernel(r: Reg, shift: u64): void {
  const lo = (r.smin << shift) >> shift, hi = (r.smax << shift) >> shift;
  const agrees = r.smin >> (64 - shift) == r.smax >> (64 - shift) && (lo < 0) == (hi < 0);
  const top: i64 = i64.MAX_VALUE >> shift;
  noBounds(r);
  r.smin = agrees ? lo : -top - 1;
  r.smax = agrees ? hi : top;
  sync(r);
}

/// Whether every number of `b` is one of `a`.
export function within(a: Reg, b: Reg): bool {
  if (a.unk == 0) return b.unk == 0 && a.bits == b.bits;
  return a.umin <= b.umin && a.umax >= b.umax && a.smin <= b.smin && a.smax >= b.smax &&
    a.u32min <= b.u32min && a.u32max >= b.u32max && a.s32min <= b.s32min && a.s32max >= b.s32max &&
    (b.unk & ~a.unk) == 0 && ((a.bits ^ b.bits) & ~a.unk) == 0;
}

/// a = a number that is in a or in b.
export function joinNumbers(a: Reg, b: Reg): void {
  const unk = a.unk | b.unk | (a.bits ^ b.bits);
  a.bits &= ~unk;
  a.unk = unk;
  a.umin = min(a.umin, b.umin);
  a.umax = max(a.umax, b.umax);
  a.smin = min(a.smin, b.smin);
  a.smax = max(a.smax, b.smax);
  a.u32min = min(a.u32min, b.u32min);
  a.u32max = max(a.u32max, b.u32max);
  a.s32min = min(a.s32min, b.s32min);
  a.s32max = max(a.s32max, b.s32max);
}

/// a = a number that is in a and in b; false: there is none, and a holds nothing of use.
export function meetNumbers(a: Reg, b: Reg): bool {
  if ((a.bits ^ b.bits) & ~a.unk & ~b.unk) return false;
  a.bits |= b.bits;
  a.unk &= b.unk;
  a.bits &= ~a.unk;
  a.umin = max(a.umin, b.umin);
  a.umax = min(a.umax, b.umax);
  a.smin = max(a.smin, b.smin);
  a.smax = min(a.smax, b.smax);
  a.u32min = max(a.u32min, b.u32min);
  a.u32max = min(a.u32max, b.u32max);
  a.s32min = max(a.s32min, b.s32min);
  a.s32max = min(a.s32max, b.s32max);
  if (a.umin > a.umax || a.smin > a.smax || a.u32min > a.u32max || a.s32min > a.s32max) return false;
  return sync(a);
}
