// What is learned or lost of one value and holds for all its copies in the state.
import { hasLock } from "./program";
import { ADD, alu } from "./alu";
import { meetNumbers } from "./number";
import {
  copyReg,
  F_NULL,
  K_END,
  K_META,
  K_NUM,
  K_PKT,
  K_VALUE,
  L_LOW,
  Reg,
  REG_BYTES,
  setConst,
  setLost,
} from "./reg";
import { cur, eachReg } from "./run";
import { frameOf, REF_BYTES, refOf, regOf, slotReg, slotTypes, State, T_SPILL } from "./state";

/// Packet pointers of every frame become unusable numbers.
export function invalidatePacket(insn: i32): void {
  let any = false;
  for (let k = 0; k <= cur.depth; k++) {
    const f = frameOf(cur, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r);
      if (x.kind == K_PKT || x.kind == K_META || x.kind == K_END) {
        setLost(x, insn);
        any = true;
      }
    }
    for (let k2: u32 = 0; k2 < f.slots; k2++) {
      if (load<u8>(slotTypes(f, k2)) != T_SPILL) continue;
      const x = slotReg(f, k2);
      if (x.kind == K_PKT || x.kind == K_META || x.kind == K_END) {
        setLost(x, insn);
        any = true;
      }
    }
  }
  if (any) cur.lostAt = insn;
}

/// Everything that carries this reference becomes a number; for a released or NULL reference.
export function dropRefValues(s: State, ref: u32, insn: i32): void {
  eachReg(
    s,
    (r: Reg, a: u64, b: u64): void => {
      if (<u64> r.ref == a) setLost(r, <i32> b);
    },
    ref,
    insn,
  );
}

/// Takes the reference out of the list; false if it is not there.
export function removeRef(s: State, id: u32): bool {
  for (let k: u32 = 0; k < s.refCount; k++) {
    if (refOf(s, k).id != id) continue;
    const last = refOf(s, s.refCount - 1);
    memory.copy(changetype<usize>(refOf(s, k)), changetype<usize>(last), REF_BYTES);
    s.refCount--;
    return true;
  }
  return false;
}

/// Gives the outcome of a check for NULL to every copy of the pointer.
export function markNull(s: State, id: u32, isNull: bool): void {
  let ref: u32 = 0;
  for (let k = 0; k <= s.depth; k++) {
    const f = frameOf(s, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r);
      if (x.kind > K_NUM && x.id == id && x.flags & F_NULL) ref = max(ref, nullOne(x, isNull));
    }
    for (let k2: u32 = 0; k2 < f.slots; k2++) {
      if (load<u8>(slotTypes(f, k2)) != T_SPILL) continue;
      const x = slotReg(f, k2);
      if (x.kind > K_NUM && x.id == id && x.flags & F_NULL) ref = max(ref, nullOne(x, isNull));
    }
  }
  if (isNull && ref != 0) removeRef(s, ref);
}

function nullOne(x: Reg, isNull: bool): u32 {
  // a pointer cast from an acquired one has another id: its NULL says nothing about the reference
  const ref = x.ref == x.id ? x.ref : 0;
  if (isNull) setConst(x, 0);
  else {
    x.flags &= ~F_NULL;
    // the lock that is released must be the one that was taken: values with locks keep their identity
    if (x.kind != K_VALUE || !hasLock(x.map, -1)) x.id = 0;
  }
  return ref;
}

function spreadOne(x: Reg, from: Reg): void {
  if (x.off == from.off && x.frame == from.frame) copyNumber(x, from);
  else learnFrom(x, from);
}

function copyNumber(to: Reg, from: Reg): void {
  const own = to.from;
  copyReg(to, from);
  to.from |= own;
}

/* What is known of one number of a value says something of the others: they lie at known distances. Where either of the two
 * is known by its low half only, so is the distance. */
const moved: usize = memory.data(REG_BYTES, 8);
const distance: usize = memory.data(REG_BYTES, 8);
const before: usize = memory.data(REG_BYTES, 8);
function learnFrom(x: Reg, from: Reg): void {
  const t = changetype<Reg>(moved), c = changetype<Reg>(distance);
  const old = changetype<Reg>(before);
  copyReg(old, x);
  copyReg(t, from);
  setConst(c, <u64> (<i64> x.off - <i64> from.off));
  const low = x.frame == L_LOW || from.frame == L_LOW;
  alu(t, c, ADD, low, false);
  // the low half of x is that of t; x is t only if nothing lies above
  if (low && x.frame != L_LOW && x.umax > <u64> u32.MAX_VALUE) {
    t.unk |= 0xffffffff00000000;
    t.bits &= 0xffffffff;
    t.umin = 0;
    t.umax = u64.MAX_VALUE;
    t.smin = i64.MIN_VALUE;
    t.smax = i64.MAX_VALUE;
  }
  // no value left: this path cannot be, which the next branch on x will find
  if (!meetNumbers(x, t)) copyReg(x, old);
  x.from |= from.from;
}

/// All numbers made of the same value get what its bounds say of them.
export function spreadNumber(s: State, from: Reg): void {
  if (from.id == 0) return;
  for (let k = 0; k <= s.depth; k++) {
    const f = frameOf(s, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r);
      if (x.kind == K_NUM && x.id == from.id && x != from) spreadOne(x, from);
    }
    for (let k2: u32 = 0; k2 < f.slots; k2++) {
      if (load<u8>(slotTypes(f, k2)) != T_SPILL) continue;
      const x = slotReg(f, k2);
      if (x.kind == K_NUM && x.id == from.id && x != from) spreadOne(x, from);
    }
  }
}
