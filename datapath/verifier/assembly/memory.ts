// Loads and stores through each kind of pointer, and memory that helpers touch.
import { FIELD_KPTR, usesIterators } from "./program";
import * as E from "./gen/codes";
import { MAP_ARRAY } from "./map_type";
import { checkRange, keepsKind, mayBeNull, misaligned, notAPointer, strict } from "./access";
import { contextSlot, readStruct, setPointer, structMemory, structName } from "./btf";
import { OP_LOAD_64, opcode } from "./instruction";
import { contextAccess, isTracing } from "./contract";
import { kindName } from "./kind_name";
import { truncate } from "./number";
import { fail, fail1, fail2, failIS, opI, opS } from "./outcome";
import {
  copyReg,
  F_NULL,
  F_UNTRUSTED,
  isConst,
  K_BTF,
  K_CTX,
  K_END,
  K_FLOW,
  K_FP,
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
  setConst,
  setKind,
  setUnknown,
} from "./reg";
import { options } from "./options";
import { FIELD_BYTES, maps, progFlags } from "./request";
import { cur, freshId, noteOrigin, reg } from "./run";
import { tempReg } from "./scratch";
import { socketField } from "./socket_field";
import { clobber, clobberMaybe, noIterator, readFixed, stackBounds, writeFixed } from "./stack";
import { frameOf, slotTypes, T_INVALID } from "./state";

/// Reads `size` bytes at `r + off` into register `dst`.
export function loadInto(insn: i32, regno: u32, off: i32, size: i32, dst: u32, signed: bool): bool {
  const r = reg(regno);
  const t = tempReg();
  if (!readThrough(insn, regno, r, off, size, t, signed)) return false;
  if (t.flags & F_NULL && (r.kind == K_CTX || r.kind == K_BTF || r.kind == K_VALUE)) noteOrigin(t.id, insn);
  copyReg(reg(dst), t);
  return true;
}

/// Reads a kernel pointer out of a map value, if that is what the instruction does: a plain load of the whole field.
///
/// Another program may take the pointer out and free what it points to at any time, so nothing is promised but that it is
/// an address or NULL: it is untrusted, is read through with faults caught, and no helper takes it. The kernel makes it
/// MAYBE_NULL | UNTRUSTED, too, and RCU where it knows better (check_map_kptr_access(), btf_ld_kptr_type()). Stores and any
/// other overlap stay refused by checkRange().
function loadKptr(insn: i32, r: Reg, off: i32, size: i32, t: Reg): bool {
  if (opcode(insn) != OP_LOAD_64 || !isConst(r)) return false;
  const m = maps[r.map], at = <i64> r.off + <i64> r.bits + <i64> off;
  if (size != 8 || m.flags & 0x180 || at < 0 || at + 8 > <i64> m.valueSize) return false;
  for (let k: u32 = 0; k < m.fieldCount; k++) {
    const p = m.fields + k * FIELD_BYTES;
    if (load<u32>(p) != FIELD_KPTR || <i64> load<u32>(p, 4) != at || load<u32>(p, 8) != 8) continue;
    setPointer(t, load<u32>(p, 12) & 0x7fffffff, F_UNTRUSTED | F_NULL, freshId());
    return true;
  }
  return false;
}

