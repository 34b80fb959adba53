// Arguments of helpers that are held: ring buffer memory, locks.
import * as E from "./gen/codes";
import * as C from "./contract";
import { callHelperId, callName, movedArgument, setCallMap, setRelease, wrong } from "./current_call";
import { immOf, OP_CALL, opcode, srcOf } from "./instruction";
import { fail2, failIS, failS, setLostAt } from "./outcome";
import { FIELD_TIMER, hasField, hasLock } from "./program";
import { F_NULL, F_RINGBUF, isConst, K_MEM, K_NUM, K_VALUE, Reg } from "./reg";
import { outerMaps } from "./request";
import { cur } from "./run";

/// A number where something is to be released: what was released is one, and so is what was never acquired.
export function notHeld(i: i32, a: u32, r: Reg): bool {
  const at = r.size - 1;
  if (at >= 0 && opcode(at) == OP_CALL && srcOf(at) == 0) {
    const id = immOf(at);
    if (id == C.H_SK_RELEASE || id == C.H_RINGBUF_SUBMIT || id == C.H_RINGBUF_DISCARD) setLostAt(at);
  }
  return failIS(E.REFERENCE_NOT_OWNED, i, a, callName());
}

/// Memory of the ring buffer that is released by the call.
export function ringbufArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind == K_NUM) return notHeld(i, a, r);
  if (r.kind != K_MEM || !(r.flags & F_RINGBUF) || r.flags & F_NULL) return wrong(i, a, "ring buffer memory");
  if (r.off != 0 || !isConst(r)) return movedArgument(E.REFERENCE_OFFSET, i, a, r);
  if (r.ref == 0) return failIS(E.REFERENCE_NOT_OWNED, i, a, callName());
  setRelease(r.ref);
  return true;
}

/// The timer of a map value. Inner maps have no identity here that would tell one from another.
export function timerArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind != K_VALUE || r.flags & F_NULL) return wrong(i, a, "the timer of a map value");
  if (!isConst(r) || !hasField(r.map, FIELD_TIMER, <i64> r.off + <i64> r.bits)) {
    return movedArgument(E.TIMER_NOT_FOUND, i, a, r);
  }
  if (r.map >= outerMaps) return failS(E.UNSUPPORTED_INSTRUCTION, i, "Timer in a value of an inner map");
  setCallMap(r.map);
  return true;
}

export function lockArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind != K_VALUE || r.flags & F_NULL) return wrong(i, a, "the lock of a map value");
  if (!isConst(r) || r.id == 0 || !hasLock(r.map, <i64> r.off + <i64> r.bits)) {
    return movedArgument(E.LOCK_NOT_FOUND, i, a, r);
  }
  if (callHelperId == C.H_SPIN_LOCK) {
    // callHelper() comes here without a lock only
    cur.lockId = r.id;
    cur.lockMap = r.map;
    cur.lockAt = i;
    return true;
  }
  if (cur.lockId != r.id || cur.lockMap != r.map) {
    return fail2(E.LOCK_NOT_HELD, i, cur.lockId ? cur.lockAt : -1, a);
  }
  cur.lockId = 0;
  return true;
}
