// What each kind of memory but stack and context allows: bounds, rights, alignment.
import * as E from "./gen/codes";
import { packetAccess } from "./contract";
import { kindName } from "./kind_name";
import { fail, fail1, fail2, failIS, failS, opI, opS, setLostAt } from "./outcome";
import { addressKind } from "./program";
import {
  F_RDONLY,
  K_BTF,
  K_CTX,
  K_FLOW,
  K_KEY,
  K_MEM,
  K_META,
  K_NUM,
  K_PKT,
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
  setKind,
} from "./reg";
import { options } from "./options";
import { FIELD_BYTES, maps, progFlags } from "./request";
import { cur, originOf } from "./run";
import { tempReg2 } from "./scratch";

function outOf(code: i32, insn: i32, who: i64, size: i64, lo: i64, hi: i64, have: i64): bool {
  fail2(code, insn, who, size);
  opI(lo);
  opI(hi);
  opI(have);
  return false;
}

/// size bytes at fixed `off` beyond what r points to, r of any memory kind but stack and context.
export function checkRange(insn: i32, regno: u32, r: Reg, off: i64, size: i64, write: bool): bool {
  const at = <i64> r.off + off;
  switch (r.kind) {
    case K_VALUE:
    case K_KEY: {
      const m = maps[r.map];
      const have = <i64> (r.kind == K_KEY ? m.keySize : m.valueSize);
      const bounded = r.umax < (1 << 29) && r.smin > -(1 << 29);
      const lo = at + r.smin, hi = at + <i64> r.umax + size;
      if (!bounded || lo < 0 || hi > have) {
        return outOf(
          E.MAP_VALUE_OUT_OF_BOUNDS,
          insn,
          <i32> m.handle,
          size,
          bounded ? lo : at,
          bounded ? hi - 1 : i64.MAX_VALUE,
          have,
        );
      }
      if (r.kind == K_KEY) return write ? failIS(E.MEMORY_READ_ONLY, insn, regno, kindName(r)) : true;
      if (write && (m.flags & 0x80 || r.flags & F_RDONLY)) {
        return fail1(E.MAP_READ_ONLY, insn, <i32> m.handle);
      }
      if (!write && m.flags & 0x100) return fail1(E.MAP_WRITE_ONLY, insn, <i32> m.handle);
      for (let k: u32 = 0; k < m.fieldCount; k++) {
        const p = m.fields + k * FIELD_BYTES;
        const fo = <i64> load<u32>(p, 4), fs = <i64> load<u32>(p, 8);
        if (lo < fo + fs && hi > fo) {
          fail2(E.MAP_VALUE_SPECIAL_FIELD, insn, <i32> m.handle, size);
          opI(lo);
          opI(hi - 1);
          return false;
        }
      }
      return true;
    }
    case K_PKT:
    case K_META: {
      const access = packetAccess();
      if (write && access < 2) return fail(E.PACKET_READ_ONLY, insn);
      if (r.smin < 0) {
        fail2(E.PACKET_OFFSET_UNBOUNDED, insn, regno, r.smin);
        opI(r.smax);
        return false;
      }
      if (at < 0 || at + size > <i64> r.size) {
        setLostAt(r.size == 0 ? cur.lostAt : -1);
        return outOf(E.PACKET_OUT_OF_BOUNDS, insn, regno, size, at, at + size - 1, r.size);
      }
      return true;
    }
    case K_MEM:
    case K_FLOW: {
      const have = r.kind == K_FLOW ? 56 : <i64> r.size;
      const bounded = r.umax < (1 << 29) && r.smin > -(1 << 29);
      const lo = at + r.smin, hi = at + <i64> r.umax + size;
      if (!bounded || lo < 0 || hi > have) {
        return outOf(
          E.MEMORY_OUT_OF_BOUNDS,
          insn,
          regno,
          size,
          bounded ? lo : at,
          bounded ? hi - 1 : i64.MAX_VALUE,
          have,
        );
      }
      if (write && r.flags & F_RDONLY) return failIS(E.MEMORY_READ_ONLY, insn, regno, kindName(r));
      return true;
    }
    default:
      return notAPointer(insn, regno, r);
  }
}

/// An address that is none. Pointers that a helper invalidated are numbers of which nothing is known: say where.
export function notAPointer(insn: i32, regno: u32, r: Reg): bool {
  if (r.kind == K_NUM) setLostAt(r.size - 1);
  return failIS(E.NOT_A_POINTER, insn, regno, kindName(r));
}

export function mayBeNull(insn: i32, regno: u32, r: Reg): bool {
  setLostAt(originOf(r.id));
  return failIS(E.NULL_DEREFERENCE, insn, regno, kindName(r));
}

/// Whether reading uninitialised bytes is refused (strict mode).
export function strict(): bool {
  return (options & 2) != 0;
}

/// Whether an access that must be aligned (strict alignment) is not. Packets start 2 bytes off a multiple of 4.
export function misaligned(insn: i32, regno: u32, r: Reg, off: i32, size: i32): bool {
  if (size == 1 || !(progFlags & 1 || strict())) return false;
  const start = r.kind == K_PKT || r.kind == K_META ? 2 : 0;
  if (((<u64> (r.off + off + start) + r.bits) | r.unk) & <u64> (size - 1)) {
    fail2(E.MISALIGNED_ACCESS, insn, size, r.off + off);
    opI(regno);
    return true;
  }
  return false;
}

/// Accesses through these are rewritten by the kernel at load time.
function isRewritten(kind: u8): bool {
  return kind == K_CTX || kind == K_SOCK || kind == K_SKC || kind == K_TCP || kind == K_XSK || kind == K_BTF;
}

/// One instruction is one kind of access: what is rewritten for the context would be wrong for anything else that
/// another path brings to it (the kernel's reg_type_mismatch).
export function keepsKind(insn: i32, r: Reg): bool {
  const before = addressKind[insn];
  if (before == 0) {
    addressKind[insn] = r.kind + 1;
    return true;
  }
  const kind = before - 1;
  if (kind == r.kind || !(isRewritten(kind) || isRewritten(r.kind))) return true;
  const other = tempReg2();
  setKind(other, kind);
  failS(E.MIXED_POINTERS, insn, kindName(other));
  opS(kindName(r));
  return false;
}
