// The walk: every path, depth first, with kept states to end paths early.
import * as C from "./contract";
import {
  copyReg,
  F_NULL,
  isConst,
  joinNumbers,
  K_CTX,
  K_END,
  K_FLOW,
  K_FP,
  K_FUNC,
  K_MAP,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_VALUE,
  Reg,
  setConst,
  setKind,
  setUnknown,
  truncate,
  within,
} from "./reg";
import { fail, fail1, fail2, failCode, failIS, failS, opI, opS } from "./outcome";
import * as P from "./program";
import {
  addPath,
  copyState,
  enterFrame,
  frameOf,
  freeFrame,
  freeState,
  memoryOk,
  newState,
  refOf,
  REFS_MAX,
  regOf,
  slotReg,
  slotTypes,
  State,
  T_SPILL,
  zeroVar,
} from "./state";
import { cur, frame, freshId, refreshFrame, reg, setCur } from "./run";
import { checkRange, clobber, kindName, loadInto, storeFrom, strict, tempReg2 } from "./memory";
import { stepAlu } from "./arith";
import { narrow, NOT_TAKEN, prepareBranch, sides, TAKEN } from "./branch";
import { callFunction, callHelper, refName } from "./call";
import { dropLoneIds, stateCovers } from "./prune";
import { beginAt, sink, takeOver } from "./relevance";
import { recordClaim } from "./claims";

/// Unfinished states of a loop that are compared with; a list of all of them would make long loops quadratic.
const LOOK_BACK: u32 = 64;
const WAITING_MAX: u32 = 8192;

export let visits: u32 = 0, statesPeak: u32 = 0, statesTotal: u32 = 0;
let statesNow: u32 = 0, waitingCount: u32 = 0;
let waiting: State = changetype<State>(0); // stack of states to continue, linked by next
let kept: StaticArray<usize> = new StaticArray<usize>(0); // per instruction, list linked by next
let visitCounts: StaticArray<u32> = new StaticArray<u32>(0);
let jumpsSince: u32 = 0, insnsSince: u32 = 0;
let mainSub: i32 = 0;
export function visitsOf(i: i32): u32 {
  return i < visitCounts.length ? visitCounts[i] : 0;
}

function countState(): bool {
  statesTotal++;
  statesNow++;
  if (statesNow > statesPeak) statesPeak = statesNow;
  return statesNow <= P.statesMax ? true : fail1(31, cur.insn, statesNow);
}

/// Puts a state on the stack of those to continue later.
export function wait(s: State, insn: i32): bool {
  s.next = changetype<usize>(waiting);
  waiting = s;
  if (s.parent) changetype<State>(s.parent).branches++;
  waitingCount++;
  if (waitingCount > WAITING_MAX) return fail1(33, insn, waitingCount);
  return countState() && memoryOk(insn);
}

/// The current path has ended: those kept states without continuations left were explored to their ends.
function endPath(): void {
  let p = cur.parent;
  while (p) {
    const s = changetype<State>(p);
    if (--s.branches > 0) break;
    p = s.parent;
  }
}

/// Walks one function that is verified alone: the main program or a global function.
function walkFrom(k: i32): bool {
  const s = P.subs[k];
  mainSub = k;
  kept = new StaticArray<usize>(P.count);
  jumpsSince = insnsSince = 0;
  waitingCount = 0;
  const st = newState();
  if (!(s.isGlobal && k != 0)) {
    const f = enterFrame(st, 0, k, -1);
    setKind(regOf(f, 1), K_CTX);
  } else {
    const f = enterFrame(st, 0, k, -1);
    if (s.argCount > 5) return fail2(165, s.start, s.argCount, k);
    for (let a: u32 = 1; a <= s.argCount; a++) {
      const kind = load<u32>(s.args + (a - 1) * 8),
        size = load<u32>(s.args + (a - 1) * 8, 4),
        r = regOf(f, a);
      if (kind == 1) setUnknown(r);
      else if (kind == 2) setKind(r, K_CTX);
      else if (kind == 3 || kind == 4) {
        setKind(r, K_MEM);
        r.size = <i32> size;
        if (kind == 3) {
          r.flags = F_NULL;
          r.id = freshId();
        }
      } else return failIS(165, s.start, a, s.name);
    }
    if (s.returns != 1) return failS(141, s.start, s.name);
  }
  st.insn = s.start;
  setCur(st);
  if (!countState()) return false;
  while (true) {
    if (!walkPath()) return false;
    endPath();
    const done = cur;
    statesNow--;
    freeState(done);
    if (!changetype<usize>(waiting)) break;
    const next = waiting;
    waiting = changetype<State>(next.next);
    next.next = 0;
    waitingCount--;
    setCur(next);
  }
  for (let i = s.start; i < P.count; i++) dropKept(i);
  for (let i = 0; i < s.start; i++) dropKept(i);
  return true;
}
function dropKept(i: i32): void {
  let p = kept[i];
  while (p) {
    const n = changetype<State>(p).next;
    freeState(changetype<State>(p));
    statesNow--;
    p = n;
  }
  kept[i] = 0;
}

