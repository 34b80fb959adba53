// The walk: every path, depth first, with kept states to end paths early.
import { newTable, noTable } from "./table";
import * as E from "./gen/codes";
import * as P from "./program";
import { stepAlu } from "./arith";
import { narrow, NOT_TAKEN, prepareBranch, sides, TAKEN } from "./branch";
import { callHelper } from "./call";
import { callFunction } from "./call_function";
import { callKfunc } from "./call_kfunc";
import { forgetLater, nextLater } from "./call_later";
import { recordClaim } from "./claims";
import { countInsn, countJump, dropAllKept, resetKept, visited } from "./kept";
import { countState, dropState } from "./live_states";
import { leave, returnTo, setMainSub } from "./leave";
import { loadInto, storeFrom } from "./memory";
import { fail, fail1, failIS, failS } from "./outcome";
import {
  copyReg,
  F_NULL,
  isConst,
  K_CTX,
  K_FP,
  K_MEM,
  K_NONE,
  K_NUM,
  setConst,
  setKind,
  setUnknown,
} from "./reg";
import { cur, freshId, reg, setCur } from "./run";
import { tempReg2 } from "./scratch";
import { addPath, copyState, enterFrame, memoryOk, newState, regOf, State } from "./state";
import { atomic, atomicAddress, extend, loadAcquire, loadConstant, loadPacket } from "./step";
import { forgetWaiting, nextWaiting, wait } from "./waiting";

export let visits: u32 = 0;
let visitCounts: StaticArray<u32> = noTable<u32>();
export function visitsOf(i: i32): u32 {
  return changetype<usize>(visitCounts) ? visitCounts[i] : 0;
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
  setMainSub(k);
  resetKept();
  forgetWaiting();
  forgetLater();
  const st = newState();
  if (!(s.isGlobal && k != 0)) {
    const f = enterFrame(st, 0, k, -1);
    setKind(regOf(f, 1), K_CTX);
  } else {
    const f = enterFrame(st, 0, k, -1);
    if (s.argCount > 5) return failIS(E.UNSUPPORTED_GLOBAL_ARGUMENT, s.start, s.argCount, s.name);
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
      } else return failIS(E.UNSUPPORTED_GLOBAL_ARGUMENT, s.start, a, s.name);
    }
    if (s.returns != 1) return failS(E.GLOBAL_RETURN, s.start, s.name);
  }
  st.insn = s.start;
  setCur(st);
  if (!countState()) return false;
  while (true) {
    if (!walkPath()) return false;
    endPath();
    const done = cur;
    dropState(done);
    const next = nextWaiting();
    if (!changetype<usize>(next)) {
      const later = nextLater();
      if (!changetype<usize>(later)) break;
      setCur(later);
      if (!countState()) return false;
      continue;
    }
    setCur(next);
  }
  dropAllKept(s.start);
  return true;
}

/// Verifies the program; false after `fail`.
export function walkAll(): bool {
  visitCounts = newTable<u32>(P.count);
  for (let k = 0; k < P.subs.length; k++) {
    if (k != 0 && !P.subs[k].isGlobal) continue;
    if (!walkFrom(k)) return false;
  }
  return true;
}

/// The kernel lets the program go on so often, then jumps. What follows the jump is walked first, as after an iterator.
function mayGoto(i: i32): bool {
  const other = copyState(cur, i + 1);
  other.goes++;
  addPath(other, i, false);
  if (!wait(other, i)) return false;
  addPath(cur, i, true);
  cur.insn = P.targetOf(i);
  return true;
}

/// Follows the current state until its path ends: exit, dead, or covered by a kept state.
function walkPath(): bool {
  while (true) {
    const i = cur.insn;
    if (++visits > P.visitsMax) return fail1(E.VISIT_LIMIT, i, P.visitsMax);
    if (P.mark[i] & (P.M_TARGET | P.M_CALLBACK)) {
      const r = visited(i);
      if (r < 0) return false;
      if (r > 0) return true;
    }
    unchecked(visitCounts[i]++);
    countInsn();
    if (P.options & 8 || P.claimCount) recordClaim(i);
    const op = P.opcode(i), c = op & 7;
    cur.insn = i + 1;
    if (P.dstOf(i) == 10 && (c == P.BPF_ALU64 || c == P.BPF_ALU || c == P.BPF_LDX || op == P.OP_LDIMM)) {
      return fail(E.FRAME_POINTER_WRITE, i);
    }
    if (c == P.BPF_ALU64 || c == P.BPF_ALU) {
      if (!stepAlu(i)) return false;
    } else if (c == P.BPF_LDX) {
      const signed = (op & 0xe0) == 0x80, size = P.sizeOf(op), d = P.dstOf(i);
      if (!loadInto(i, P.srcOf(i), P.offOf(i), size, d, signed)) return false;
      if (signed) {
        const r = reg(d);
        if (r.kind != K_NUM) setUnknown(r);
        extend(r, size);
      }
    } else if (c == P.BPF_ST) {
      const t = tempReg2();
      setConst(t, <u64> (<i64> P.immOf(i)));
      if (!storeFrom(i, P.dstOf(i), P.offOf(i), P.sizeOf(op), t, 0)) return false;
    } else if (c == P.BPF_STX) {
      const s = P.srcOf(i), isAtomic = (op & 0xe0) == 0xc0;
      if (reg(s).kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, s);
      if (isAtomic && P.immOf(i) == P.LOAD_ACQUIRE) {
        if (!loadAcquire(i, op)) return false;
      } else if (isAtomic && P.immOf(i) != P.STORE_RELEASE) {
        if (!atomic(i, op)) return false;
      } else {
        if (isAtomic && !atomicAddress(i, P.dstOf(i), P.sizeOf(op))) return false;
        const t = tempReg2();
        const v = reg(s);
        // a saved number and its register are one value
        if (v.kind == K_NUM && v.id == 0 && !isConst(v) && reg(P.dstOf(i)).kind == K_FP) v.id = freshId();
        copyReg(t, v);
        if (!storeFrom(i, P.dstOf(i), P.offOf(i), P.sizeOf(op), t, s)) return false;
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
      } else if (P.srcOf(i) == 2) {
        if (!callKfunc(i)) return false;
      } else if (!callHelper(i)) return false;
      if (!memoryOk(i)) return false;
    } else if (op == P.OP_MAY_GOTO) {
      if (!mayGoto(i)) return false;
    } else if (op == P.OP_JA || op == P.OP_JA32) {
      cur.insn = P.targetOf(i);
    } else {
      if (!prepareBranch(i)) return false;
      countJump(sides == (TAKEN | NOT_TAKEN));
      const t = P.targetOf(i);
      if (sides == 0) return true;
      if (sides == (TAKEN | NOT_TAKEN)) {
        const other = copyState(cur, t);
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
