// Comparisons of the number domain: what each side of a branch learns.
import { LOW, sync } from "./number";
import { isConst, Reg } from "./reg";

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
