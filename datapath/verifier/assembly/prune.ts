// Kept states: a state that is inside one that was explored to its end needs no second exploration. Compared
// are only the registers and stack bytes that can still be read (liveness.ts).
import { strict } from "./access";
import { liveHigh, liveLow, liveRegs } from "./liveness";
import { within } from "./number";
import { usesWritten } from "./program";
import { isConst, K_ITER, K_META, K_NONE, K_NUM, K_PKT, Reg, unlink } from "./reg";
import { registerBit, relevantOf, slotBit } from "./relevance";
import {
  Frame,
  frameOf,
  refOf,
  regOf,
  slotReg,
  slotTypes,
  State,
  T_INVALID,
  T_MISC,
  T_SPILL,
  T_ZERO,
} from "./state";

const IDS: i32 = 256;
/* Pairs of identities: old 4, new 4, shift 8. */
let ids: usize = 0;
function pair(k: i32): usize {
  return ids + (<usize> k << 4);
}
let idCount: i32 = 0;
/// Whether id b in the new state may stand where a stood in the old one, the same everywhere.
function sameId(a: u32, b: u32, injective: bool): bool {
  for (let k = 0; k < idCount; k++) {
    if (load<u32>(pair(k)) == a) return load<u32>(pair(k), 4) == b;
    if (injective && load<u32>(pair(k), 4) == b) return false;
  }
  if (idCount >= IDS) return false;
  store<u32>(pair(idCount), a);
  store<u32>(pair(idCount++), b, 4);
  return true;
}

/// Whether number b is made of the value that stands for a's, at the same distance as all others that are made of it. The
/// distance may have been counted from another point: then from the same one for all.
function sameValue(a: Reg, b: Reg): bool {
  if (a.frame != b.frame) return false;
  const shift = <i64> b.off - <i64> a.off, known = idCount;
  if (!sameId(a.id, b.id == 0 ? --tempId : b.id, false)) return false;
  if (idCount > known) {
    store<i64>(pair(known), shift, 8);
    return true;
  }
  for (let k = 0; k < idCount; k++) if (load<u32>(pair(k)) == a.id) return load<i64>(pair(k), 8) == shift;
  return false;
}

let exact: bool = false;
let old: State = changetype<State>(0);
let oldInsn: i32 = 0;
let tempId: u32 = 0;
let relevant: u64 = 0;
/// Registers of frame k that are read again when the functions above it return. A function returns behind its call, which
/// leaves R6 to R9. A callback returns to the call itself: the helper's next round hands over R1 to R5 as they were, so a
/// state that differs in them alone has another future. (They were once left out: a callback that behaves in its second
/// round was never walked with the second map, see known_holes_test.ts.)
function liveBelow(s: State, k: i32): u32 {
  const above = frameOf(s, k + 1), at = above.callsite;
  const kept = (liveRegs(at + 1) | liveRegs(at)) & 0x3c0;
  return above.callback ? kept | (liveRegs(at) & 0x3e) : kept;
}

/// Whether a number of the old state that nothing depends on equals one that something depends on.
function linked(id: u32): bool {
  for (let k = old.depth; k >= 0; k--) {
    const f = frameOf(old, k), below = <u32> (old.depth - k);
    const regs = below == 0 ? liveRegs(oldInsn) : liveBelow(old, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r);
      if ((regs >> r) & 1 && x.id == id && x.kind == K_NUM && relevant & registerBit(below, r)) return true;
    }
    for (let s: u32 = 0; s < f.slots; s++) {
      if (
        load<u8>(slotTypes(f, s)) == T_SPILL && slotReg(f, s).id == id && slotReg(f, s).kind == K_NUM &&
        relevant & slotBit(below, s)
      ) {
        return true;
      }
    }
  }
  return false;
}

function covers(a: Reg, b: Reg, counts: bool): bool {
  if (a.kind == K_NONE) return !exact || b.kind == K_NONE; // the old continuation never reads it
  if (a.kind != b.kind) return false;
  if (a.kind == K_NUM) {
    if (exact) {
      return within(a, b) && within(b, a);
    }
    if (!counts && (a.id == 0 || !linked(a.id))) return true;
    if (!within(a, b)) return false;
    // equal values in the old state must be equal in the new one; no id in the new one is an id of its own
    return a.id == 0 || sameValue(a, b);
  }
  if (a.flags != b.flags || a.off != b.off || a.map != b.map || a.frame != b.frame) return false;
  if (!within(a, b) || (exact && !within(b, a))) return false;
  if ((a.id == 0) != (b.id == 0) || (a.ref == 0) != (b.ref == 0)) return false;
  if (a.kind == K_PKT || a.kind == K_META) {
    if (a.size > b.size || (exact && a.size != b.size)) return false;
  } else if (a.size != b.size) {
    // how often an iterator went on matters to nothing but to whether a loop makes progress
    if (exact || a.kind != K_ITER) return false;
  }
  if (a.id != 0 && !sameId(a.id, b.id, true)) return false;
  return a.ref == 0 || sameId(a.ref, b.ref, true);
}

