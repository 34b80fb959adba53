// Arithmetic on registers: numbers by the number domain, pointers by what may be moved and how far.
import * as E from "./gen/codes";
import { strict } from "./access";
import { ADD, alu, ARSH, DIV, END, LSH, MOD, MOV, NEG, negate, RSH, SUB } from "./alu";
import { BPF_ALU64, dstOf, immOf, offOf, opcode, srcOf } from "./instruction";
import { kindName } from "./kind_name";
import { signExtend, truncate, zext32 } from "./number";
import { fail, fail1, fail2, failIS, opI, opS, setLostAt } from "./outcome";
import {
  copyReg,
  F_NULL,
  isConst,
  K_BTF,
  K_CTX,
  K_END,
  K_FLOW,
  K_FP,
  K_FUNC,
  K_KEY,
  K_MAP,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_VALUE,
  L_LOW,
  noBounds,
  Reg,
  setConst,
  setUnknown,
  setValue,
  unlink,
} from "./reg";
import { sink } from "./relevance";
import { OPTION_NO_DISTANCES, OPTION_NO_QUOTIENTS, options } from "./options";
import { freshId, originOf, reg } from "./run";
import { tempReg, tempReg2 } from "./scratch";

const NAMES: StaticArray<string> = [
  "+=",
  "-=",
  "*=",
  "/=",
  "|=",
  "&=",
  "<<=",
  ">>=",
  "negation",
  "%=",
  "^=",
  "=",
  "s>>=",
  "byte swap",
];

const REACH: i64 = 1 << 29;
export function stepAlu(i: i32): bool {
  const op = opcode(i), is32 = (op & 7) != BPF_ALU64, o = op & 0xf0;
  const d = dstOf(i), dst = reg(d), off = offOf(i), imm = immOf(i);
  const byReg = (op & 8) != 0 && o != END;
  const s = srcOf(i);
  if (byReg && reg(s).kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, s);
  if (o == MOV) {
    // part of an address is one too
    if (byReg && (is32 || off != 0) && reg(s).kind != K_NUM && strict()) return leaks(i, s, reg(s));
    return byReg ? move(dst, reg(s), is32, off) : moveConst(dst, imm, is32);
  }
  if (dst.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, d);
  if (!byReg && imm == 0 && (o == 0x30 || o == 0x90)) return fail(E.DIVISION_BY_ZERO, i);
  if (o == NEG || o == END) {
    if (dst.kind != K_NUM) {
      if (strict()) return pointerOp(i, d, dst, o);
      setUnknown(dst);
      if (is32 && o == NEG) zext32(dst);
      return true;
    }
    unlink(dst);
    if (o == NEG) negate(dst, is32, tempReg());
    else if (options & OPTION_NO_QUOTIENTS) noBounds(dst);
    else swap(dst, op, imm);
    return true;
  }
  const t = tempReg();
  if (byReg) copyReg(t, reg(s));
  else setConst(t, <u64> (<i64> imm));
  if (dst.kind == K_NUM && t.kind == K_NUM) {
    const c = o == ADD ? <i64> t.bits : 0 - <i64> t.bits;
    const moves = dst.id != 0 && (o == ADD || o == SUB) && isConst(t) && !isConst(dst);
    if (!moves || !shiftLink(dst, c, is32)) unlink(dst);
    dst.from |= t.from;
    // r -= r and r ^= r are 0 whatever r is
    if (byReg && s == d && (o == SUB || o == 0xa0)) setConst(dst, 0);
    else if (kernelForgets(<u8> o, t, is32)) noBounds(dst);
    else alu(dst, t, <u8> o, is32, off == 1);
    return true;
  }
  // a pointer takes part: the number decides where it goes
  if (byReg) sink((1 << d) | (1 << s));
  if (is32) {
    if (o == SUB && !strict()) {
      setUnknown(dst);
      zext32(dst);
      return true;
    }
    return pointerOp(i, dst.kind == K_NUM ? s : d, dst.kind == K_NUM ? t : dst, o);
  }
  if (dst.kind != K_NUM && t.kind != K_NUM) {
    // a distance within the packet is no address
    if (o == SUB && (!strict() || isPacket(dst) && isPacket(t))) {
      setUnknown(dst);
      return true;
    }
    return o == ADD ? fail2(E.POINTER_PLUS_POINTER, i, d, s) : pointerOp(i, d, dst, o);
  }
  if (o != ADD && o != SUB) return pointerOp(i, dst.kind == K_NUM ? s : d, dst.kind == K_NUM ? t : dst, o);
  if (dst.kind != K_NUM) return movePointer(i, d, dst, t, o == SUB);
  // number += pointer: the result points where the pointer does, frame and all
  if (o == SUB) return pointerOp(i, s, t, o);
  const number = tempReg2();
  copyReg(number, dst);
  copyReg(dst, t);
  return movePointer(i, d, dst, number, false);
}

function isPacket(r: Reg): bool {
  return r.kind == K_PKT || r.kind == K_META || r.kind == K_END;
}

/// Strict mode: what the program would hand out is an address.
export function leaks(i: i32, r: u32, p: Reg): bool {
  return failIS(E.POINTER_LEAK, i, r, kindName(p));
}

function pointerOp(i: i32, r: u32, p: Reg, o: u32): bool {
  failIS(E.POINTER_ARITHMETIC, i, r, NAMES[o >> 4]);
  opS(kindName(p));
  return false;
}

/// What kernels up to 6.x know nothing of afterwards: quotients, remainders, shifts by an unknown number, swapped
/// bytes. Of a 32-bit one they even forget that the high half is 0.
function kernelForgets(o: u8, by: Reg, is32: bool): bool {
  if ((options & OPTION_NO_QUOTIENTS) == 0) return false;
  if (o == DIV || o == MOD) return true;
  return (o == LSH || o == RSH || o == ARSH) && !(isConst(by) && <u32> by.bits < <u32> (is32 ? 32 : 64));
}

