// Kept states: where paths come together, a state that is covered by one that was explored ends its path.
import { newTable, noTable } from "./table";
import * as E from "./gen/codes";
import { H_LOOP } from "./gen/tables";
import * as P from "./program";
import { goesOn, wentOn } from "./call_kfunc";
import { truncate, within } from "./number";
import { countState, dropState } from "./live_states";
import { fail1 } from "./outcome";
import { dropLoneIds, stateCovers } from "./prune";
import { K_NUM, setUnknown } from "./reg";
import { beginAt, forgetEnded, openOf, registerBit, slotBit, takeOver } from "./relevance";
import { cur, inCallback, reg } from "./run";
import {
  copyState,
  frameOf,
  memoryOk,
  memoryScarce,
  regOf,
  slotReg,
  slotTypes,
  State,
  T_SPILL,
} from "./state";

/// Unfinished states of a loop that are compared with; a list of all of them would make long loops quadratic.
const LOOK_BACK: u32 = 64;

let kept: StaticArray<usize> = noTable<usize>(); // per instruction, list linked by next
let keptCount: u32 = 0;
/// States that help no more but that others still name, linked by next.
let retired: usize = 0;
let jumpsSince: u32 = 0, insnsSince: u32 = 0, forksSince: u32 = 0;

/// Forgets all kept states, those of the function at `first` and what follows it before the others.
export function dropAllKept(first: i32): void {
  for (let i = first; i < P.count; i++) dropKept(i);
  for (let i = 0; i < first; i++) dropKept(i);
  dropList(retired);
  retired = 0;
}

export function resetKept(): void {
  kept = newTable<usize>(P.count);
  jumpsSince = insnsSince = forksSince = 0;
}

export function countInsn(): void {
  insnsSince++;
}

export function countJump(forks: bool): void {
  jumpsSince++;
  if (forks) forksSince++;
}

function dropKept(i: i32): void {
  dropList(kept[i]);
  kept[i] = 0;
}

function dropList(p: usize): void {
  while (p) {
    const n = changetype<State>(p).next;
    forgetEnded(changetype<State>(p));
    dropState(changetype<State>(p));
    p = n;
  }
}

/// A state that is in no list any more goes, unless others wait for it or it waits itself (relevance.ts).
function retire(s: State): void {
  if (s.isEntry || s.ended || openOf(s)) {
    s.next = retired;
    retired = changetype<usize>(s);
  } else dropState(s);
}

/// 1: covered by a kept state; 0: go on; -1: failed.
export function visited(i: i32): i32 {
  if (P.options & 16 && !P.usesCallbacks && !P.usesIterators) return 0;
  const callback = (P.mark[i] & P.M_CALLBACK) != 0;
  // what bounds the rounds: the helper, or the iterator until it is drained
  const bounded = callback && (P.opcode(i) == P.OP_MAY_GOTO || P.srcOf(i) == 0 || goesOn(i));
  let prev: usize = 0, p = kept[i], revisits = 0;
  let ancestor: State = changetype<State>(0);
  let looping = false, unfinished: u32 = 0;
  while (p) {
    const s = changetype<State>(p);
    if (s.branches > 0) {
      // an unfinished state at this place: this path came from it
      if (bounded && progressed(s, i)) {
        // the helper bounds the number of calls
        if (stateCovers(s, cur, i, false)) {
          takeOver(s);
          return 1;
        }
        if (s.depth == cur.depth) {
          revisits++;
          if (!changetype<usize>(ancestor)) ancestor = s;
        }
      } else {
        looping = true;
        // a callback that changes nothing comes back as often as the helper calls it: no endless loop
        if (!inCallback() && stateCovers(s, cur, i, true) && onPath(s)) {
          fail1(E.INFINITE_LOOP, i, i);
          return -1;
        }
        // the states of earlier rounds lie behind, and what of later ones has ended lies before
        if (++unfinished >= LOOK_BACK) break;
      }
      prev = p;
      p = s.next;
      continue;
    }
    if (stateCovers(s, cur, i, false)) {
      s.hits++;
      takeOver(s);
      return 1;
    }
    s.misses++;
    // states that rarely help go away; a loop comes back to many before it needs the one
    if (s.misses > (memoryScarce() ? s.hits * 3 + (looping ? 64 : 12) : s.hits * 8 + 128)) {
      const n = s.next;
      if (prev) changetype<State>(prev).next = n;
      else kept[i] = n;
      retire(s);
      p = n;
      continue;
    }
    prev = p;
    p = s.next;
  }
  if (bounded && revisits > 0) {
    widen(ancestor, revisits >= roundsExact(i) || memoryScarce() && revisits >= ROUNDS_EXACT);
  }
  if (!callback && !worthKeeping(i, unfinished)) return 0;
  jumpsSince = insnsSince = forksSince = 0;
  const s = copyState(cur, i);
  dropLoneIds(s);
  s.branches = 1;
  s.parent = cur.parent;
  s.order = ++keptCount;
  s.next = kept[i];
  kept[i] = changetype<usize>(s);
  beginAt(cur);
  cur.parent = changetype<usize>(s);
  if (!countState() || !memoryOk(i)) return -1;
  return 0;
}