/// Verifies the program; false after `fail`.
export function walkAll(): bool {
  visitCounts = new StaticArray<u32>(P.count);
  for (let k = 0; k < P.subs.length; k++) {
    if (k != 0 && !P.subs[k].isGlobal) continue;
    if (!walkFrom(k)) return false;
  }
  return true;
}

/// Follows the current state until its path ends: exit, dead, or covered by a kept state.
function walkPath(): bool {
  while (true) {
    const i = cur.insn;
    if (++visits > P.visitsMax) return fail1(30, i, P.visitsMax);
    if (P.mark[i] & (P.M_TARGET | P.M_CALLBACK)) {
      const r = visited(i);
      if (r < 0) return false;
      if (r > 0) return true;
    }
    unchecked(visitCounts[i]++);
    insnsSince++;
    if (P.options & 8 || P.claimCount) recordClaim(i);
    const op = P.opcode(i), c = op & 7;
    cur.insn = i + 1;
    if (P.dstOf(i) == 10 && (c == P.BPF_ALU64 || c == P.BPF_ALU || c == P.BPF_LDX || op == P.OP_LDIMM)) {
      return fail(7, i);
    }
    if (c == P.BPF_ALU64 || c == P.BPF_ALU) {
      if (!stepAlu(i)) return false;
    } else if (c == P.BPF_LDX) {
      const signed = (op & 0xe0) == 0x80, size = sizeOf(op), d = P.dstOf(i);
      if (!loadInto(i, P.srcOf(i), P.offOf(i), size, d, signed)) return false;
      if (signed) {
        const r = reg(d);
        if (r.kind != K_NUM) setUnknown(r);
        extend(r, size);
      }
    } else if (c == P.BPF_ST) {
      const t = tempReg2();
      setConst(t, <u64> (<i64> P.immOf(i)));
      if (!storeFrom(i, P.dstOf(i), P.offOf(i), sizeOf(op), t, 0)) return false;
    } else if (c == P.BPF_STX) {
      const s = P.srcOf(i);
      if (reg(s).kind == K_NONE) return fail1(40, i, s);
      if ((op & 0xe0) == 0xc0) {
        if (!atomic(i, op)) return false;
      } else {
        const t = tempReg2();
        const v = reg(s);
        // a saved number and its register are one value
        if (v.kind == K_NUM && v.id == 0 && !isConst(v) && reg(P.dstOf(i)).kind == K_FP) v.id = freshId();
        copyReg(t, v);
        if (!storeFrom(i, P.dstOf(i), P.offOf(i), sizeOf(op), t, s)) return false;
      }
    } else if (c == P.BPF_LD) {
      if (op == P.OP_LDIMM) {
        if (!loadConstant(i)) return false;
        cur.insn = i + 2;
      } else if (!loadPacket(i, op)) return false;
    } else if (op == P.OP_EXIT) {
      if (cur.depth == 0) return leave(i);
      if (!returnTo(i)) return false;
    } else if (op == P.OP_CALL) {
      if (P.srcOf(i) == 1) {
        if (!callFunction(i)) return false;
      } else if (!callHelper(i)) return false;
      if (!memoryOk(i)) return false;
    } else if (op == P.OP_JA || op == P.OP_JA32) {
      cur.insn = P.targetOf(i);
    } else {
      if (!prepareBranch(i)) return false;
      jumpsSince++;
      const t = P.targetOf(i);
      if (sides == 0) return true;
      if (sides == (TAKEN | NOT_TAKEN)) {
        const other = copyState(cur);
        other.insn = t;
        addPath(other, i, true);
        narrow(other, true);
        if (!wait(other, i)) return false;
        addPath(cur, i, false);
        narrow(cur, false);
      } else {
        const taken = sides == TAKEN;
        narrow(cur, taken);
        if (taken) cur.insn = t;
      }
    }
  }
}

import { signExtend } from "./reg";
function extend(r: Reg, size: i32): void {
  r.id = 0;
  signExtend(r, size);
}

function sizeOf(op: u8): i32 {
  switch (op & 0x18) {
    case 0:
      return 4;
    case 8:
      return 2;
    case 0x10:
      return 1;
    default:
      return 8;
  }
}