const ALL_SPILL: u64 = 0x0303030303030303; // eight times T_SPILL
const EACH_BYTE: u64 = 0x0101010101010101;
/// Whether a byte reads as some number. One that was never written does, but in strict mode and for a helper that
/// wants it written.
function holdsNumber(type: u8, saved: Reg): bool {
  if (type == T_SPILL) return saved.kind == K_NUM;
  return type != T_INVALID || !(strict() || usesWritten);
}

const unwritten: usize = memory.data(104, 8);
function coversSlot(f: Frame, g: Frame, k: u32, counts: bool): bool {
  // beyond what a state has of its stack nothing was written
  const a = k < f.slots ? slotTypes(f, k) : unwritten, typesA = load<u64>(a);
  const b = k < g.slots ? slotTypes(g, k) : unwritten, typesB = load<u64>(b);
  // what was never written reads as any number at all; a pointer is none
  if (typesA == 0 && !exact) return typesB != ALL_SPILL || changetype<Reg>(b + 8).kind == K_NUM;
  if (exact && typesA != typesB) return false;
  if (typesA == typesB) {
    if (typesA == ALL_SPILL) return covers(changetype<Reg>(a + 8), changetype<Reg>(b + 8), counts);
    // T_SPILL is the one type with both low bits: plain bytes on both sides, and the same ones
    if ((typesA & (typesA >> 1) & EACH_BYTE) == 0) return true;
  }
  const ra = changetype<Reg>(a + 8), rb = changetype<Reg>(b + 8);
  let spillA = 0, spillB = 0;
  while (spillA < 8 && load<u8>(a + spillA) == T_SPILL) spillA++;
  while (spillB < 8 && load<u8>(b + spillB) == T_SPILL) spillB++;
  const numbers = spillA == 0 || ra.kind == K_NUM;
  if (numbers && !counts && !exact && (spillA == 0 || ra.id == 0 || !linked(ra.id))) {
    // nothing rested on the numbers in these bytes: they only have to be numbers
    for (let n = 0; n < 8; n++) {
      if (load<u8>(a + n) != T_INVALID && !holdsNumber(load<u8>(b + n), rb)) return false;
    }
    return true;
  }
  const zeroB = spillB > 0 && rb.kind == K_NUM && isConst(rb) && rb.bits == 0;
  const anyA = spillA == 8 && ra.kind == K_NUM && ra.unk == u64.MAX_VALUE && ra.smin == i64.MIN_VALUE &&
    ra.smax == i64.MAX_VALUE && ra.umax == u64.MAX_VALUE && ra.umin == 0;
  if (spillA > 0 && spillA == spillB) {
    if (!covers(ra, rb, counts)) return false;
  } else if (spillA > 0 && !(anyA && (spillB == 0 || rb.kind == K_NUM) && ra.id == 0)) return false;
  for (let n = spillA; n < 8; n++) {
    const x = load<u8>(a + n), y = load<u8>(b + n);
    if (x == T_INVALID || x == y && x != T_SPILL) continue;
    if (x == T_ZERO && !(y == T_SPILL && zeroB)) return false;
    if (x == T_MISC && !holdsNumber(y, rb)) return false;
    if (x == T_SPILL) return false;
  }
  return true;
}

/// Slots with a live granule, one bit each at the even places.
function slotBits(granules: u64): u64 {
  return (granules | (granules >> 1)) & 0x5555555555555555;
}

/// The slots of `bits` (of the low or high half of the frame); the first that is not covered, -1 for none.
function coversSlots(f: Frame, g: Frame, granules: u64, below: u32, base: u32): i32 {
  let bits = slotBits(granules);
  const slots = max(f.slots, g.slots);
  while (bits) {
    const at = ctz(bits), k = base + <u32> (at >> 1);
    if (k >= slots) break;
    if (!coversSlot(f, g, k, (relevant & slotBit(below, k)) != 0)) return <i32> k;
    bits &= bits - 1;
  }
  return -1;
}

