// The stack: what its bytes are, reads and writes of saved registers and of plain bytes.
import * as E from "./gen/codes";
import { strict } from "./access";
import { fitsSigned, signExtend, truncate } from "./number";
import { fail1, fail2, opI } from "./outcome";
import { copyReg, isConst, K_FP, K_ITER, K_NUM, Reg, setConst, setLost, setUnknown, unlink } from "./reg";
import { subs } from "./request";
import { cur, freshId, refreshFrame } from "./run";
import { ensureSlot, frameOf, slotReg, slotTypes, T_INVALID, T_MISC, T_SPILL, T_ZERO } from "./state";

/// Lowest offset of a stack access; checks that all of it lies in the frame.
export function stackBounds(insn: i32, r: Reg, off: i64, size: i64): bool {
  const bounded = r.smin > -(1 << 29) && r.smax < (1 << 29);
  const lo = <i64> r.off + r.smin + off, hi = <i64> r.off + r.smax + off + size;
  if (!bounded || lo < -512 || hi > 0) {
    fail2(E.STACK_OUT_OF_BOUNDS, insn, size, bounded ? lo : i64.MIN_VALUE);
    opI(bounded ? hi - 1 : i64.MAX_VALUE);
    return false;
  }
  const s = subs[<i32> frameOf(cur, r.frame).sub];
  if (-lo > <i64> s.depth) s.depth = <i32> (-lo);
  return true;
}

/// Whether none of the bytes lo..hi-1 holds the state of an iterator; that is touched by its own functions only.
export function noIterator(insn: i32, fno: i32, lo: i32, hi: i32): bool {
  const f = frameOf(cur, fno);
  for (let k = (-hi) >> 3; k <= (-lo - 1) >> 3 && k < <i32> f.slots; k++) {
    if (load<u8>(slotTypes(f, k)) == T_SPILL && slotReg(f, k).kind == K_ITER) {
      return fail1(E.ITERATOR_MEMORY, insn, -8 * (k + 1));
    }
  }
  return true;
}

/// Turns the bytes of a saved register that are not overwritten into plain bytes.
function scrub(types: usize, k: i32): void {
  const frame2 = changetype<Reg>(types + 8);
  const zero = frame2.kind == K_NUM && isConst(frame2) && frame2.bits == 0;
  // a pointer that is overwritten in part is none any more: remembered for whoever reads it back
  if (frame2.kind != K_NUM) setLost(frame2, cur.insn - 1);
  for (let b: usize = 0; b < 8; b++) {
    if (load<u8>(types + b) == T_SPILL) store<u8>(types + b, zero ? T_ZERO : T_MISC);
  }
}

/// Gives `size` bytes (1, 2, 4 or 8) their type: a store, for a call of memory.fill costs many times that.
export function setTypes(types: usize, type: u8, size: i32): void {
  const all = <u64> type * 0x0101010101010101;
  if (size == 8) store<u64>(types, all);
  else if (size == 4) store<u32>(types, <u32> all);
  else if (size == 2) store<u16>(types, <u16> all);
  else store<u8>(types, type);
}

export function writeFixed(insn: i32, fno: i32, off: i32, size: i32, value: Reg): bool {
  const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
  const f = ensureSlot(cur, fno, k);
  refreshFrame();
  const types = slotTypes(f, k);
  if (value.kind != K_NUM) {
    if (size != 8) return fail1(E.STACK_SPILL_CORRUPTED, insn, off);
    if (value.kind == K_FP && fno != cur.depth) return fail1(E.STACK_POINTER_IN_CALLER, insn, off);
    setTypes(types, T_SPILL, 8);
    copyReg(slotReg(f, k), value);
    return true;
  }
  if (b == 0) {
    if (size < 8) scrub(types, 0);
    setTypes(types, T_SPILL, size);
    const s = slotReg(f, k), before = size < 8 ? s.from : 0;
    copyReg(s, value);
    s.from |= before; // of the bytes that stay
    // Of a negative number the low bytes stand for the whole: a load with sign extension brings it back. Any other load
    // takes the low bytes of what is said here, so it may be kept as it is.
    if (size < 8 && value.umax >> (size * 8) != 0 && !fitsSigned(value, size)) {
      truncate(s, size);
      unlink(s);
    }
    return true;
  }
  const zero = isConst(value) && (value.bits & ((<u64> 1 << (size * 8)) - 1)) == 0;
  // a saved register that this store overlaps is gone
  if (load<u8>(types + b) == T_SPILL) scrub(types, 0);
  setTypes(types + b, zero ? T_ZERO : T_MISC, size);
  slotReg(f, k).from |= value.from;
  return true;
}

