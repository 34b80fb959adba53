// Steps of single instructions that are no arithmetic and no calls.
import * as E from "./gen/codes";
import * as P from "./program";
import { MAP_ARRAY } from "./map_type";
import { strict } from "./access";
import { kindName } from "./kind_name";
import { loadInto, storeFrom } from "./memory";
import { signExtend, truncate } from "./number";
import { fail1, fail2, failIS, failS, opI } from "./outcome";
import {
  isConst,
  K_CTX,
  K_END,
  K_FP,
  K_FUNC,
  K_MAP,
  K_MEM,
  K_NONE,
  K_NUM,
  K_VALUE,
  Reg,
  setConst,
  setKind,
  setUnknown,
  unlink,
} from "./reg";
import { forkReturn } from "./leave";
import { cur, frame, freshId, reg } from "./run";
import { tempReg2 } from "./scratch";

export function extend(r: Reg, size: i32): void {
  unlink(r);
  signExtend(r, size);
}

export function loadConstant(i: i32): bool {
  const d = reg(P.dstOf(i)), imm = P.immOf(i), next = P.immOf(i + 1);
  switch (P.srcOf(i)) {
    case 0:
      setConst(d, <u64> (<u32> imm) | (<u64> (<u32> next) << 32));
      return true;
    case 1:
      setKind(d, K_MAP);
      d.map = P.findMap(<u32> imm);
      return true;
    case 2: {
      const k = P.findMap(<u32> imm), m = P.maps[k];
      if (m.type != MAP_ARRAY || m.maxEntries != 1 || <u32> next >= m.valueSize) {
        return fail2(E.MAP_DIRECT_VALUE, i, <i32> m.handle, <u32> next);
      }
      setKind(d, K_VALUE);
      d.map = k;
      d.off = next;
      if (P.hasLock(k, -1)) d.id = freshId();
      return true;
    }
    default:
      setKind(d, K_FUNC);
      d.map = i + 1 + imm;
      return true;
  }
}

/// LD_ABS and LD_IND: bytes of the packet in network order; the function ends with 0 if they are not there.
export function loadPacket(i: i32, op: u8): bool {
  if (P.progType != 1 && P.progType != 3 && P.progType != 4) {
    return failS(E.LD_ABS, i, "not for this program type");
  }
  if (cur.refCount > 0) return failS(E.LD_ABS, i, "a reference is held and would leak");
  if (cur.lockId) return failS(E.LD_ABS, i, "a lock is held");
  if (cur.depth > 0) {
    const s = P.subs[<i32> frame.sub];
    if (s.returns != 1) return failS(E.LD_ABS, i, "the function does not return a number");
  }
  const ctx = reg(6);
  if (ctx.kind != K_CTX || ctx.off != 0 || !isConst(ctx)) {
    return failS(E.LD_ABS, i, "r6 must hold the context");
  }
  if ((op & 0xe0) == 0x40) {
    const s = P.srcOf(i);
    if (reg(s).kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, s);
    if (reg(s).kind != K_NUM) return failIS(E.NOT_A_POINTER, i, s, kindName(reg(s)));
  }
  for (let r: u32 = 1; r < 6; r++) setKind(reg(r), K_NONE);
  const r0 = reg(0);
  setUnknown(r0);
  truncate(r0, P.sizeOf(op));
  return cur.depth > 0 ? forkReturn(i, true) : true;
}

/// Whether register `d` may be the address of an atomic instruction: stack at a known place, map values or other memory,
/// aligned whatever the program's flags say. Bounds and rights are looked at by the load or store itself.
export function atomicAddress(i: i32, d: u32, size: i32): bool {
  const r = reg(d);
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, d);
  if (r.kind == K_NUM || r.kind == K_END) return failIS(E.NOT_A_POINTER, i, d, kindName(r));
  if (r.kind != K_FP && r.kind != K_VALUE && r.kind != K_MEM) {
    return failIS(E.ATOMIC_TARGET, i, d, kindName(r));
  }
  if (r.kind == K_FP && !isConst(r)) {
    failIS(E.POINTER_VARIABLE_OFFSET, i, d, kindName(r));
    opI(r.smin);
    opI(r.smax);
    return false;
  }
  if (r.kind != K_FP && ((<u64> (r.off + P.offOf(i)) + r.bits) | r.unk) & (size - 1)) {
    fail2(E.MISALIGNED_ACCESS, i, size, r.off + P.offOf(i));
    opI(d);
    return false;
  }
  return true;
}

/// dst = *src, before everything that follows. That other CPUs see an order between accesses says nothing about what may be
/// accessed, nor about the value: it is a load, of less kinds of memory, from an aligned address (check_atomic_load()).
export function loadAcquire(i: i32, op: u8): bool {
  const s = P.srcOf(i), size = P.sizeOf(op);
  return atomicAddress(i, s, size) && loadInto(i, s, P.offOf(i), size, P.dstOf(i), false);
}

export function atomic(i: i32, op: u8): bool {
  const d = P.dstOf(i), s = P.srcOf(i), imm = P.immOf(i), size = P.sizeOf(op), r = reg(d);
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, d);
  if (imm == 0xf1) {
    if (reg(0).kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, 0);
  }
  if (!atomicAddress(i, d, size)) return false;
  if (reg(s).kind != K_NUM && strict()) return failIS(E.POINTER_LEAK, i, s, kindName(reg(s)));
  // read, then write something unknown
  const t = tempReg2();
  setUnknown(t);
  if (!storeFrom(i, d, P.offOf(i), size, t, s)) return false;
  if (r.kind == K_VALUE && P.maps[r.map].flags & 0x100) {
    return fail1(E.MAP_WRITE_ONLY, i, <i32> P.maps[r.map].handle);
  }
  if (imm == 0xf1 || imm & 1) {
    const x = reg(imm == 0xf1 ? 0 : s);
    setUnknown(x);
    truncate(x, size);
  }
  return true;
}
