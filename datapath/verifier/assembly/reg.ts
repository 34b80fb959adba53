// A register's abstract value and the number domain: known bits (tnum), signed and unsigned ranges in 64 and 32
// bits. Every operation over-approximates; `sync` refines the parts by each other and answers whether any value
// is left.

export const K_NONE: u8 = 0, K_NUM: u8 = 1, K_CTX: u8 = 2, K_MAP: u8 = 3, K_VALUE: u8 = 4, K_FP: u8 = 5;
export const K_PKT: u8 = 6, K_META: u8 = 7, K_END: u8 = 8, K_SOCK: u8 = 9, K_SKC: u8 = 10, K_TCP: u8 = 11;
export const K_XSK: u8 = 12, K_MEM: u8 = 13, K_BTF: u8 = 14, K_FLOW: u8 = 15, K_FUNC: u8 = 16, K_KEY: u8 = 17;

export const F_NULL: u8 = 1; // may be NULL
export const F_RDONLY: u8 = 2;
export const F_RINGBUF: u8 = 4; // memory of ringbuf_reserve
// pointers to kernel structs: what is known of their lifetime, and where they point
export const F_TRUSTED: u8 = 8, F_RCU: u8 = 16, F_UNTRUSTED: u8 = 32, F_USER: u8 = 64, F_PERCPU: u8 = 128;

/* 96 bytes. `off` is the fixed part of a pointer's offset; the numbers describe the variable part. `from`: which
 * numbers of the last kept state on this path the number was made of, see relevance.ts. */
@unmanaged
export class Reg {
  kind: u8;
  flags: u8;
  frame: u8; // stack pointers: the frame they point into
  pad: u8;
  off: i32;
  id: u32; // numbers: equal values; nullable pointers: one check serves all; packet: one base
  ref: u32; // acquired reference, 0 none
  map: i32; // index of the map, -1 none; K_FUNC: start of the function; K_BTF: type, 0 something that is no struct
  size: i32; // packet: bytes proved from the base; K_MEM: bytes of the memory; K_NUM: see setLost
  bits: u64;
  unk: u64;
  smin: i64;
  smax: i64;
  umin: u64;
  umax: u64;
  s32min: i32;
  s32max: i32;
  u32min: u32;
  u32max: u32;
  from: u64;
}
export const REG_BYTES: u32 = offsetof<Reg>();

// @ts-ignore: decorator

/// Twelve words one by one: a call of memory.copy costs more than they do.
export function copyReg(to: Reg, from: Reg): void {
  const a = changetype<usize>(to), b = changetype<usize>(from);
  store<u64>(a, load<u64>(b));
  store<u64>(a, load<u64>(b, 8), 8);
  store<u64>(a, load<u64>(b, 16), 16);
  store<u64>(a, load<u64>(b, 24), 24);
  store<u64>(a, load<u64>(b, 32), 32);
  store<u64>(a, load<u64>(b, 40), 40);
  store<u64>(a, load<u64>(b, 48), 48);
  store<u64>(a, load<u64>(b, 56), 56);
  store<u64>(a, load<u64>(b, 64), 64);
  store<u64>(a, load<u64>(b, 72), 72);
  store<u64>(a, load<u64>(b, 80), 80);
  store<u64>(a, load<u64>(b, 88), 88);
}

export function noBounds(r: Reg): void {
  r.bits = 0;
  r.unk = u64.MAX_VALUE;
  r.smin = i64.MIN_VALUE;
  r.smax = i64.MAX_VALUE;
  r.umin = 0;
  r.umax = u64.MAX_VALUE;
  r.s32min = i32.MIN_VALUE;
  r.s32max = i32.MAX_VALUE;
  r.u32min = 0;
  r.u32max = u32.MAX_VALUE;
}

export function setKind(r: Reg, kind: u8): void {
  const a = changetype<usize>(r);
  store<u64>(a, kind);
  store<u64>(a, 0, 8);
  store<u64>(a, 0xffffffff, 16); // map -1, size 0
  store<u64>(a, 0, 24);
  store<u64>(a, 0, 32);
  store<u64>(a, 0, 40);
  store<u64>(a, 0, 48);
  store<u64>(a, 0, 56);
  store<u64>(a, 0, 64);
  store<u64>(a, 0, 72);
  store<u64>(a, 0, 80);
  store<u64>(a, 0, 88);
}

export function setUnknown(r: Reg): void {
  head(r);
  noBounds(r);
}

/// All of a plain number made of nothing but its bounds, which are set after.
function head(r: Reg): void {
  const a = changetype<usize>(r);
  store<u64>(a, K_NUM);
  store<u64>(a, 0, 8);
  store<u64>(a, 0xffffffff, 16);
  r.from = 0;
}

