// Ends of functions and of the program.
import * as E from "./gen/codes";
import * as C from "./contract";
import * as P from "./program";
import { CALLED_LATER } from "./call_later";
import { strict } from "./access";
import { kindName } from "./kind_name";
import { fail, fail1, fail2, failIS, failS, opI } from "./outcome";
import { refName } from "./reference";
import { copyReg, isConst, K_FP, K_NONE, K_NUM, setConst, setUnknown } from "./reg";
import { sink } from "./relevance";
import { cur, frame, refreshFrame, reg } from "./run";
import { copyState, frameOf, freeFrame, refOf, regOf, slotReg, slotTypes, T_SPILL } from "./state";
import { wait } from "./waiting";

/// The function that is verified alone: the program or a global function.
let mainSub: i32 = 0;
export function setMainSub(k: i32): void {
  mainSub = k;
}

export function leave(i: i32): bool {
  const r0 = reg(0);
  if (r0.kind == K_NONE) return fail(E.RETURN_UNINITIALISED, i);
  if (cur.refCount > 0) {
    failS(E.REFERENCE_LEAK, i, refName(refOf(cur, 0).kind));
    opI(refOf(cur, 0).insn);
    return false;
  }
  if (cur.lockId) return fail1(E.LOCK_LEAK, i, cur.lockAt);
  if (frame.callback == CALLED_LATER) {
    sink(1);
    if (r0.kind != K_NUM) return failS(E.RETURN_POINTER, i, kindName(r0));
    if (isConst(r0) && r0.bits == 0) return true;
    fail2(E.CALLBACK_RETURN, i, r0.smin, r0.smax);
    opI(0);
    opI(0);
    return false;
  }
  if (mainSub != 0) return r0.kind == K_NUM ? true : failS(E.GLOBAL_RETURN, i, P.subs[mainSub].name);
  let lo = C.RETURN_RANGE[C.column * 2], hi = C.RETURN_RANGE[C.column * 2 + 1];
  if (C.isSession(P.progType, P.attachType)) {
    // at entry: whether the program is called again when the function returns
    lo = 0;
    hi = 1;
  }
  if (lo != -1) sink(1);
  if (lo == -1) {
    if (r0.kind != K_NUM && strict()) return failIS(E.POINTER_LEAK, i, 0, kindName(r0));
    if (r0.kind == K_FP && r0.frame != 0) return fail(E.CALL_STACK_POINTER_RETURN, i);
    return true;
  }
  if (r0.kind != K_NUM) return failS(E.RETURN_POINTER, i, kindName(r0));
  if (r0.smin < lo || r0.smax > hi) {
    fail2(E.RETURN_VALUE, i, r0.smin, r0.smax);
    opI(lo);
    opI(hi);
    return false;
  }
  return true;
}

/// An instruction at which the function may end and its caller go on: a tail call that succeeds replaces the function at
/// the top alone, and returns to that one's caller; a packet load that fails leaves with R0 = 0. On that path nothing
/// happens that the function does behind it, and R0 is foreign. Both paths are walked: the one that stays waits.
export function forkReturn(i: i32, zero: bool): bool {
  const stays = copyState(cur, i + 1);
  if (!wait(stays, i)) return false;
  if (zero) setConst(reg(0), 0);
  else setUnknown(reg(0));
  return returnTo(i);
}

export function returnTo(i: i32): bool {
  const r0 = reg(0), f = frame, depth = cur.depth;
  if (f.callback) {
    sink(1);
    if (r0.kind != K_NUM) {
      return r0.kind == K_NONE ? fail(E.RETURN_UNINITIALISED, i) : failS(E.RETURN_POINTER, i, kindName(r0));
    }
    if (r0.smin < 0 || r0.smax > 1) {
      fail2(E.CALLBACK_RETURN, i, r0.smin, r0.smax);
      opI(0);
      opI(1);
      return false;
    }
    for (let k: u32 = 0; k < cur.refCount; k++) {
      const r = refOf(cur, k);
      if (r.frame >= <u8> depth) {
        failS(E.REFERENCE_IN_CALLBACK, i, refName(r.kind));
        opI(r.insn);
        return false;
      }
    }
    if (cur.lockId) return fail1(E.LOCK_LEAK, i, cur.lockAt);
    cur.insn = f.callsite; // the helper may call again
    frameOf(cur, depth - 1).rounds++;
  } else {
    const caller = frameOf(cur, depth - 1);
    if (r0.kind == K_FP && r0.frame == <u8> depth) return fail(E.CALL_STACK_POINTER_RETURN, i);
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
      if (x.kind == K_FP && x.frame == <u8> depth) return fail(E.CALL_STACK_POINTER_RETURN, i);
    }
  }
  freeFrame(f);
  cur.depth = depth - 1;
  refreshFrame();
  return true;
}
