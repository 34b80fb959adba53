// Which registers and stack bytes an instruction's continuations can still read. Kept states are compared on
// those only. Stack bytes are tracked in granules of 4: granule g covers frame offsets -4(g+1) to -4g-1.
//
// Sound because stack accesses other than through r10-derived registers with a known offset count as reads of
// everything, and a function whose frame pointer escapes (stored, passed on) keeps its whole stack alive.
import { A_KEY, A_MEM, A_MEM_NULL, A_NONE, A_STACK_NULL, A_VAL, argKind } from "./contract";
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_LD,
  BPF_LDX,
  BPF_ST,
  BPF_STX,
  dstOf,
  immOf,
  isJump,
  isLoadAcquire,
  offOf,
  OP_CALL,
  OP_EXIT,
  OP_JA,
  OP_JA32,
  OP_LDIMM,
  OP_MAY_GOTO,
  opcode,
  sizeOf,
  srcOf,
  STORE_RELEASE,
  targetOf,
} from "./instruction";
import { findMap, findSub, M_HIGH, M_TARGET, mark, subOf } from "./program";
import { count, maps, Sub, subs } from "./request";
import { newTable, noTable } from "./table";

const V_BOTTOM: i32 = 0, V_OTHER: i32 = 1, V_FP: i32 = 2, V_FPVAR: i32 = 3, V_CONST: i32 = 4, V_MAP: i32 = 5;
import { iteratorWords, KF_OTHER, kfuncIterator, kfuncKind } from "./kfunc";
const NO: u8 = 255;
let liveR: StaticArray<u16> = noTable<u16>();
let liveLo: StaticArray<u64> = noTable<u64>();
let liveHi: StaticArray<u64> = noTable<u64>();
// granules first..last that an instruction reads or overwrites; 255: none
let useA: StaticArray<u8> = noTable<u8>();

let useB: StaticArray<u8> = noTable<u8>();
let defA: StaticArray<u8> = noTable<u8>();
let defB: StaticArray<u8> = noTable<u8>();
export function liveRegs(i: i32): u32 {
  return liveR[i];
}

/// Stack granules that are read later, 64 to a word; the low ones lie next to the frame's top.
export function liveLow(i: i32): u64 {
  return subs[subOf[i]].fpEscapes ? u64.MAX_VALUE : liveLo[i];
}

export function liveHigh(i: i32): u64 {
  return subs[subOf[i]].fpEscapes ? u64.MAX_VALUE : liveHi[i];
}

// abstract registers of the forward pass, 11 per leader: the kind in the low 3 bits, the value above
let leaders: StaticArray<i32> = noTable<i32>();

let facts: StaticArray<i32> = noTable<i32>();
const cur: StaticArray<i32> = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
function mergeInto(leader: i32): bool {
  const base = leader * 11;
  let changed = false;
  for (let r = 0; r < 11; r++) {
    const fact = cur[r], old = facts[base + r];
    if (fact == old || fact == V_BOTTOM) continue;
    let merged = fact;
    if (old != V_BOTTOM) {
      const k = fact & 7, ok = old & 7;
      merged = ok == V_FP || ok == V_FPVAR || k == V_FP || k == V_FPVAR ? V_FPVAR : V_OTHER;
    }
    if (merged == old) continue;
    facts[base + r] = merged;
    changed = true;
  }
  return changed;
}

function kindOf(r: u32): i32 {
  return cur[r] & 7;
}

function valueOf(r: u32): i32 {
  return cur[r] >> 3;
}

function isFp(r: u32): bool {
  const k = kindOf(r);
  return k == V_FP || k == V_FPVAR;
}

function range(i: i32, r: u32, off: i32, size: i32, write: bool): void {
  if (kindOf(r) == V_FPVAR) {
    if (!write) {
      useA[i] = 0;
      useB[i] = 127;
    }
    return;
  }
  if (kindOf(r) != V_FP) return;
  const lo = valueOf(r) + off, hi = lo + size - 1; // bytes lo..hi
  if (lo < -512 || hi >= 0 || hi < lo) {
    if (!write) {
      useA[i] = 0;
      useB[i] = 127;
    }
    return; // out of the frame: the walk refuses it
  }
  // byte b lies in granule (-1 - b) / 4
  let first = (-1 - hi) >> 2, last = (-1 - lo) >> 2;
  if (write) {
    // only granules that are overwritten whole
    if ((-1 - hi) & 3) first++;
    if (((-1 - lo) & 3) != 3) last--;
    if (first > last) return;
    defA[i] = <u8> first;
    defB[i] = <u8> last;
  } else {
    useA[i] = min(useA[i] == NO ? <u8> first : useA[i], <u8> first);
    useB[i] = useB[i] == NO ? <u8> last : max(useB[i], <u8> last);
  }
}

function set(r: u32, k: i32, v: i32): void {
  // a constant beyond 28 bits is no size, and nothing else is asked of it
  cur[r] = (v << 3) >> 3 == v ? k | (v << 3) : V_OTHER;
}

