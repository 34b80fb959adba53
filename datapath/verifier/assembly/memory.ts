// Loads and stores: what each kind of pointer may touch.
import {
  copyReg,
  F_NULL,
  F_RDONLY,
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
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
  REG_BYTES,
  setConst,
  setKind,
  setLost,
  setRangeU,
  setUnknown,
  truncate,
} from "./reg";
import { fail, fail1, fail2, failIS, failS, opI, opS, setLostAt } from "./outcome";
import {
  ensureSlot,
  frameOf,
  slotReg,
  slotTypes,
  T_INVALID,
  T_MISC,
  T_SPILL,
  T_ZERO,
  zeroVar,
} from "./state";
import { cur, frame, freshId, noteOrigin, originOf, refreshFrame, reg } from "./run";
import { addressKind, MapInfo, maps, options, progFlags, subOf, subs } from "./program";
import { contextSlot, readStruct, structMemory, structName } from "./btf";
import { contextAccess, isTracing, packetAccess } from "./contract";

export function kindName(r: Reg): string {
  const n = (r.flags & F_NULL) ? " or NULL" : "";
  switch (r.kind) {
    case K_NONE:
      return "uninitialised register";
    case K_NUM:
      return "number";
    case K_CTX:
      return "context pointer";
    case K_MAP:
      return "map" + n;
    case K_VALUE:
      return "map value" + n;
    case K_FP:
      return "stack pointer";
    case K_PKT:
      return "packet pointer";
    case K_META:
      return "packet metadata pointer";
    case K_END:
      return "end of packet";
    case K_SOCK:
      return "socket" + n;
    case K_SKC:
      return "socket (common)" + n;
    case K_TCP:
      return "TCP socket" + n;
    case K_XSK:
      return "XDP socket" + n;
    case K_MEM:
      return "memory" + n;
    case K_BTF:
      return (r.map > 0 ? "pointer to " + structName(r.map) : "kernel pointer") + n;
    case K_FLOW:
      return "flow keys";
    case K_FUNC:
      return "function";
    default:
      return "map key";
  }
}

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
          66,
          insn,
          <i32> m.handle,
          size,
          bounded ? lo : at,
          bounded ? hi - 1 : i64.MAX_VALUE,
          have,
        );
      }
      if (r.kind == K_KEY) return write ? failIS(76, insn, regno, kindName(r)) : true;
      if (write && (m.flags & 0x80 || r.flags & F_RDONLY)) return fail1(68, insn, <i32> m.handle);
      if (!write && m.flags & 0x100) return fail1(69, insn, <i32> m.handle);
      for (let k: u32 = 0; k < m.fieldCount; k++) {
        const p = m.fields + k * 12;
        const fo = <i64> load<u32>(p, 4), fs = <i64> load<u32>(p, 8);
        if (lo < fo + fs && hi > fo) {
          // the kernel lets some of these be loaded; that is not modelled
          if (!write && load<u32>(p) == 3) {
            return failS(163, insn, "Reading a kernel pointer in a map value (kptr)");
          }
          fail2(67, insn, <i32> m.handle, size);
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
      if (write && access < 2) return fail(71, insn);
      if (r.smin < 0) {
        fail2(72, insn, regno, r.smin);
        opI(r.smax);
        return false;
      }
      if (at < 0 || at + size > <i64> r.size) {
        setLostAt(r.size == 0 ? cur.lostAt : -1);
        return outOf(70, insn, regno, size, at, at + size - 1, r.size);
      }
      return true;
    }
    case K_MEM:
    case K_FLOW: {
      const have = r.kind == K_FLOW ? 56 : <i64> r.size;
      const bounded = r.umax < (1 << 29) && r.smin > -(1 << 29);
      const lo = at + r.smin, hi = at + <i64> r.umax + size;
      if (!bounded || lo < 0 || hi > have) {
        return outOf(75, insn, regno, size, bounded ? lo : at, bounded ? hi - 1 : i64.MAX_VALUE, have);
      }
      if (write && r.flags & F_RDONLY) return failIS(76, insn, regno, kindName(r));
      return true;
    }
    default:
      return notAPointer(insn, regno, r);
  }
}