/// Any bytes of lo..hi-1 may be overwritten by something unknown.
export function clobber(fno: i32, lo: i32, hi: i32): void {
  for (let off = lo; off < hi; off++) {
    const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
    const f = ensureSlot(cur, fno, k);
    const types = slotTypes(f, k);
    if (load<u8>(types + b) == T_SPILL) scrub(types, 0);
    store<u8>(types + b, T_MISC);
  }
  refreshFrame();
}

/// A variable store: bytes keep being what they were or become unknown.
export function clobberMaybe(fno: i32, lo: i32, hi: i32): void {
  for (let off = lo; off < hi; off++) {
    const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
    const f = ensureSlot(cur, fno, k);
    const types = slotTypes(f, k);
    if (load<u8>(types + b) == T_SPILL) scrub(types, 0);
    // bytes that were never written stay so: a later read of them counts as such
    if (load<u8>(types + b) != T_INVALID) store<u8>(types + b, T_MISC);
  }
  refreshFrame();
}

/// Reads `size` bytes at `off` of the frame, with zeros above them or, if `signed`, with what sign extension makes of a saved
/// number (the caller extends the sign of all others).
export function readFixed(insn: i32, fno: i32, off: i32, size: i32, into: Reg, signed: bool): bool {
  const f = frameOf(cur, fno);
  const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
  if (k >= f.slots) {
    if (strict()) return fail2(E.STACK_UNINITIALISED, insn, off, off + size - 1);
    setUnknown(into);
    truncate(into, size);
    return true;
  }
  const types = slotTypes(f, k), saved = slotReg(f, k);
  let spilled = 0;
  while (spilled < 8 && load<u8>(types + spilled) == T_SPILL) spilled++;
  if (b == 0 && spilled >= size) {
    if (saved.kind == K_NUM) {
      const fits = size == 8 || saved.umax >> (size * 8) == 0;
      if (fits && saved.id == 0 && !isConst(saved)) saved.id = freshId();
      copyReg(into, saved);
      if (!fits) {
        // the bytes read are the low ones of the saved number, whatever its width
        if (signed) signExtend(into, size);
        else truncate(into, size);
        unlink(into);
      }
      return true;
    }
    if (size == 8) {
      copyReg(into, saved);
      return true;
    }
  }
  if (spilled == 8 && saved.kind != K_NUM) return fail1(E.STACK_SPILL_CORRUPTED, insn, off);
  const savedZero = saved.kind == K_NUM && isConst(saved) && saved.bits == 0;
  let zero = true;
  for (let n = b; n < b + size; n++) {
    const t = load<u8>(types + n);
    if (t == T_INVALID && strict()) return fail2(E.STACK_UNINITIALISED, insn, off, off + size - 1);
    if (!(t == T_ZERO || (t == T_SPILL && savedZero))) zero = false;
  }
  if (zero) {
    setConst(into, 0);
    into.from = saved.from;
    return true;
  }
  setUnknown(into);
  truncate(into, size);
  if (saved.kind == K_NUM) into.size = saved.size;
  return true;
}

/// Bytes of the stack that a helper reads before it writes them were written before.
export function stackWritten(insn: i32, r: Reg, size: i32): bool {
  if (r.kind != K_FP || !isConst(r) || r.off < -512 || r.off + size > 0) return true;
  const f = frameOf(cur, r.frame);
  for (let off = r.off; off < r.off + size; off++) {
    const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
    if (k >= f.slots || load<u8>(slotTypes(f, k) + b) == T_INVALID) {
      return fail2(E.STACK_UNINITIALISED, insn, r.off, r.off + size - 1);
    }
  }
  return true;
}