/// dst +- c where dst is made of a value that other numbers are made of, too: what is learned of one is then known of the
/// others. False: the distance cannot be kept.
function shiftLink(dst: Reg, c: i64, is32: bool): bool {
  // one move is kept, as in the kernel: of a second one it knows nothing any more
  if (options & OPTION_NO_DISTANCES || dst.off != 0 || dst.frame == L_LOW) return false;
  if (is32) {
    // low halves count modulo 2^32 whatever the high one was
    dst.off = <i32> (<i64> dst.off + c);
    dst.frame = L_LOW;
    return true;
  }
  const off = <i64> dst.off + c;
  if (c < i32.MIN_VALUE || c > i32.MAX_VALUE) return false;
  if (off < i32.MIN_VALUE || off > i32.MAX_VALUE) return false;
  dst.off = <i32> off;
  return true;
}

function moveConst(dst: Reg, imm: i32, is32: bool): bool {
  setConst(dst, is32 ? <u64> (<u32> imm) : <u64> (<i64> imm));
  return true;
}

function move(dst: Reg, src: Reg, is32: bool, off: i32): bool {
  if (src.kind != K_NUM) {
    if (!is32 && off == 0) {
      copyReg(dst, src);
      return true;
    }
    // part of a pointer: a number that nobody knows
    setUnknown(dst);
    if (off != 0) signExtend(dst, off / 8);
    if (is32) zext32(dst);
    return true;
  }
  const width = off != 0 ? off / 8 : is32 ? 4 : 8;
  const top: u64 = width == 8
    ? u64.MAX_VALUE
    : off != 0
    ? (<u64> 1 << (width * 8 - 1)) - 1
    : (<u64> 1 << (width * 8)) - 1;
  if (src.umax <= top) {
    // nothing is cut off: both are one value
    if (src.id == 0 && !isConst(src)) src.id = freshId();
    copyReg(dst, src);
    return true;
  }
  copyReg(dst, src);
  unlink(dst);
  if (off != 0) {
    signExtend(dst, off / 8);
    if (is32) zext32(dst);
  } else zext32(dst);
  return true;
}

function swap(dst: Reg, op: u8, imm: i32): void {
  const bytes = imm / 8;
  // opcode 0xd4: to little endian (cut), 0xdc: to big endian (swap), 0xd7: swap
  if (op == 0xd4) return truncate(dst, bytes);
  if (isConst(dst)) {
    let v = dst.bits;
    if (bytes == 2) v = <u64> bswap<u16>(<u16> v);
    else if (bytes == 4) v = <u64> bswap<u32>(<u32> v);
    else v = bswap<u64>(v);
    setValue(dst, v);
    return;
  }
  noBounds(dst);
  truncate(dst, bytes);
}

function movePointer(i: i32, d: u32, p: Reg, n: Reg, minus: bool): bool {
  if (p.flags & F_NULL) {
    setLostAt(originOf(p.id));
    return fail1(E.NULL_POINTER_ARITHMETIC, i, d);
  }
  switch (p.kind) {
    case K_VALUE:
    case K_KEY:
    case K_MEM:
    case K_PKT:
    case K_META:
    case K_CTX:
    case K_FLOW:
      break;
    case K_BTF:
      // where something that is no struct is moved to does not matter: it cannot be read through
      if (p.map == 0) return true;
      if (p.map < 0) return pointerOp(i, d, p, minus ? SUB : ADD);
      break;
    case K_FP:
      if (minus) return pointerOp(i, d, p, SUB);
      break;
    case K_END:
      return fail1(E.PACKET_END_ARITHMETIC, i, d);
    default:
      // nothing may be added to a socket, not even 0
      if (isConst(n) && n.bits == 0 && !minus && (p.kind == K_MAP || p.kind == K_FUNC)) return true;
      return pointerOp(i, d, p, minus ? SUB : ADD);
  }
  if (n.smin > n.smax) return fail(E.INTERNAL, i);
  // The kernel folds fewer numbers to constants than we do: flow keys move only by what the instruction itself says.
  const fixed = p.kind != K_FLOW || (opcode(i) & 8) == 0;
  if (fixed && isConst(n)) {
    const v = minus ? -n.smin : n.smin;
    const off = <i64> p.off + v;
    if (v <= -REACH || v >= REACH || off <= -REACH || off >= REACH) {
      fail2(E.POINTER_OFFSET_RANGE, i, d, off);
      opI(off);
      return false;
    }
    p.off = <i32> off;
    return true;
  }
  // a context moved by a variable may still be handed to a probing read; accesses through it are refused
  if (p.kind == K_FLOW || (p.kind == K_MEM && p.map >= 0)) {
    failIS(E.POINTER_VARIABLE_OFFSET, i, d, kindName(p));
    opI(n.smin);
    opI(n.smax);
    return false;
  }
  /* As the kernel has it, only the lower end must be near: where the upper end lies decides the access, for which each
   * kind of memory asks (a pointer that is never used may point anywhere). */
  if (n.smin <= -REACH || n.smin >= REACH) {
    fail2(E.POINTER_OFFSET_RANGE, i, d, n.smin);
    opI(n.smax);
    return false;
  }
  alu(p, n, minus ? SUB : ADD, false, false);
  if (p.kind == K_PKT || p.kind == K_META) {
    p.id = freshId();
    p.size = 0;
  }
  if (p.smin <= -REACH || p.smin >= REACH) {
    fail2(E.POINTER_OFFSET_RANGE, i, d, p.smin);
    opI(p.smax);
    return false;
  }
  return true;
}
