// Calls of kernel functions (kfuncs): open-coded iterators (of numbers, bits, tasks, control groups, mappings), bpf_sock_destroy().
//
// An iterator is a reference that lives in words of the stack. next() has two outcomes: another element, or none, after
// which it is drained and stays so. A loop over it comes back to next() as often as the kernel lets it, so there, and only
// while it is not drained, an unfinished state may end a path (kept.ts); what changes from round to round is widened.
import * as E from "./gen/codes";
import { B_CSS, B_SOCK_COMMON, B_TASK, isTrusted, setClass } from "./btf";
import { FLAG_SLEEPABLE } from "./contract";
import { beginKfunc } from "./current_call";
import { isStruct } from "./call_socket";
import { callUnderLock } from "./call_function";
import { immOf } from "./instruction";
import {
  iteratesUnderRcu,
  iteratorArguments,
  iteratorBytes,
  iteratorClass,
  iteratorName,
  iteratorWords,
  KF_DESTROY,
  KF_NEW,
  KF_NEXT,
  KF_OTHER,
  KF_SOCK_DESTROY,
  kfuncIterator,
  kfuncKind,
} from "./kfunc";
import { kindName } from "./kind_name";
import { fail, fail1, fail2, failIS, failS, opS } from "./outcome";
import { acquire } from "./reference";
import {
  F_DRAINED,
  F_RCU,
  F_RDONLY,
  F_TRUSTED,
  isConst,
  K_FP,
  K_ITER,
  K_MEM,
  K_NONE,
  K_NUM,
  Reg,
  setConst,
  setKind,
  setUnknown,
} from "./reg";
import { sink } from "./relevance";
import { options } from "./options";
import { attachType, kfuncName, progFlags, progType } from "./request";
import { cur, refreshFrame, reg } from "./run";
import { dropRefValues, removeRef } from "./spread";
import { setTypes, stackBounds } from "./stack";
import { copyState, ensureSlot, Frame, frameOf, regOf, slotReg, slotTypes, State, T_SPILL } from "./state";
import { wait } from "./waiting";

/// A function that is never called may be anything: a weak one that the kernel lacks stands behind a branch not taken.
export function callKfunc(i: i32): bool {
  const id = immOf(i), kind = kfuncKind(id);
  if (kind == KF_OTHER) return failIS(E.UNSUPPORTED_KFUNC, i, id, kfuncName(id));
  if (!(options & 1)) return failS(E.KERNEL_FUNCTION_NEEDS_GPL, i, kfuncName(id));
  if (cur.lockId) return callUnderLock(i, kfuncName(id));
  const k = kfuncIterator(id), r = reg(1);
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, 1);
  if (kind == KF_SOCK_DESTROY) return destroySocket(i, id, r);
  if (kind == KF_NEW) return makeIterator(i, id, k, r);
  const it = iteratorAt(cur, r, k);
  if (!changetype<usize>(it)) {
    return wrongIterator(i, id, r, "an iterator made by " + iteratorName(k) + "_new()");
  }
  if (kind == KF_NEXT) return nextOf(i, k, it, r);
  const ref = it.ref;
  if (!removeRef(cur, ref)) return fail(E.INTERNAL, i);
  // what it pointed to, and its own words, are nothing any more
  dropRefValues(cur, ref, i);
  for (let a: u32 = 0; a < 6; a++) setKind(reg(a), K_NONE);
  return true;
}

/// bpf_sock_destroy(): from iterators over sockets only, which hold the socket's lock; the socket itself stays as it is.
function destroySocket(i: i32, id: i32, r: Reg): bool {
  if (progType != 26 || attachType != 28) return failS(E.KERNEL_FUNCTION_NOT_ALLOWED, i, kfuncName(id));
  beginKfunc(kfuncName(id));
  if (!isStruct(i, 1, B_SOCK_COMMON, false)) return false;
  if (!isTrusted(r)) {
    failIS(E.ARGUMENT_UNTRUSTED, i, 1, kfuncName(id));
    opS(kindName(r));
    return false;
  }
  for (let a: u32 = 0; a < 6; a++) setKind(reg(a), K_NONE);
  setUnknown(reg(0));
  return true;
}

function wrongIterator(i: i32, id: i32, r: Reg, expected: string): bool {
  failIS(E.ARGUMENT_TYPE, i, 1, kfuncName(id));
  opS(kindName(r));
  opS(expected);
  return false;
}

/// Slot of the lowest word that `r` points to; -1: it does not point to whole words of the stack.
function slotAt(r: Reg): i32 {
  if (r.kind != K_FP || !isConst(r) || r.off & 7 || r.off >= 0) return -1;
  return (-r.off - 1) >> 3;
}

/// The iterator that `r` points to; null: none, or another one.
export function iteratorAt(s: State, r: Reg, k: i32): Reg {
  const at = slotAt(r), words = <i32> iteratorWords(k), none = changetype<Reg>(0);
  if (at < words - 1) return none;
  const f = frameOf(s, r.frame);
  if (at >= <i32> f.slots) return none;
  let ref: u32 = 0;
  for (let w = 0; w < words; w++) {
    const x = slotReg(f, at - w);
    if (load<u8>(slotTypes(f, at - w)) != T_SPILL || x.kind != K_ITER || x.map != k || x.off != w) {
      return none;
    }
    if (w == 0) ref = x.ref;
    else if (x.ref != ref) return none;
  }
  return slotReg(f, at);
}