function step(i: i32, s: Sub): void {
  const op = opcode(i), c = op & 7, dst = dstOf(i), src = srcOf(i), imm = immOf(i);
  if (c == BPF_ALU64 || c == BPF_ALU) {
    const o = op & 0xf0, reg = (op & 8) != 0 && o != 0xd0;
    if (c == BPF_ALU64 && o == 0xb0 && offOf(i) == 0) {
      if (reg) cur[dst] = cur[src];
      else set(dst, V_CONST, imm);
      return;
    }
    if (c == BPF_ALU && o == 0xb0 && !reg && imm >= 0) return set(dst, V_CONST, imm);
    if (c == BPF_ALU64 && o == 0 && !reg && kindOf(dst) == V_FP) {
      const v = valueOf(dst) + imm;
      if (v > -100000 && v < 100000 && imm > -100000 && imm < 100000) return set(dst, V_FP, v);
    }
    if (isFp(dst) || (reg && isFp(src))) return set(dst, V_FPVAR, 0);
    return set(dst, V_OTHER, 0);
  }
  if (c == BPF_LD) {
    if (op == OP_LDIMM) {
      if (src == 1) return set(dst, V_MAP, findMap(<u32> imm));
      return set(dst, V_OTHER, 0);
    }
    for (let r: u32 = 0; r < 6; r++) set(r, V_OTHER, 0);
    return;
  }
  if (c == BPF_LDX) {
    range(i, src, offOf(i), sizeOf(op), false);
    return set(dst, V_OTHER, 0);
  }
  if (c == BPF_ST) return range(i, dst, offOf(i), sizeOf(op), true);
  if (c == BPF_STX) {
    if (isLoadAcquire(i)) {
      range(i, src, offOf(i), sizeOf(op), false);
      return set(dst, V_OTHER, 0);
    }
    if (isFp(src)) s.fpEscapes = true;
    if ((op & 0xe0) == 0xc0 && imm != STORE_RELEASE) {
      range(i, dst, offOf(i), sizeOf(op), false);
      if (imm == 0xf1) set(0, V_OTHER, 0);
      else if (imm & 1) set(src, V_OTHER, 0);
      return;
    }
    return range(i, dst, offOf(i), sizeOf(op), true);
  }
  if (op == OP_CALL) {
    if (src == 1) {
      for (let r: u32 = 1; r < 6; r++) if (isFp(r)) s.fpEscapes = true;
    } else {
      for (let a: u32 = 1; a < 6; a++) {
        if (!isFp(a)) continue;
        // of kernel functions nothing is known here: they may read all from where the argument points
        const kind = src == 2 ? A_MEM : argKind(imm, a);
        let bytes = -1;
        if (kind == A_NONE) continue;
        if (kind == A_KEY && kindOf(1) == V_MAP && valueOf(1) >= 0) bytes = <i32> maps[valueOf(1)].keySize;
        else if (kind == A_VAL && kindOf(1) == V_MAP && valueOf(1) >= 0) {
          bytes = <i32> maps[valueOf(1)].valueSize;
        } else if (src != 2 && (kind == A_MEM || kind == A_MEM_NULL)) {
          if (a < 5 && kindOf(a + 1) == V_CONST) bytes = valueOf(a + 1);
        } else if (kind == A_STACK_NULL) s.fpEscapes = true; // kept by the callee: callback contexts
        if (src == 2 && kfuncKind(imm) != KF_OTHER) {
          bytes = a == 1 ? 8 * <i32> iteratorWords(kfuncIterator(imm)) : 0;
        }
        if (bytes == 0) continue;
        if (bytes < 0) bytes = kindOf(a) == V_FP && valueOf(a) < 0 ? -valueOf(a) : 512;
        range(i, a, 0, bytes, false);
      }
    }
    for (let r: u32 = 0; r < 6; r++) set(r, V_OTHER, 0);
  }
}

function forward(s: Sub, queue: StaticArray<i32>, queued: StaticArray<u8>): void {
  for (let r = 0; r < 10; r++) set(r, V_OTHER, 0);
  set(10, V_FP, 0);
  mergeInto(leaders[s.start]);
  let top = 0;
  queue[top++] = s.start;
  while (top > 0) {
    let i = queue[--top];
    queued[i] = 0;
    const base = leaders[i] * 11;
    for (let k = 0; k < 11; k++) cur[k] = facts[base + k];
    while (true) {
      const op = opcode(i);
      useA[i] =
        useB[i] =
        defA[i] =
        defB[i] =
          NO;
      step(i, s);
      if (op == OP_EXIT) break;
      let next = i + (op == OP_LDIMM ? 2 : 1);
      if (isJump(op)) {
        const t = targetOf(i);
        if (mergeInto(leaders[t]) && !queued[t]) {
          queued[t] = 1;
          queue[top++] = t;
        }
        if (op == OP_JA || op == OP_JA32) break;
      }
      if (mark[next] & M_TARGET || leaders[next] >= 0) {
        if (mergeInto(leaders[next]) && !queued[next]) {
          queued[next] = 1;
          queue[top++] = next;
        }
        break;
      }
      i = next;
    }
  }
}