// --- stack ---
/// Lowest offset of a stack access; checks that all of it lies in the frame.
function stackBounds(insn: i32, r: Reg, off: i64, size: i64): bool {
  const bounded = r.smin > -(1 << 29) && r.smax < (1 << 29);
  const lo = <i64> r.off + r.smin + off, hi = <i64> r.off + r.smax + off + size;
  if (!bounded || lo < -512 || hi > 0) {
    fail2(62, insn, size, bounded ? lo : i64.MIN_VALUE);
    opI(bounded ? hi - 1 : i64.MAX_VALUE);
    return false;
  }
  const s = subs[<i32> frameOf(cur, r.frame).sub];
  if (-lo > <i64> s.depth) s.depth = <i32> (-lo);
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

function writeFixed(insn: i32, fno: i32, off: i32, size: i32, value: Reg): bool {
  const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
  const f = ensureSlot(cur, fno, k);
  refreshFrame();
  const types = slotTypes(f, k);
  if (value.kind != K_NUM) {
    if (size != 8) return fail1(65, insn, off);
    if (value.kind == K_FP && fno != cur.depth) return fail1(95, insn, off);
    memory.fill(types, T_SPILL, 8);
    copyReg(slotReg(f, k), value);
    return true;
  }
  if (b == 0) {
    let n: usize = <usize> size;
    if (size < 8) scrub(types, 0);
    memory.fill(types, T_SPILL, n);
    const s = slotReg(f, k), before = size < 8 ? s.from : 0;
    copyReg(s, value);
    s.from |= before; // of the bytes that stay
    if (size < 8 && value.umax >> (size * 8) != 0) {
      truncate(s, size);
      s.id = 0;
    }
    return true;
  }
  const zero = isConst(value) && (value.bits & ((<u64> 1 << (size * 8)) - 1)) == 0;
  // a saved register that this store overlaps is gone
  if (load<u8>(types + b) == T_SPILL) scrub(types, 0);
  memory.fill(types + b, zero ? T_ZERO : T_MISC, size);
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
function clobberMaybe(fno: i32, lo: i32, hi: i32): void {
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

/// An address that is none. Pointers that a helper invalidated are numbers of which nothing is known: say where.
function notAPointer(insn: i32, regno: u32, r: Reg): bool {
  if (r.kind == K_NUM) setLostAt(r.size - 1);
  return failIS(60, insn, regno, kindName(r));
}

function mayBeNull(insn: i32, regno: u32, r: Reg): bool {
  setLostAt(originOf(r.id));
  return failIS(61, insn, regno, kindName(r));
}

/// Whether reading uninitialised bytes is refused (strict mode).
export function strict(): bool {
  return (options & 2) != 0;
}

/// Whether an access that must be aligned (strict alignment) is not. Packets start 2 bytes off a multiple of 4.
function misaligned(insn: i32, regno: u32, r: Reg, off: i32, size: i32): bool {
  if (size == 1 || !(progFlags & 1 || strict())) return false;
  const start = r.kind == K_PKT || r.kind == K_META ? 2 : 0;
  if (((<u64> (r.off + off + start) + r.bits) | r.unk) & <u64> (size - 1)) {
    fail2(78, insn, size, r.off + off);
    opI(regno);
    return true;
  }
  return false;
}

function readFixed(insn: i32, fno: i32, off: i32, size: i32, into: Reg): bool {
  const f = frameOf(cur, fno);
  const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
  if (k >= f.slots) {
    if (strict()) return fail2(64, insn, off, off + size - 1);
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
        truncate(into, size);
        into.id = 0;
      }
      return true;
    }
    if (size == 8) {
      copyReg(into, saved);
      return true;
    }
  }
  if (spilled == 8 && saved.kind != K_NUM) return fail1(65, insn, off);
  const savedZero = saved.kind == K_NUM && isConst(saved) && saved.bits == 0;
  let zero = true;
  for (let n = b; n < b + size; n++) {
    const t = load<u8>(types + n);
    if (t == T_INVALID && strict()) return fail2(64, insn, off, off + size - 1);
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

const scratch: StaticArray<u64> = new StaticArray<u64>(REG_BYTES / 8);
const scratch2: StaticArray<u64> = new StaticArray<u64>(REG_BYTES / 8);
export function tempReg(): Reg {
  return changetype<Reg>(changetype<usize>(scratch));
}
export function tempReg2(): Reg {
  return changetype<Reg>(changetype<usize>(scratch2));
}

/// Accesses through these are rewritten by the kernel at load time.
function isRewritten(kind: u8): bool {
  return kind == K_CTX || kind == K_SOCK || kind == K_SKC || kind == K_TCP || kind == K_XSK || kind == K_BTF;
}

/// One instruction is one kind of access: what is rewritten for the context would be wrong for anything else that
/// another path brings to it (the kernel's reg_type_mismatch).
function keepsKind(insn: i32, r: Reg): bool {
  const before = addressKind[insn];
  if (before == 0) {
    addressKind[insn] = r.kind + 1;
    return true;
  }
  const kind = before - 1;
  if (kind == r.kind || !(isRewritten(kind) || isRewritten(r.kind))) return true;
  const other = tempReg2();
  setKind(other, kind);
  failS(85, insn, kindName(other));
  opS(kindName(r));
  return false;
}

/// Reads `size` bytes at `r + off` into register `dst`.
export function loadInto(insn: i32, regno: u32, off: i32, size: i32, dst: u32, signed: bool): bool {
  const r = reg(regno);
  const t = tempReg();
  if (!readThrough(insn, regno, r, off, size, t, signed)) return false;
  if (t.flags & F_NULL && (r.kind == K_CTX || r.kind == K_BTF)) noteOrigin(t.id, insn);
  copyReg(reg(dst), t);
  return true;
}

function readThrough(insn: i32, regno: u32, r: Reg, off: i32, size: i32, t: Reg, signed: bool): bool {
  if (r.kind == K_NONE) return fail1(40, insn, regno);
  if (r.flags & F_NULL) return mayBeNull(insn, regno, r);
  if (!keepsKind(insn, r)) return false;
  switch (r.kind) {
    case K_FP: {
      if (!stackBounds(insn, r, off, size)) return false;
      const at = r.off + <i32> r.smin + off;
      if (isConst(r)) {
        if (at & (size - 1)) return fail2(63, insn, size, at);
        return readFixed(insn, r.frame, at, size, t);
      }
      if (((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) return fail2(63, insn, size, at);
      setUnknown(t);
      truncate(t, size);
      return true;
    }
    case K_CTX: {
      if (!isConst(r) || r.off != 0) return fail2(74, insn, regno, r.off);
      const at = off;
      if (isTracing()) {
        const got = at & (size - 1) ? 0 : contextSlot(insn, at, size, signed, t, freshId());
        if (got != 0) return got == 1;
      }
      const kind = at & (size - 1) ? 0 : contextAccess(at, size, false);
      if (kind == 0) {
        fail2(73, insn, at, size);
        opS("read");
        return false;
      }
      const k = <u8> (kind & 31);
      if (k == K_NUM) {
        setUnknown(t);
        truncate(t, size);
        return true;
      }
      if (signed) return fail(80, insn);
      setKind(t, k);
      if (kind & 32) {
        t.flags = F_NULL;
        t.id = freshId();
      }
      return true;
    }
    case K_VALUE: {
      if (misaligned(insn, regno, r, off, size) || !checkRange(insn, regno, r, off, size, false)) {
        return false;
      }
      const m = maps[r.map];
      const at = <i64> r.off + off;
      if (
        isConst(r) && m.frozen && m.flags & 0x80 && m.type == 2 && m.maxEntries == 1 &&
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
        fail2(77, insn, at, size);
        opS(kindName(r));
        return false;
      }
      setUnknown(t);
      truncate(t, size);
      return true;
    }
    case K_END:
      return fail1(82, insn, regno);
    case K_BTF:
      if (progFlags & 1 && ((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) {
        fail2(78, insn, size, r.off + off);
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
      return off >= 0 && r.off == 0 ? fail1(164, insn, regno) : failIS(60, insn, regno, kindName(r));
    default:
      return notAPointer(insn, regno, r);
  }
  if (misaligned(insn, regno, r, off, size) || !checkRange(insn, regno, r, off, size, false)) return false;
  setUnknown(t);
  truncate(t, size);
  return true;
}

/// Fields of struct bpf_sock, bpf_tcp_sock and bpf_xdp_sock that programs may read.
function socketField(kind: u8, at: i32, size: i32): bool {
  if (at < 0 || at & (size - 1)) return false;
  if (kind == K_XSK) return at == 0 && size == 4;
  if (kind == K_TCP) {
    // bytes_received (80) and bytes_acked (88) are 64 bits wide, the rest 32
    if (at == 80 || at == 88) return size == 8;
    return at < 112 && size == 4 && (at < 80 || at >= 96);
  }
  // bound_dev_if family type protocol mark priority | src_ip4 src_ip6[4] src_port dst_port dst_ip4 dst_ip6[4] state rx_queue
  if (at >= 80) return false;
  if (kind == K_SKC) {
    // a common socket has family, addresses, ports, state and bound_dev_if; the rest only a full one
    const ok = at < 8 || (at >= 24 && at < 76);
    if (!ok) return false;
  }
  if (size > 4) return false;
  // the port is 16 bits wide, two bytes of padding follow; type, protocol, mark and others only as they are
  if (at >= 50 && at < 52) return false;
  if (at == 48) return true;
  if (at == 49) return size == 1;
  const narrow = (at >= 4 && at < 16) || (at >= 24 && at < 48) || at >= 52;
  return size == 4 || narrow;
}

/// Bytes of the stack that a helper reads before it writes them were written before.
export function stackWritten(insn: i32, r: Reg, size: i32): bool {
  if (r.kind != K_FP || !isConst(r) || r.off < -512 || r.off + size > 0) return true;
  const f = frameOf(cur, r.frame);
  for (let off = r.off; off < r.off + size; off++) {
    const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
    if (k >= f.slots || load<u8>(slotTypes(f, k) + b) == T_INVALID) {
      return fail2(64, insn, r.off, r.off + size - 1);
    }
  }
  return true;
}

/// Writes `value` (or, of a store of a constant, a number) to `r + off`.
export function storeFrom(insn: i32, regno: u32, off: i32, size: i32, value: Reg, valueReg: u32): bool {
  const r = reg(regno);
  if (r.kind == K_NONE) return fail1(40, insn, regno);
  if (r.flags & F_NULL) return mayBeNull(insn, regno, r);
  if (!keepsKind(insn, r)) return false;
  switch (r.kind) {
    case K_FP: {
      if (!stackBounds(insn, r, off, size)) return false;
      const at = r.off + <i32> r.smin + off;
      if (isConst(r)) {
        if (at & (size - 1)) return fail2(63, insn, size, at);
        return writeFixed(insn, r.frame, at, size, value);
      }
      if (((<u64> (r.off + off) + r.bits) | r.unk) & (size - 1)) return fail2(63, insn, size, at);
      clobberMaybe(r.frame, at, r.off + <i32> r.smax + off + size);
      return true;
    }
    case K_CTX: {
      if (value.kind != K_NUM && strict()) return failIS(83, insn, valueReg, kindName(value));
      if (!isConst(r) || r.off != 0) return fail2(74, insn, regno, r.off);
      const at = r.off + off;
      if (at & (size - 1) || contextAccess(at, size, true) == 0) {
        fail2(73, insn, at, size);
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
      return failIS(76, insn, regno, kindName(r));
    case K_END:
      return fail1(82, insn, regno);
    case K_BTF:
      if (r.map < 0) return fail1(164, insn, regno);
      return failIS(87, insn, regno, r.map == 0 ? "kernel memory" : structName(r.map));
    case K_PKT:
    case K_META:
    case K_VALUE:
    case K_MEM:
      if (value.kind != K_NUM && strict()) return failIS(49, insn, valueReg, kindName(value));
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
    if (write) {
      if (isConst(r)) clobber(r.frame, lo, hi);
      else clobberMaybe(r.frame, lo, hi);
      return true;
    }
    const f = frameOf(cur, r.frame);
    for (let off = lo; off < hi; off++) {
      const k = <u32> ((-off - 1) >> 3), b = off + 8 * (<i32> k + 1);
      if (strict() && (k >= f.slots || load<u8>(slotTypes(f, k) + b) == T_INVALID)) {
        return fail2(64, insn, lo, hi - 1);
      }
    }
    return true;
  }
  if (r.kind == K_BTF) {
    if (write || size <= 0) return fail1(164, insn, regno);
    return structMemory(insn, regno, r, size, (options & 1) != 0);
  }
  return checkRange(insn, regno, r, 0, size, write);
}
