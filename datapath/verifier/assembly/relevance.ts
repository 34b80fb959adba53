// Which numbers a verdict can depend on. Two states that differ only in other numbers need one exploration.
//
// Every number carries in `from` the places of the last kept state on its path that it was made of: one bit per
// register or stack slot, folded to 64, which only makes more relevant than need be. Where a decision rests on a number
// (it is added to a pointer, handed to a helper as a size, must lie in a range, proves one side of a branch dead), those
// places of the kept state are relevant, then what they in turn were made of in the kept state before, and so on:
//
// ```text
//  kept A: r1 = 0..7 [from r1]  ──▶  r3 = r1; r2 = 5  ──▶  kept B: r3 [from r1 of A], r2 []  ──▶  r4 += r3
//          relevant: r1         ◀──────────────────────          relevant: r3                 ◀── a decision
// ```
//
// What is relevant for a kept state is complete when its exploration has ended, and only such states prune. A path that
// one of them ends takes over its relevance: the rest of that path would have made the same decisions.
import { usesCallbacks } from "./program";
import { K_NUM } from "./reg";
import { claimCount, options } from "./request";
import { cur, frame } from "./run";
import { frameOf, regOf, slotReg, State } from "./state";

/// With claims every number is spoken of; a callback's states may cover others before their exploration has ended.
let everything: bool = false;

export function prepareRelevance(): void {
  everything = usesCallbacks || (options & 8) != 0 || claimCount != 0;
}

/// The bit of a register of frame `k`, counted from the top one.
export function registerBit(below: u32, r: u32): u64 {
  return <u64> 1 << (below == 0 ? r : 10 + (below * 5 + r) % 54);
}

/// The bit of a stack slot.
export function slotBit(below: u32, slot: u32): u64 {
  return <u64> 1 << (10 + (below * 11 + slot) % 54);
}

/// Places of a kept state that count when it is compared.
export function relevantOf(s: State): u64 {
  return everything ? u64.MAX_VALUE : s.relevant;
}

/// What the places in `bits` of a state were made of.
function madeOf(s: State, bits: u64): u64 {
  let m: u64 = 0;
  for (let k = s.depth; k >= 0; k--) {
    const f = frameOf(s, k), below = <u32> (s.depth - k);
    for (let r: u32 = 0; r < 10; r++) if (bits & registerBit(below, r)) m |= regOf(f, r).from;
    for (let n: u32 = 0; n < f.slots; n++) if (bits & slotBit(below, n)) m |= slotReg(f, n).from;
  }
  return m;
}

function mark(parent: usize, bits: u64): void {
  while (parent && bits) {
    const s = changetype<State>(parent);
    bits &= ~s.relevant;
    if (bits == 0) return;
    s.relevant |= bits;
    bits = madeOf(s, bits);
    parent = s.parent;
  }
}

/// A decision rests on the registers in `mask`; to be called before they change.
export function sink(mask: u32): void {
  if (everything) return;
  let bits: u64 = 0;
  for (let r: u32 = 0; r < 10; r++) {
    const x = regOf(frame, r);
    if ((mask >> r) & 1 && x.kind == K_NUM) bits |= x.from;
  }
  mark(cur.parent, bits);
}

/// The current path ends because a kept state covers it: what that one's exploration rested on, this one rests on.
export function takeOver(s: State): void {
  if (!everything) mark(cur.parent, madeOf(cur, s.relevant));
}

/// A state like the current one was kept: from here on numbers are made of its places.
export function beginAt(s: State): void {
  for (let k = s.depth; k >= 0; k--) {
    const f = frameOf(s, k), below = <u32> (s.depth - k);
    for (let r: u32 = 0; r < 10; r++) regOf(f, r).from = registerBit(below, r);
    for (let n: u32 = 0; n < f.slots; n++) slotReg(f, n).from = slotBit(below, n);
  }
}
