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
// What is relevant for a kept state is complete when its exploration has ended, and only then it says which numbers count. A
// path that a kept state ends takes over its relevance: the rest of that path would have made the same decisions.
//
// In callbacks and iterators an unfinished state may end a path (the helper, or the iterator, bounds the rounds):
//
// ```text
//  kept S ──▶ kept T ──▶ path ends at S        S is unfinished: what becomes relevant for it later becomes relevant for
//    ▲                      │                  the path, so the path is remembered (`ended`) and told. Until S is
//    └──────────────────────┘                  explored, T waits for it (`waitsFor`): every number of T counts.
// ```
import { options } from "./options";
import { claimCount } from "./request";
import { cur, frame } from "./run";
import { K_NUM } from "./reg";
import { countMemory, frameOf, regOf, slotReg, State } from "./state";

/// With claims every number is spoken of.
let everything: bool = false;
export function prepareRelevance(): void {
  everything = (options & 8) != 0 || claimCount != 0;
}

/// The bit of a register of frame `k`, counted from the top one.
export function registerBit(below: u32, r: u32): u64 {
  return <u64> 1 << (below == 0 ? r : 10 + (below * 5 + r) % 54);
}

/// The bit of a stack slot.
export function slotBit(below: u32, slot: u32): u64 {
  return <u64> 1 << (10 + (below * 11 + slot) % 54);
}

/// The outermost unfinished state that the exploration of a finished one rests on; 0: it is complete.
export function openOf(s: State): usize {
  let e = s.waitsFor;
  while (e && changetype<State>(e).branches <= 0) e = changetype<State>(e).waitsFor;
  s.waitsFor = e;
  return e;
}

/// Places of a kept state that count when it is compared.
export function relevantOf(s: State): u64 {
  return everything || s.branches > 0 || openOf(s) != 0 ? u64.MAX_VALUE : s.relevant;
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

/* A path that an open state ended: what its numbers were made of, by the bits of the places of that state. */
@unmanaged
class Ended {
  next: usize;
  parent: usize;
  // 64 masks follow
}
const ENDED_BYTES: usize = 2 * sizeof<usize>() + 8 * 64;
let spare: usize = 0;
let pendingStates: usize = 0;

function masksOf(e: usize): usize {
  return e + 2 * sizeof<usize>();
}

/// What is relevant for the states from `parent` up; states that ended paths are noted.
function climb(parent: usize, bits: u64): void {
  while (parent && bits) {
    const s = changetype<State>(parent);
    bits &= ~s.relevant;
    if (bits == 0) return;
    s.relevant |= bits;
    if (s.ended) {
      if (s.pending == 0) {
        s.pendingNext = pendingStates;
        pendingStates = parent;
      }
      s.pending |= bits;
    }
    bits = madeOf(s, bits);
    parent = s.parent;
  }
}

/// Places of the kept state `parent` become relevant.
export function mark(parent: usize, bits: u64): void {
  climb(parent, bits);
  while (pendingStates) {
    const s = changetype<State>(pendingStates);
    pendingStates = s.pendingNext;
    const news = s.pending;
    s.pending = 0;
    for (let e = s.ended; e; e = changetype<Ended>(e).next) {
      let m: u64 = 0, b = news;
      while (b) {
        m |= load<u64>(masksOf(e) + (<usize> ctz(b) << 3));
        b &= b - 1;
      }
      climb(changetype<Ended>(e).parent, m);
    }
  }
}

/// Remembers the current path with `s`, which ends it.
function remember(s: State): void {
  let e = s.ended;
  // paths from one kept state are remembered as one, which only makes more relevant
  for (let n = 0; e && n < 4; n++) {
    if (changetype<Ended>(e).parent == cur.parent) break;
    e = changetype<Ended>(e).next;
  }
  if (!e || changetype<Ended>(e).parent != cur.parent) {
    e = spare;
    if (e) spare = changetype<Ended>(e).next;
    else e = heap.alloc(ENDED_BYTES);
    countMemory(<i64> ENDED_BYTES);
    memory.fill(e, 0, ENDED_BYTES);
    changetype<Ended>(e).parent = cur.parent;
    changetype<Ended>(e).next = s.ended;
    s.ended = e;
  }
  const masks = masksOf(e);
  for (let k = s.depth; k >= 0; k--) {
    const f = frameOf(cur, k), below = <u32> (s.depth - k);
    for (let r: u32 = 0; r < 10; r++) addMask(masks, registerBit(below, r), regOf(f, r).from);
    for (let n: u32 = 0; n < f.slots; n++) addMask(masks, slotBit(below, n), slotReg(f, n).from);
  }
}

function addMask(masks: usize, bit: u64, from: u64): void {
  const at = masks + (<usize> ctz(bit) << 3);
  store<u64>(at, load<u64>(at) | from);
}

/// The paths that a state ended are forgotten: nothing becomes relevant for it any more.
export function forgetEnded(s: State): void {
  while (s.ended) {
    const e = s.ended;
    s.ended = changetype<Ended>(e).next;
    changetype<Ended>(e).next = spare;
    spare = e;
    countMemory(-<i64> ENDED_BYTES);
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

/// The current path ends because kept state `s` covers it: what that one's exploration rests on, this one rests on.
export function takeOver(s: State): void {
  if (everything) return;
  mark(cur.parent, madeOf(cur, s.relevant));
  const entry = s.branches > 0 ? changetype<usize>(s) : openOf(s);
  if (!entry) return;
  remember(s);
  // the walk is depth first: an unfinished state lies on the current path
  const first = changetype<State>(entry);
  first.isEntry = 1;
  for (let p = cur.parent; p && p != entry;) {
    const t = changetype<State>(p);
    const other = openOf(t);
    if (!other || changetype<State>(other).order > first.order) t.waitsFor = entry;
    p = t.parent;
  }
}

/// A state like the current one was kept: from here on numbers are made of its places.
export function beginAt(s: State): void {
  for (let k = s.depth; k >= 0; k--) {
    const f = frameOf(s, k), below = <u32> (s.depth - k);
    for (let r: u32 = 0; r < 10; r++) regOf(f, r).from = registerBit(below, r);
    for (let n: u32 = 0; n < f.slots; n++) slotReg(f, n).from = slotBit(below, n);
  }
}