/// Whether the iterator of a call of next() is not drained: then its rounds are bounded by the kernel.
export function goesOn(i: i32): bool {
  const it = iteratorAt(cur, reg(1), kfuncIterator(immOf(i)));
  return changetype<usize>(it) != 0 && (it.flags & F_DRAINED) == 0;
}

/// Whether the iterator of the current state is that of `s`, some elements further.
export function wentOn(s: State, i: i32): bool {
  if (s.depth != cur.depth) return false;
  const k = kfuncIterator(immOf(i)), now = iteratorAt(cur, reg(1), k);
  const then = iteratorAt(s, regOf(frameOf(s, s.depth), 1), k);
  if (!changetype<usize>(now) || !changetype<usize>(then)) return false;
  return now.ref == then.ref && now.size > then.size;
}

/// Argument `a` of new(), of the kind that kfunc.ts says.
function iteratorArgument(i: i32, id: i32, a: u32, kind: i32): bool {
  const x = reg(a);
  if (kind == 0x61) return true;
  if (kind == 0x6e) {
    if (x.kind == K_NUM) return true;
    failIS(E.ARGUMENT_TYPE, i, a, kfuncName(id));
    opS(kindName(x));
    opS("a number");
    return false;
  }
  beginKfunc(kfuncName(id));
  if (kind == 0x54 && x.kind == K_NUM && isConst(x) && x.bits == 0) {
    sink(1 << a);
    return true;
  }
  if (!isStruct(i, a, kind == 0x73 ? B_CSS : B_TASK, false)) return false;
  // under RCU a task that is looked at may have ended, which bpf_iter_task_vma_new() can deal with
  if (isTrusted(x) || kind == 0x74 && x.flags & F_RCU) return true;
  failIS(E.ARGUMENT_UNTRUSTED, i, a, kfuncName(id));
  opS(kindName(x));
  return false;
}

function makeIterator(i: i32, id: i32, k: i32, r: Reg): bool {
  const words = <i32> iteratorWords(k), at = slotAt(r), wanted = "words of the stack that hold no iterator";
  if (at < words - 1) return wrongIterator(i, id, r, wanted);
  if (!stackBounds(i, r, 0, words * 8)) return false;
  const f = ensureSlot(cur, r.frame, at);
  refreshFrame();
  for (let w = 0; w < words; w++) {
    if (load<u8>(slotTypes(f, at - w)) == T_SPILL && slotReg(f, at - w).kind == K_ITER) {
      return wrongIterator(i, id, r, wanted);
    }
  }
  // a program that may sleep holds RCU where it says so only, which is not modelled
  if (iteratorClass(k) != 0 && progFlags & FLAG_SLEEPABLE) {
    return failIS(E.UNSUPPORTED_KFUNC, i, id, kfuncName(id));
  }
  const args = iteratorArguments(k);
  for (let a: u32 = 0; a < <u32> args.length; a++) {
    const x = reg(a + 2);
    if (x.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, a + 2);
    if (!iteratorArgument(i, id, a + 2, args.charCodeAt(a))) return false;
  }
  const ref = acquire(i, K_ITER);
  if (ref == 0) return false;
  for (let w = 0; w < words; w++) {
    setTypes(slotTypes(f, at - w), T_SPILL, 8);
    const x = slotReg(f, at - w);
    setKind(x, K_ITER);
    x.map = k;
    x.off = w;
    x.ref = ref;
  }
  for (let a: u32 = 0; a < 6; a++) setKind(reg(a), K_NONE);
  setUnknown(reg(0));
  return true;
}

/// What next() points to when there is another element. Tasks and control groups stay until RCU's readers are through, which
/// a program that does not sleep is until its end; the mapping of a task stays until the iterator, which holds the lock of the
/// task's memory, is given back.
function setElement(i: i32, r0: Reg, k: i32, ref: u32): bool {
  const c = iteratorClass(k);
  if (c != 0) {
    if (!setClass(i, r0, c, iteratesUnderRcu(k) ? F_RCU : F_TRUSTED, 0)) return false;
    if (!iteratesUnderRcu(k)) r0.ref = ref;
    return true;
  }
  setKind(r0, K_MEM);
  r0.size = iteratorBytes(k);
  r0.flags = F_RDONLY;
  r0.ref = ref;
  return true;
}

function nextOf(i: i32, k: i32, it: Reg, r: Reg): bool {
  const fno = r.frame, at = slotAt(r), ref = it.ref;
  if (!(it.flags & F_DRAINED)) {
    const st = copyState(cur, i + 1), f = frameOf(st, st.depth);
    for (let w = 0; w < <i32> iteratorWords(k); w++) {
      // words that are never read again were left out of the copy
      if (at - w < <i32> frameOf(st, fno).slots) slotReg(frameOf(st, fno), at - w).size++;
    }
    for (let a: u32 = 0; a < 6; a++) setKind(regOf(f, a), K_NONE);
    if (!setElement(i, regOf(f, 0), k, ref)) return false;
    if (!wait(st, i)) return false;
  }
  const g = frameOf(cur, fno);
  for (let w = 0; w < <i32> iteratorWords(k); w++) slotReg(g, at - w).flags = F_DRAINED;
  for (let a: u32 = 0; a < 6; a++) setKind(reg(a), K_NONE);
  setConst(reg(0), 0);
  return true;
}
