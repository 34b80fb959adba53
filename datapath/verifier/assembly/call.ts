// Calls of helpers: who may call them, their arguments by contract, what follows from the call.
import * as E from "./gen/codes";
import * as C from "./contract";
import { attachFlags, attachTarget } from "./btf";
import { checkArgument } from "./call_argument";
import { beginCall, callee, callName, mapIndex, mapMismatch, release, wrong } from "./current_call";
import { callCallback, callUnderLock } from "./call_function";
import { callLater } from "./call_later";
import { setResult } from "./call_result";
import { alwaysFound } from "./call_key";
import { forkReturn } from "./leave";
import { maySleepHere } from "./call_later";
import { isSockmap, mayChangeSockmap } from "./call_socket";
import { immOf } from "./instruction";
import { fail1, failIS, failS, opS } from "./outcome";
import { heldAtTailCall } from "./reference";
import { F_NULL, isConst, K_NONE, K_NUM, setKind } from "./reg";
import { sink } from "./relevance";
import { options } from "./options";
import { kfuncName, maps, progFlags, progType } from "./request";
import { cur, noteOrigin, reg } from "./run";
import { dropRefValues, invalidatePacket, removeRef } from "./spread";

/// Call numbers from here on stand for weak kernel functions that the kernel lacks, as libbpf has it.
const ABSENT_KFUNC: i32 = 2002000000;
const ERRNO_MAX: i32 = 4095;

/// Whether programs like this one may call the helper at all.
function isAvailable(i: i32, id: i32, flags: u8, onSockets: bool): bool {
  if (id >= ABSENT_KFUNC) return failS(E.ABSENT_KERNEL_FUNCTION, i, kfuncName(id));
  if (id <= 0 || id > 255 || !(flags & 1) && callName() == "helper") return fail1(E.UNKNOWN_HELPER, i, id);
  // uprobes may sleep, which the table's kprobes did not
  const sleeping = (id == C.H_COPY_FROM_USER || id == C.H_COPY_FROM_USER_TASK) && progType == 2 &&
    (progFlags & 0x10) != 0;
  if (!C.helperAllowed(id) && !onSockets && !sleeping) return failIS(E.HELPER_NOT_ALLOWED, i, id, callName());
  if (!(flags & 1)) return failIS(E.UNSUPPORTED_HELPER, i, id, callName());
  if (flags & 2 && !(options & 1)) return failIS(E.HELPER_NEEDS_GPL, i, id, callName());
  if (flags & 16 && !maySleepHere()) return failS(E.SLEEPABLE_ONLY, i, callName());
  if (cur.lockId && id != C.H_SPIN_UNLOCK) return callUnderLock(i, callName());
  // what has no function has no function's address
  const elsewhere = id == C.H_GET_FUNC_IP
    ? progType != 2 && progType != 26
    : id == C.H_D_PATH && !(attachFlags & 1);
  if (elsewhere) return failIS(E.HELPER_NOT_ALLOWED, i, id, callName());
  return true;
}

export function callHelper(i: i32): bool {
  const id = immOf(i), flags = C.helperFlags(id);
  beginCall(id, flags);
  // what takes the socket itself where others take their context
  const onSockets = (id == C.H_SETSOCKOPT || id == C.H_GETSOCKOPT) &&
    (C.column == C.P_CGROUP_SETSOCKOPT ||
      (C.column == C.P_ITER && (attachTarget == "tcp" || attachTarget == "unix")));
  if (!isAvailable(i, id, flags, onSockets)) return false;
  for (let a: u32 = 1; a < 6; a++) {
    let kind = C.argKind(id, a);
    // what tracing programs hand over is the socket itself, not their context
    if (a == 1 && onSockets) kind = C.A_BSKC;
    else if (a == 1 && C.isTracing()) {
      if (id == C.H_GET_SOCKET_COOKIE) kind = C.A_BSKC_NULL;
      else if (id == C.H_XDP_GET_BUFF_LEN) kind = C.A_BXDP;
    } else if (a == 1 && id == C.H_GET_SOCKET_COOKIE && C.column == C.P_SK_REUSEPORT) kind = C.A_SOCKB_NULL;
    if (kind == C.A_NONE) break;
    const r = reg(a);
    if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, a);
    if (kind != C.A_ANY && r.kind == K_NUM) sink(1 << a);
    if (!checkArgument(i, a, kind)) return false;
  }
  if (!checkTogether(i, id)) return false;
  const found = id == C.H_MAP_LOOKUP_ELEM && alwaysFound(i);
  if (release) {
    if (!removeRef(cur, release)) return failIS(E.REFERENCE_NOT_OWNED, i, 1, callName());
    dropRefValues(cur, release, i);
  }
  if (flags & 4) invalidatePacket(i);
  if (id == C.H_TIMER_SET_CALLBACK) {
    if (!callLater(i, mapIndex, callee)) return false;
  } else if (callee >= 0 && !callCallback(i, id, callee)) return false;
  for (let r: u32 = 0; r < 6; r++) setKind(reg(r), K_NONE);
  if (!setResult(i, id, flags, found)) return false;
  if (reg(0).flags & F_NULL) noteOrigin(reg(0).id, i);
  // what the program that was jumped to returns is anything
  return id == C.H_TAIL_CALL && cur.depth > 0 ? forkReturn(i, false) : true;
}

/// What the system call is to return: 0 or an error. Anything else the kernel's callers would take for a pointer or a
/// count; getsockopt alone returns what it likes (check_helper_call, from 7.2 on).
function retvalArgument(i: i32): bool {
  const r = reg(1);
  if (r.kind != K_NUM) return wrong(i, 1, "a number");
  if (C.column == C.P_CGROUP_GETSOCKOPT) return true;
  sink(1 << 1);
  if (r.s32min >= -ERRNO_MAX && r.s32max <= 0) return true;
  failIS(E.ARGUMENT_VALUE, i, 1, callName());
  opS("it must be 0 or an error number, -4095 to 0");
  return false;
}

/// What the arguments and the state must satisfy together.
function checkTogether(i: i32, id: i32): bool {
  if (id == C.H_GET_LOCAL_STORAGE) {
    sink(4);
    if (reg(2).kind != K_NUM || !isConst(reg(2)) || reg(2).bits != 0) {
      failIS(E.ARGUMENT_VALUE, i, 2, callName());
      opS("flags must be 0");
      return false;
    }
  }
  if (id == C.H_MAP_DELETE_ELEM && mapIndex >= 0 && isSockmap(maps[mapIndex].type) && !mayChangeSockmap(id)) {
    return mapMismatch(i);
  }
  if (id == C.H_SET_RETVAL) return retvalArgument(i);
  return id == C.H_TAIL_CALL && cur.refCount > 0 ? heldAtTailCall(i) : true;
}