/* A hint names the place where a kept state was last found to differ, plus one: frame << 8 | register, or 16 + slot.
 * What told two states apart once does so most often again: it is looked at first. */
function stillDiffers(o: State, n: State): bool {
  const place = o.hint - 1, k = <i32> (place >> 8), item = place & 255;
  const f = frameOf(o, k), g = frameOf(n, k), below = <u32> (o.depth - k);
  if (item < 16) return !covers(regOf(f, item), regOf(g, item), (relevant & registerBit(below, item)) != 0);
  return !coversSlot(f, g, item - 16, (relevant & slotBit(below, item - 16)) != 0);
}

/// Whether everything that can happen from `n` at its instruction was covered by exploring `o`.
export function stateCovers(o: State, n: State, insn: i32, same: bool): bool {
  if (o.depth != n.depth || o.refCount != n.refCount || (o.lockId == 0) != (n.lockId == 0)) return false;
  // a loop of which the kernel counts the rounds makes progress
  if (same && o.goes != n.goes) return false;
  exact = same;
  relevant = relevantOf(o);
  old = o;
  oldInsn = insn;
  idCount = 0;
  tempId = 0;
  if (!ids) ids = heap.alloc(IDS * 16);
  for (let k = 0; k <= o.depth; k++) {
    const f = frameOf(o, k), g = frameOf(n, k);
    if (f.callsite != g.callsite || f.sub != g.sub || f.callback != g.callback) return false;
  }
  for (let k = 0; k <= o.depth; k++) {
    // what was called back less often may be called back more often
    const r = frameOf(o, k).rounds, q = frameOf(n, k).rounds;
    if (r > q || same && r != q) return false;
  }
  if (o.hint != 0) {
    if (stillDiffers(o, n)) return false;
    idCount = 0;
    tempId = 0;
  }
  for (let k = o.depth; k >= 0; k--) {
    const f = frameOf(o, k), g = frameOf(n, k);
    const below = <u32> (o.depth - k);
    let at = insn, live: u32 = 0;
    if (k == o.depth) live = liveRegs(insn) & 0x3ff;
    else {
      at = frameOf(o, k + 1).callsite;
      live = liveBelow(o, k);
    }
    while (live) {
      const r = <u32> ctz(live);
      if (!covers(regOf(f, r), regOf(g, r), (relevant & registerBit(below, r)) != 0)) {
        o.hint = (<u32> k << 8 | r) + 1;
        return false;
      }
      live &= live - 1;
    }
    let slot = coversSlots(f, g, liveLow(at), below, 0);
    if (slot < 0 && max(f.slots, g.slots) > 32) slot = coversSlots(f, g, liveHigh(at), below, 32);
    if (slot >= 0) {
      o.hint = (<u32> k << 8 | (16 + <u32> slot)) + 1;
      return false;
    }
  }
  if (o.lockId && (o.lockMap != n.lockMap || !sameId(o.lockId, n.lockId, true))) return false;
  for (let k: u32 = 0; k < o.refCount; k++) {
    // the lists are in order of acquisition or nearly so: a mismatch only costs a second exploration
    if (refOf(o, k).kind != refOf(n, k).kind || !sameId(refOf(o, k).id, refOf(n, k).id, true)) return false;
  }
  return true;
}

const seen: usize = memory.data(1024, 8);
/// Equalities with nothing are dropped from a state that is kept: they would only hinder comparing.
export function dropLoneIds(s: State): void {
  for (let pass = 0; pass < 3; pass++) {
    for (let k = 0; k <= s.depth; k++) {
      const f = frameOf(s, k);
      for (let r: u32 = 0; r < 10; r++) lone(regOf(f, r), pass);
      for (let n: u32 = 0; n < f.slots; n++) {
        if (load<u8>(slotTypes(f, n)) == T_SPILL) lone(slotReg(f, n), pass);
      }
    }
  }
}

function lone(r: Reg, pass: i32): void {
  if (r.kind != K_NUM || r.id == 0) return;
  const h = seen + (r.id & 1023);
  if (pass == 0) {
    if (load<u8>(h) < 2) store<u8>(h, load<u8>(h) + 1);
  } else if (pass == 1) {
    if (load<u8>(h) == 1) {
      store<u8>(h, 0);
      unlink(r);
    }
  } else store<u8>(h, 0);
}