function readThrough(insn: i32, regno: u32, r: Reg, off: i32, size: i32, t: Reg, signed: bool): bool {
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, insn, regno);
  if (r.flags & F_NULL) return mayBeNull(insn, regno, r);
  if (!keepsKind(insn, r)) return false;
  switch (r.kind) {
    case K_FP: {
      if (!stackBounds(insn, r, off, size)) return false;
      const at = r.off + <i32> r.smin + off;
      if (usesIterators && !noIterator(insn, r.frame, at, r.off + <i32> r.smax + off + size)) return false;
      if (isConst(r)) {
        if (at & (size - 1)) return fail2(E.STACK_MISALIGNED, insn, size, at);
        return readFixed(insn, r.frame, at, size, t, signed);
      }
      if (((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) {
        return fail2(E.STACK_MISALIGNED, insn, size, at);
      }
      setUnknown(t);
      truncate(t, size);
      return true;
    }
    case K_CTX: {
      if (!isConst(r) || r.off != 0) return fail2(E.CONTEXT_OFFSET, insn, regno, r.off);
      const at = off;
      if (isTracing()) {
        const got = at & (size - 1) ? 0 : contextSlot(insn, at, size, signed, t, freshId());
        if (got != 0) return got == 1;
      }
      const kind = at & (size - 1) ? 0 : contextAccess(at, size, false);
      if (kind == 0) {
        fail2(E.CONTEXT_ACCESS, insn, at, size);
        opS("read");
        return false;
      }
      const k = <u8> (kind & 31);
      if (k == K_NUM) {
        setUnknown(t);
        truncate(t, size);
        return true;
      }
      if (signed) return fail(E.POINTER_SIGN_EXTENSION, insn);
      setKind(t, k);
      if (kind & 32) {
        t.flags = F_NULL;
        t.id = freshId();
      }
      return true;
    }
    case K_VALUE: {
      if (loadKptr(insn, r, off, size, t)) return true;
      if (misaligned(insn, regno, r, off, size) || !checkRange(insn, regno, r, off, size, false)) {
        return false;
      }
      const m = maps[r.map];
      const at = <i64> r.off + off;
      if (
        isConst(r) && m.frozen && m.flags & 0x80 && m.type == MAP_ARRAY && m.maxEntries == 1 &&
        at + size <= <i64> m.contentsLength
      ) {
        let v: u64 = 0;
        for (let b = size - 1; b >= 0; b--) v = (v << 8) | load<u8>(m.contents + <usize> at + b);
        setConst(t, v);
        return true;
      }
      setUnknown(t);
      truncate(t, size);
      return true;
    }
    case K_SOCK:
    case K_SKC:
    case K_TCP:
    case K_XSK: {
      const at = r.off + off;
      if (!isConst(r) || !socketField(r.kind, at, size)) {
        fail2(E.SOCKET_ACCESS, insn, at, size);
        opS(kindName(r));
        return false;
      }
      setUnknown(t);
      truncate(t, size);
      return true;
    }
    case K_END:
      return fail1(E.PACKET_END_ARITHMETIC, insn, regno);
    case K_BTF:
      if (progFlags & 1 && ((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) {
        fail2(E.MISALIGNED_ACCESS, insn, size, r.off + off);
        opI(regno);
        return false;
      }
      return readStruct(insn, regno, r, off, size, (options & 1) != 0, (progFlags & 0x10) != 0, t, freshId());
    case K_PKT:
    case K_META:
    case K_MEM:
    case K_FLOW:
    case K_KEY:
      break;
    case K_MAP:
      return off >= 0 && r.off == 0
        ? fail1(E.UNSUPPORTED_BTF_POINTER, insn, regno)
        : failIS(E.NOT_A_POINTER, insn, regno, kindName(r));
    default:
      return notAPointer(insn, regno, r);
  }
  if (misaligned(insn, regno, r, off, size) || !checkRange(insn, regno, r, off, size, false)) return false;
  setUnknown(t);
  truncate(t, size);
  return true;
}

/// Writes `value` (or, of a store of a constant, a number) to `r + off`.
export function storeFrom(insn: i32, regno: u32, off: i32, size: i32, value: Reg, valueReg: u32): bool {
  const r = reg(regno);
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, insn, regno);
  if (r.flags & F_NULL) return mayBeNull(insn, regno, r);
  if (!keepsKind(insn, r)) return false;
  switch (r.kind) {
    case K_FP: {
      if (!stackBounds(insn, r, off, size)) return false;
      const at = r.off + <i32> r.smin + off;
      if (usesIterators && !noIterator(insn, r.frame, at, r.off + <i32> r.smax + off + size)) return false;
      if (isConst(r)) {
        if (at & (size - 1)) return fail2(E.STACK_MISALIGNED, insn, size, at);
        return writeFixed(insn, r.frame, at, size, value);
      }
      if (((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) {
        return fail2(E.STACK_MISALIGNED, insn, size, at);
      }
      clobberMaybe(r.frame, at, r.off + <i32> r.smax + off + size);
      return true;
    }
    case K_CTX: {
      if (value.kind != K_NUM && strict()) return failIS(E.POINTER_STORE, insn, valueReg, kindName(value));
      if (!isConst(r) || r.off != 0) return fail2(E.CONTEXT_OFFSET, insn, regno, r.off);
      const at = r.off + off;
      if (at & (size - 1) || contextAccess(at, size, true) == 0) {
        fail2(E.CONTEXT_ACCESS, insn, at, size);
        opS("written");
        return false;
      }
      return true;
    }
    case K_SOCK:
    case K_SKC:
    case K_TCP:
    case K_XSK:
    case K_FLOW:
      if (r.kind == K_FLOW && value.kind == K_NUM) break;
      return failIS(E.MEMORY_READ_ONLY, insn, regno, kindName(r));
    case K_END:
      return fail1(E.PACKET_END_ARITHMETIC, insn, regno);
    case K_BTF:
      if (r.map < 0) return fail1(E.UNSUPPORTED_BTF_POINTER, insn, regno);
      return failIS(E.KERNEL_STRUCT_WRITE, insn, regno, r.map == 0 ? "kernel memory" : structName(r.map));
    case K_PKT:
    case K_META:
    case K_VALUE:
    case K_MEM:
      if (value.kind != K_NUM && strict()) return failIS(E.POINTER_LEAK, insn, valueReg, kindName(value));
      break;
    default:
      return notAPointer(insn, regno, r);
  }
  return !misaligned(insn, regno, r, off, size) && checkRange(insn, regno, r, off, size, true);
}

/// Memory that a helper reads or (uninit) fills: `size` bytes at r.
export function helperMemory(insn: i32, regno: u32, r: Reg, size: i64, write: bool): bool {
  if (r.kind == K_FP) {
    if (!stackBounds(insn, r, 0, size)) return false;
    if (size == 0) return true;
    const lo = r.off + <i32> r.smin, hi = r.off + <i32> r.smax + <i32> size;
    if (usesIterators && !noIterator(insn, r.frame, lo, hi)) return false;
    if (write) {
      if (isConst(r)) clobber(r.frame, lo, hi);
      else clobberMaybe(r.frame, lo, hi);
      return true;
    }
    const f = frameOf(cur, r.frame);
    for (let off = lo; off < hi; off++) {
      const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
      if (strict() && (k >= f.slots || load<u8>(slotTypes(f, k) + b) == T_INVALID)) {
        return fail2(E.STACK_UNINITIALISED, insn, lo, hi - 1);
      }
    }
    return true;
  }
  if (r.kind == K_BTF) {
    if (write || size <= 0) return fail1(E.UNSUPPORTED_BTF_POINTER, insn, regno);
    return structMemory(insn, regno, r, size, (options & 1) != 0);
  }
  return checkRange(insn, regno, r, 0, size, write);
}