/// What two sides of a branch share is walked twice unless a state is kept where they come together, so there every fork
/// is worth one; elsewhere only where many forks follow each other. A loop that does not fork has nothing to share: its
/// rounds keep the fewer the longer it gets.
function worthKeeping(i: i32, unfinished: u32): bool {
  if (P.progFlags & 8) return true; // BPF_F_TEST_STATE_FREQ
  if (insnsSince < 8) return false;
  const joins = (P.mark[i] & P.M_JOIN) != 0;
  // memory must last to the end of the first path
  const spare: u32 = memoryScarce() ? 3 : 1;
  if (forksSince >= spare * <u32> (joins ? 1 : 4)) return true;
  return jumpsSince >= spare * <u32> (joins ? 2 : 8) && insnsSince >= 8 * (1 + unfinished);
}

function onPath(s: State): bool {
  let p = cur.parent;
  while (p) {
    if (p == changetype<usize>(s)) return true;
    p = changetype<State>(p).parent;
  }
  return false;
}

/// Whether the current state is a later round than `s` of what bounds the rounds: of the same call that calls back, the
/// same iterator, the same counter. A loop around it that comes back to its beginning has gone no further.
function progressed(s: State, i: i32): bool {
  if (P.opcode(i) == P.OP_MAY_GOTO) return cur.goes > s.goes;
  if (P.srcOf(i) == 2) return wentOn(s, i);
  return s.depth == cur.depth && frameOf(cur, cur.depth).rounds > frameOf(s, s.depth).rounds;
}

/// Rounds before numbers that something rests on are given up: as many as the helper makes where it says so.
const ROUNDS_EXACT: i32 = 64, ROUNDS_EXACT_ITERATOR: i32 = 2048, ROUNDS_EXACT_MAX: u64 = 1024;
function roundsExact(i: i32): i32 {
  if (P.srcOf(i) == 2 || P.opcode(i) == P.OP_MAY_GOTO) return ROUNDS_EXACT_ITERATOR;
  if (P.immOf(i) != H_LOOP || reg(1).kind != K_NUM || reg(1).umax > ROUNDS_EXACT_MAX) return ROUNDS_EXACT;
  return <i32> ROUNDS_EXACT_MAX + 1;
}

/// Numbers that changed since the last time round become unknown, so that the rounds converge: those that nothing rested
/// on so far; with `all`, the others too.
function widen(a: State, all: bool): void {
  const counts: u64 = all ? 0 : a.relevant;
  for (let k = 0; k <= cur.depth; k++) {
    const f = frameOf(cur, k), g = frameOf(a, k), below = <u32> (cur.depth - k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r), y = regOf(g, r);
      if (x.kind != K_NUM || y.kind != K_NUM || counts & registerBit(below, r)) continue;
      if (!within(y, x)) setUnknown(x);
    }
    const n = min(f.slots, g.slots);
    for (let s: u32 = 0; s < n; s++) {
      if (load<u8>(slotTypes(f, s)) != T_SPILL || load<u8>(slotTypes(g, s)) != T_SPILL) continue;
      const x = slotReg(f, s), y = slotReg(g, s);
      if (x.kind != K_NUM || y.kind != K_NUM || counts & slotBit(below, s) || within(y, x)) continue;
      let bytes = 0;
      while (bytes < 8 && load<u8>(slotTypes(f, s) + bytes) == T_SPILL) bytes++;
      setUnknown(x);
      truncate(x, bytes);
    }
  }
}