let entryLive: StaticArray<u16> = noTable<u16>();
/// Registers read and written: low 11 bits read, next 11 written.
export function regEffect(i: i32): u32 {
  const op = opcode(i), c = op & 7, d: u32 = 1 << dstOf(i), s: u32 = 1 << srcOf(i);
  let use: u32 = 0, def: u32 = 0;
  if (c == BPF_ALU || c == BPF_ALU64) {
    const o = op & 0xf0;
    def = d;
    if (o != 0xb0) use |= d;
    if (op & 8 && o != 0xd0) use |= s;
  } else if (c == BPF_LD) {
    if (op == OP_LDIMM) def = d;
    else {
      use = 1 << 6;
      if ((op & 0xe0) == 0x40) use |= s;
      def = 0x3f;
    }
  } else if (c == BPF_LDX) {
    use = s;
    def = d;
  } else if (c == BPF_ST) use = d;
  else if (c == BPF_STX) {
    use = d | s;
    if (isLoadAcquire(i)) {
      use = s;
      def = d;
    } else if ((op & 0xe0) == 0xc0) {
      if (immOf(i) == 0xf1) use |= 1;
      else if (immOf(i) & 1) def = s; // STORE_RELEASE has the bit clear
    }
  } else if (op == OP_EXIT) use = 1;
  else if (op == OP_CALL) {
    def = 0x3f;
    if (srcOf(i) == 1) {
      const k = findSub(i + 1 + immOf(i));
      use = subs[k].isGlobal ? 0x3e : <u32> entryLive[k] & 0x3e;
    } else if (srcOf(i) == 2) use = 0x3e;
    else for (let a: u32 = 1; a < 6; a++) if (argKind(immOf(i), a) != A_NONE) use |= 1 << a;
  } else if (op != OP_JA && op != OP_JA32 && op != OP_MAY_GOTO) {
    use = d;
    if (op & 8) use |= s;
  }
  return use | (def << 11);
}

function granules(a: u8, b: u8, high: bool): u64 {
  if (a == NO) return 0;
  let lo = <i32> a, hi = <i32> b;
  if (high) {
    lo = max(lo - 64, 0);
    hi -= 64;
  } else hi = min(hi, 63);
  if (hi < lo || lo > 63) return 0;
  return (u64.MAX_VALUE >> (63 - (hi - lo))) << lo;
}

function backward(s: Sub): void {
  let again = true;
  while (again) {
    let changed = false, loops = false;
    for (let i = s.end - 1; i >= s.start; i--) {
      if (mark[i] & M_HIGH) continue;
      const op = opcode(i);
      let r: u32 = 0, lo: u64 = 0, hi: u64 = 0;
      if (op != OP_EXIT) {
        const jump = isJump(op);
        if (op != OP_JA && op != OP_JA32) {
          const n = i + (op == OP_LDIMM ? 2 : 1);
          r = liveR[n];
          lo = liveLo[n];
          hi = liveHi[n];
        }
        if (jump) {
          const t = targetOf(i);
          if (t <= i) loops = true;
          r |= liveR[t];
          lo |= liveLo[t];
          hi |= liveHi[t];
        }
      }
      const e = regEffect(i);
      r = (r & ~(e >> 11)) | (e & 0x7ff);
      if ((defA[i] & useA[i]) != NO) {
        lo = (lo & ~granules(defA[i], defB[i], false)) | granules(useA[i], useB[i], false);
        hi = (hi & ~granules(defA[i], defB[i], true)) | granules(useA[i], useB[i], true);
      }
      if (<u16> r != liveR[i] || lo != liveLo[i] || hi != liveHi[i]) {
        liveR[i] = <u16> r;
        liveLo[i] = lo;
        liveHi[i] = hi;
        changed = true;
      }
    }
    // only a back edge can bring news to what was done already
    again = changed && loops;
  }
}

/// Computes liveness of the whole program; call order: callees first.
export function analyse(): void {
  entryLive = newTable<u16>(subs.length);
  liveR = newTable<u16>(count);
  liveLo = newTable<u64>(count);
  liveHi = newTable<u64>(count);
  useA = newTable<u8>(count);
  useB = newTable<u8>(count);
  defA = newTable<u8>(count);
  defB = newTable<u8>(count);
  leaders = newTable<i32>(count);
  let n = 0;
  for (let i = 0; i < count; i++) leaders[i] = mark[i] & M_TARGET ? n++ : -1;
  for (let k = 0; k < subs.length; k++) if (leaders[subs[k].start] < 0) leaders[subs[k].start] = n++;
  facts = newTable<i32>(n * 11);
  const queue = newTable<i32>(n + 2), queued = newTable<u8>(count);
  for (let k = 0; k < subs.length; k++) forward(subs[k], queue, queued);
  // callees first: repeat until the entries are stable; calls do not recurse, so depth rounds suffice
  for (let round = 0; round < 10; round++) {
    let changed = false;
    for (let k = subs.length - 1; k >= 0; k--) {
      backward(subs[k]);
      if (entryLive[k] != liveR[subs[k].start]) {
        entryLive[k] = liveR[subs[k].start];
        changed = true;
      }
    }
    if (!changed || subs.length == 1) return;
  }
  for (let i = 0; i < count; i++) liveR[i] |= 0x3f;
}