/// A pointer that is a number from now on because of instruction `insn`; explanations say so, nothing rests on it.
export function setLost(r: Reg, insn: i32): void {
  setUnknown(r);
  r.size = insn + 1;
}

export function setValue(r: Reg, v: u64): void {
  r.bits = v;
  r.unk = 0;
  r.smin = r.smax = <i64> v;
  r.umin = r.umax = v;
  r.s32min = r.s32max = <i32> v;
  r.u32min = r.u32max = <u32> v;
}

export function setConst(r: Reg, v: u64): void {
  head(r);
  setValue(r, v);
}

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

// @ts-ignore: decorator

export function isConst(r: Reg): bool {
  return r.unk == 0;
}

// --- tnums: result in tB (bits) and tM (unknown mask) ---
let tB: u64 = 0;
let tM: u64 = 0;

function tAdd(ab: u64, am: u64, bb: u64, bm: u64): void {
  const sm = am + bm, sv = ab + bb, sigma = sm + sv, chi = sigma ^ sv, mu = chi | am | bm;
  tB = sv & ~mu;
  tM = mu;
}
function tSub(ab: u64, am: u64, bb: u64, bm: u64): void {
  const dv = ab - bb, alpha = dv + am, beta = dv - bm, chi = alpha ^ beta, mu = chi | am | bm;
  tB = dv & ~mu;
  tM = mu;
}
function tMul(ab: u64, am: u64, bb: u64, bm: u64): void {
  let accB: u64 = ab * bb, accM: u64 = 0;
  while (ab != 0 || am != 0) {
    if (ab & 1) {
      tAdd(0, accM, 0, bm);
      accM = tM;
    } else if (am & 1) {
      tAdd(0, accM, 0, bb | bm);
      accM = tM;
    }
    ab >>= 1;
    am >>= 1;
    bb <<= 1;
    bm <<= 1;
  }
  tAdd(accB, 0, 0, accM);
}
function tRange(lo: u64, hi: u64): void {
  const chi = lo ^ hi;
  if (chi == 0) {
    tB = lo;
    tM = 0;
    return;
  }
  const width = 64 - clz(chi);
  if (width > 63) {
    tB = 0;
    tM = u64.MAX_VALUE;
    return;
  }
  const delta: u64 = (<u64> 1 << width) - 1;
  tB = lo & ~delta;
  tM = delta;
}

const SIGN: u64 = 0x8000000000000000;
const LOW: u64 = 0xffffffff;

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
    tM |= ~LOW;
    tB &= LOW;
    if ((tB ^ r.bits) & ~tM & ~r.unk) return false;
    r.bits |= tB & ~tM;
    r.unk &= tM;
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