function loadConstant(i: i32): bool {
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
      if (m.type != 2 || m.maxEntries != 1 || <u32> next >= m.valueSize) {
        return fail2(81, i, <i32> m.handle, <u32> next);
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

/// LD_ABS and LD_IND: bytes of the packet in network order; the program ends if they are not there.
function loadPacket(i: i32, op: u8): bool {
  if (P.progType != 1 && P.progType != 3 && P.progType != 4) {
    return failS(143, i, "not for this program type");
  }
  if (cur.refCount > 0) return failS(143, i, "a reference is held and would leak");
  if (cur.lockId) return failS(143, i, "a lock is held");
  if (cur.depth > 0) {
    const s = P.subs[<i32> frame.sub];
    if (s.returns != 1 || frame.callback) return failS(143, i, "the function does not return a number");
  }
  const ctx = reg(6);
  if (ctx.kind != K_CTX || ctx.off != 0 || !isConst(ctx)) return failS(143, i, "r6 must hold the context");
  if ((op & 0xe0) == 0x40) {
    const s = P.srcOf(i);
    if (reg(s).kind == K_NONE) return fail1(40, i, s);
    if (reg(s).kind != K_NUM) return failIS(60, i, s, kindName(reg(s)));
  }
  for (let r: u32 = 1; r < 6; r++) setKind(reg(r), K_NONE);
  const r0 = reg(0);
  setUnknown(r0);
  truncate(r0, sizeOf(op));
  return true;
}

function atomic(i: i32, op: u8): bool {
  const d = P.dstOf(i), s = P.srcOf(i), imm = P.immOf(i), size = sizeOf(op), r = reg(d);
  if (r.kind == K_NONE) return fail1(40, i, d);
  if (imm == 0xf1) {
    if (reg(0).kind == K_NONE) return fail1(40, i, 0);
  }
  if (r.kind == K_NUM || r.kind == K_END) return failIS(60, i, d, kindName(r));
  if (r.kind != K_FP && r.kind != K_VALUE && r.kind != K_MEM) {
    failS(79, i, kindName(r));
    opI(d);
    return false;
  }
  if (reg(s).kind != K_NUM && strict()) return failIS(49, i, s, kindName(reg(s)));
  if (r.kind != K_FP && ((<u64> (r.off + P.offOf(i)) + r.bits) | r.unk) & (size - 1)) {
    fail2(78, i, size, r.off + P.offOf(i));
    opI(d);
    return false;
  }
  // read, then write something unknown
  const t = tempReg2();
  setUnknown(t);
  const keep = reg(0).kind;
  if (!storeFrom(i, d, P.offOf(i), size, t, s)) return false;
  if (r.kind == K_VALUE && P.maps[r.map].flags & 0x100) return fail1(69, i, <i32> P.maps[r.map].handle);
  if (imm == 0xf1 || imm & 1) {
    const x = reg(imm == 0xf1 ? 0 : s);
    setUnknown(x);
    truncate(x, size);
  }
  return true;
}

function leave(i: i32): bool {
  const r0 = reg(0);
  if (r0.kind == K_NONE) return fail(132, i);
  if (cur.refCount > 0) {
    failS(120, i, refName(refOf(cur, 0).kind));
    opI(refOf(cur, 0).insn);
    return false;
  }
  if (cur.lockId) return fail1(129, i, cur.lockAt);
  if (mainSub != 0) return r0.kind == K_NUM ? true : failS(141, i, P.subs[mainSub].name);
  const lo = C.RETURN_RANGE[C.column * 2], hi = C.RETURN_RANGE[C.column * 2 + 1];
  if (lo != -1) sink(1);
  if (lo == -1) {
    if (r0.kind != K_NUM && strict()) return failIS(49, i, 0, kindName(r0));
    if (r0.kind == K_FP && r0.frame != 0) return fail(142, i);
    return true;
  }
  if (r0.kind != K_NUM) return failS(131, i, kindName(r0));
  if (r0.smin < lo || r0.smax > hi) {
    fail2(130, i, r0.smin, r0.smax);
    opI(lo);
    opI(hi);
    return false;
  }
  return true;
}

function returnTo(i: i32): bool {
  const r0 = reg(0), f = frame, depth = cur.depth;
  if (f.callback) {
    if (r0.kind != K_NUM) return r0.kind == K_NONE ? fail(132, i) : failS(131, i, kindName(r0));
    if (r0.smin < 0 || r0.smax > 1) {
      fail2(133, i, r0.smin, r0.smax);
      opI(0);
      opI(1);
      return false;
    }
    for (let k: u32 = 0; k < cur.refCount; k++) {
      const r = refOf(cur, k);
      if (r.frame >= <u8> depth) {
        failS(124, i, refName(r.kind));
        opI(r.insn);
        return false;
      }
    }
    if (cur.lockId) return fail1(129, i, cur.lockAt);
    cur.insn = f.callsite; // the helper may call again
  } else {
    const caller = frameOf(cur, depth - 1);
    if (r0.kind == K_FP && r0.frame == <u8> depth) return fail(142, i);
    copyReg(regOf(caller, 0), r0);
    cur.insn = f.callsite + 1;
    for (let k: u32 = 0; k < cur.refCount; k++) {
      const r = refOf(cur, k);
      if (r.frame >= <u8> depth) r.frame = <u8> (depth - 1);
    }
  }
  // pointers into the frame that goes away must not survive in the frames below
  for (let k = 0; k < depth; k++) {
    const g = frameOf(cur, k);
    for (let s: u32 = 0; s < g.slots; s++) {
      if (load<u8>(slotTypes(g, s)) != T_SPILL) continue;
      const x = slotReg(g, s);
      if (x.kind == K_FP && x.frame == <u8> depth) return fail(142, i);
    }
  }
  freeFrame(f);
  cur.depth = depth - 1;
  refreshFrame();
  return true;
}

/// 1: covered by a kept state; 0: go on; -1: failed.
function visited(i: i32): i32 {
  if (P.options & 16 && !P.usesCallbacks) return 0;
  const callback = (P.mark[i] & P.M_CALLBACK) != 0;
  let prev: usize = 0, p = kept[i], revisits = 0;
  let ancestor: State = changetype<State>(0);
  let looping = false, unfinished: u32 = 0;
  while (p) {
    const s = changetype<State>(p);
    if (s.branches > 0) {
      // an unfinished state at this place: this path came from it
      if (callback) {
        if (stateCovers(s, cur, i, false)) return 1; // the helper bounds the number of calls
        if (s.depth == cur.depth) {
          revisits++;
          if (!changetype<usize>(ancestor)) ancestor = s;
        }
      } else {
        looping = true;
        // a callback that changes nothing comes back as often as the helper calls it: no endless loop
        if (!inCallback() && stateCovers(s, cur, i, true) && onPath(s)) {
          fail1(17, i, i);
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
    // states that rarely help go away
    if (s.misses > s.hits * 3 + (looping ? 64 : 12)) {
      const n = s.next;
      if (prev) changetype<State>(prev).next = n;
      else kept[i] = n;
      // children may still name it as parent: its block is kept until they are gone
      if (!pinned(s)) {
        freeState(s);
        statesNow--;
      }
      p = n;
      continue;
    }
    prev = p;
    p = s.next;
  }
  if (callback && revisits > 0) widen(ancestor);
  const often = jumpsSince >= 2 && insnsSince >= 8 * (1 + unfinished) || P.progFlags & 8; // BPF_F_TEST_STATE_FREQ
  if (!callback && !often) return 0;
  jumpsSince = insnsSince = 0;
  const s = copyState(cur);
  dropLoneIds(s);
  s.branches = 1;
  s.parent = cur.parent;
  s.next = kept[i];
  kept[i] = changetype<usize>(s);
  beginAt(cur);
  cur.parent = changetype<usize>(s);
  if (!countState() || !memoryOk(i)) return -1;
  return 0;
}

/// A kept state without unfinished continuations has no state that refers to it.
function pinned(s: State): bool {
  return s.branches > 0;
}

function inCallback(): bool {
  for (let k = 1; k <= cur.depth; k++) if (frameOf(cur, k).callback) return true;
  return false;
}

function onPath(s: State): bool {
  let p = cur.parent;
  while (p) {
    if (p == changetype<usize>(s)) return true;
    p = changetype<State>(p).parent;
  }
  return false;
}

/// Numbers that changed since the last time round become unknown, so that the rounds converge.
function widen(a: State): void {
  for (let k = 0; k <= cur.depth; k++) {
    const f = frameOf(cur, k), g = frameOf(a, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r), y = regOf(g, r);
      if (x.kind == K_NUM && y.kind == K_NUM && !within(y, x)) setUnknown(x);
    }
    const n = min(f.slots, g.slots);
    for (let s: u32 = 0; s < n; s++) {
      if (load<u8>(slotTypes(f, s)) != T_SPILL || load<u8>(slotTypes(g, s)) != T_SPILL) continue;
      const x = slotReg(f, s), y = slotReg(g, s);
      if (x.kind != K_NUM || y.kind != K_NUM || within(y, x)) continue;
      let bytes = 0;
      while (bytes < 8 && load<u8>(slotTypes(f, s) + bytes) == T_SPILL) bytes++;
      setUnknown(x);
      truncate(x, bytes);
    }
  }
}
