// Calls of functions of the program: static ones are entered, global ones taken by their prototype, callbacks
// entered by a waiting state.
import * as E from "./gen/codes";
import * as C from "./contract";
import { callee, isZero, wrong } from "./current_call";
import { immOf } from "./instruction";
import { kindName } from "./kind_name";
import { maySleepHere } from "./call_later";
import { helperMemory } from "./memory";
import { setRangeU } from "./number";
import { fail1, fail2, failIS, failS, opI, opS } from "./outcome";
import { findSub, hasLock } from "./program";
import { heldAtTailCall } from "./reference";
import {
  copyReg,
  F_NULL,
  F_RDONLY,
  isConst,
  K_CTX,
  K_FP,
  K_KEY,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_VALUE,
  setKind,
  setUnknown,
} from "./reg";
import { sink } from "./relevance";
import { Sub, subs } from "./request";
import { cur, frame, freshId, refreshFrame, reg } from "./run";
import { invalidatePacket } from "./spread";
import { copyState, enterFrame, frameOf, FRAMES_MAX, regOf } from "./state";
import { wait } from "./waiting";

export function callFunction(i: i32): bool {
  const k = findSub(i + 1 + immOf(i)), s = subs[k];
  if (s.isGlobal) return callGlobal(i, s);
  if (cur.depth + 1 >= FRAMES_MAX) return fail2(E.CALL_DEPTH, i, cur.depth + 2, FRAMES_MAX);
  const caller = frame;
  const f = enterFrame(cur, cur.depth + 1, k, i);
  for (let r: u32 = 1; r < 6; r++) copyReg(regOf(f, r), regOf(caller, r));
  for (let r: u32 = 0; r < 6; r++) setKind(regOf(caller, r), K_NONE);
  refreshFrame();
  cur.insn = s.start;
  return true;
}

export function callUnderLock(i: i32, callee: string): bool {
  failS(E.CALL_UNDER_LOCK, i, callee);
  opI(cur.lockAt);
  return false;
}

function callGlobal(i: i32, s: Sub): bool {
  if (cur.lockId) return callUnderLock(i, s.name);
  // it was verified as if it were called by the program itself
  if (s.maySleep && !maySleepHere()) return failS(E.SLEEPABLE_ONLY, i, s.name);
  for (let a: u32 = 1; a <= s.argCount; a++) {
    if (reg(a).kind == K_NUM) sink(1 << a);
    const kind = load<u32>(s.args + (a - 1) * 8), size = load<u32>(s.args + (a - 1) * 8, 4), r = reg(a);
    if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, a);
    let expected = "";
    if (kind == 1) {
      if (r.kind != K_NUM) expected = "a number";
    } else if (kind == 2) {
      if (r.kind != K_CTX || r.off != 0 || !isConst(r)) expected = "the context";
    } else if (kind == 3 || kind == 4) {
      if (kind == 3 && isZero(r)) continue;
      if (r.kind != K_FP && r.kind != K_VALUE && r.kind != K_MEM && r.kind != K_PKT && r.kind != K_META) {
        expected = "memory";
      } else if (r.kind == K_PKT || r.kind == K_META) {
        // the function may write what it is handed
        if (C.packetAccess() < 2) expected = "writable memory";
        // inside it is plain memory, which a helper that moves the packet does not take away there
        if (s.changesPacket) expected = "memory outside of the packet, which the function may move";
      } else if (r.flags & F_NULL && kind == 4) expected = "memory that is not NULL";
      if (expected.length == 0) {
        const null1 = r.flags;
        r.flags &= ~F_NULL;
        const ok = helperMemory(i, a, r, size, false) && helperMemory(i, a, r, size, true);
        r.flags = null1;
        if (!ok) return false;
      }
    } else {
      failIS(E.UNSUPPORTED_GLOBAL_ARGUMENT, i, a, s.name);
      return false;
    }
    if (expected.length) {
      failIS(E.GLOBAL_ARGUMENT, i, a, s.name);
      opS(kindName(r));
      opS(expected);
      return false;
    }
  }
  if (s.changesPacket) invalidatePacket(i);
  if (s.tailCalls && cur.refCount > 0) return heldAtTailCall(i);
  for (let r: u32 = 0; r < 6; r++) setKind(reg(r), K_NONE);
  setUnknown(reg(0));
  cur.insn = i + 1;
  return true;
}

/// The callback may run: a waiting state enters it. On its exit the call is looked at again.
export function callCallback(i: i32, id: i32, start: i32): bool {
  if (cur.depth + 1 >= FRAMES_MAX) return fail2(E.CALL_DEPTH, i, cur.depth + 2, FRAMES_MAX);
  const k = findSub(start);
  if (subs[k].isGlobal) return failS(E.UNSUPPORTED_INSTRUCTION, i, "Global function as a callback");
  if (id == C.H_LOOP && reg(1).kind != K_NUM) return wrong(i, 1, "a number");
  const rounds = frame.rounds;
  frame.rounds = 0; // past the call
  // bpf_loop() calls back no more often than its argument says
  if (id == C.H_LOOP) {
    sink(2);
    if (<u64> rounds >= <u64> reg(1).u32max) return true;
  }
  const st = copyState(cur, i);
  st.insn = start;
  frameOf(st, cur.depth).rounds = rounds;
  const f = enterFrame(st, cur.depth + 1, k, i);
  f.callback = id == C.H_LOOP ? 1 : 2;
  const caller = frame;
  if (id == C.H_LOOP) {
    setRangeU(regOf(f, 1), 0, 0xffffffff);
    copyReg(regOf(f, 2), regOf(caller, 3));
  } else {
    const m = regOf(caller, 1).map;
    copyReg(regOf(f, 1), regOf(caller, 1));
    setKind(regOf(f, 2), K_KEY);
    regOf(f, 2).map = m;
    regOf(f, 2).flags = F_RDONLY;
    setKind(regOf(f, 3), K_VALUE);
    regOf(f, 3).map = m;
    if (hasLock(m, -1)) regOf(f, 3).id = freshId();
    copyReg(regOf(f, 4), regOf(caller, 3));
  }
  return wait(st, i);
}