/// Sign-extends the low `bytes` bytes to 64 bits.
export function signExtend(r: Reg, bytes: u32): void {
  const shift: u64 = 64 - <u64> bytes * 8;
  const top: i64 = (<i64> 1 << (bytes * 8 - 1)) - 1, bottom: i64 = -top - 1;
  const fits = r.smin >= bottom && r.smax <= top;
  const lo32 = r.s32min, hi32 = r.s32max;
  const lo = r.smin, hi = r.smax;
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

/* Conditions, by the high nibble of the jump's opcode. */
export const JEQ: u8 = 0x10, JGT: u8 = 0x20, JGE: u8 = 0x30, JSET: u8 = 0x40, JNE: u8 = 0x50, JSGT: u8 = 0x60;
export const JSGE: u8 = 0x70, JLT: u8 = 0xa0, JLE: u8 = 0xb0, JSLT: u8 = 0xc0, JSLE: u8 = 0xd0;
export const JNSET: u8 = 0xf0; // no opcode: "no bit in common", the opposite of JSET

export function opposite(op: u8): u8 {
  switch (op) {
    case JEQ:
      return JNE;
    case JNE:
      return JEQ;
    case JGT:
      return JLE;
    case JLE:
      return JGT;
    case JGE:
      return JLT;
    case JLT:
      return JGE;
    case JSGT:
      return JSLE;
    case JSLE:
      return JSGT;
    case JSGE:
      return JSLT;
    case JSLT:
      return JSGE;
    default:
      return JNSET;
  }
}

/// Restricts two numbers to those pairs for which `a OP b` holds; false: there is none.
export function refine(a: Reg, b: Reg, op: u8, is32: bool): bool {
  switch (op) {
    case JGT:
      return refine(b, a, JLT, is32);
    case JGE:
      return refine(b, a, JLE, is32);
    case JSGT:
      return refine(b, a, JSLT, is32);
    case JSGE:
      return refine(b, a, JSLE, is32);
    case JEQ: {
      const mask: u64 = is32 ? LOW : u64.MAX_VALUE;
      if ((a.bits ^ b.bits) & ~a.unk & ~b.unk & mask) return false;
      const bits = (a.bits | b.bits) & mask, unk = a.unk & b.unk & mask;
      a.bits = (a.bits & ~mask) | (bits & ~unk);
      a.unk = (a.unk & ~mask) | unk;
      b.bits = (b.bits & ~mask) | (bits & ~unk);
      b.unk = (b.unk & ~mask) | unk;
      a.u32min = b.u32min = max(a.u32min, b.u32min);
      a.u32max = b.u32max = min(a.u32max, b.u32max);
      a.s32min = b.s32min = max(a.s32min, b.s32min);
      a.s32max = b.s32max = min(a.s32max, b.s32max);
      if (!is32) {
        a.umin = b.umin = max(a.umin, b.umin);
        a.umax = b.umax = min(a.umax, b.umax);
        a.smin = b.smin = max(a.smin, b.smin);
        a.smax = b.smax = min(a.smax, b.smax);
      }
      break;
    }
    case JNE: {
      if (is32) {
        if (b.u32min == b.u32max && !cut32(a, b.u32min)) return false;
        if (a.u32min == a.u32max && !cut32(b, a.u32min)) return false;
      } else {
        if (isConst(b) && !cut64(a, b.bits)) return false;
        if (isConst(a) && !cut64(b, a.bits)) return false;
      }
      break;
    }
    case JLT:
    case JLE: {
      const one: u64 = op == JLT ? 1 : 0;
      if (is32) {
        if (one) {
          if (b.u32max == 0 || a.u32min == u32.MAX_VALUE) return false;
        }
        a.u32max = min(a.u32max, b.u32max - <u32> one);
        b.u32min = max(b.u32min, a.u32min + <u32> one);
      } else {
        if (one) {
          if (b.umax == 0 || a.umin == u64.MAX_VALUE) return false;
        }
        a.umax = min(a.umax, b.umax - one);
        b.umin = max(b.umin, a.umin + one);
      }
      break;
    }
    case JSLT:
    case JSLE: {
      const one: i64 = op == JSLT ? 1 : 0;
      if (is32) {
        if (one) {
          if (b.s32max == i32.MIN_VALUE || a.s32min == i32.MAX_VALUE) return false;
        }
        a.s32max = min(a.s32max, b.s32max - <i32> one);
        b.s32min = max(b.s32min, a.s32min + <i32> one);
      } else {
        if (one) {
          if (b.smax == i64.MIN_VALUE || a.smin == i64.MAX_VALUE) return false;
        }
        a.smax = min(a.smax, b.smax - one);
        b.smin = max(b.smin, a.smin + one);
      }
      break;
    }
    case JSET: {
      const mask: u64 = is32 ? LOW : u64.MAX_VALUE;
      if (((a.bits | a.unk) & (b.bits | b.unk) & mask) == 0) return false;
      if (isConst(b) && popcnt(b.bits & mask) == 1) {
        a.bits |= b.bits & mask;
        a.unk &= ~(b.bits & mask);
      } else if (isConst(a) && popcnt(a.bits & mask) == 1) {
        b.bits |= a.bits & mask;
        b.unk &= ~(a.bits & mask);
      }
      break;
    }
    case JNSET: {
      const mask: u64 = is32 ? LOW : u64.MAX_VALUE;
      if (a.bits & b.bits & mask) return false;
      a.unk &= ~(b.bits & mask);
      b.unk &= ~(a.bits & mask);
      break;
    }
    default:
      return true;
  }
  return sync(a) && sync(b);
}

function cut64(r: Reg, v: u64): bool {
  if (r.umin == v) {
    if (r.umax == v) return false;
    r.umin++;
  }
  if (r.umax == v) r.umax--;
  if (r.smin == <i64> v) {
    if (r.smax == <i64> v) return false;
    r.smin++;
  }
  if (r.smax == <i64> v) r.smax--;
  return true;
}

function cut32(r: Reg, v: u32): bool {
  if (r.u32min == v) {
    if (r.u32max == v) return false;
    r.u32min++;
  }
  if (r.u32max == v) r.u32max--;
  if (r.s32min == <i32> v) {
    if (r.s32max == <i32> v) return false;
    r.s32min++;
  }
  if (r.s32max == <i32> v) r.s32max--;
  return true;
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
