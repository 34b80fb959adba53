// Arguments of helpers that are sockets or kernel structs.
import * as E from "./gen/codes";
import * as C from "./contract";
import { MAP_SOCKHASH, MAP_SOCKMAP } from "./map_type";
import {
  attachFlags,
  B_CGROUP,
  B_FILE,
  B_PATH,
  B_SEQ,
  B_SKB,
  B_SOCK_COMMON,
  B_TASK,
  B_XDP,
  className,
  isTyped,
  pointsTo,
} from "./btf";
import {
  callHelperId,
  callName,
  isZero,
  mapMismatch,
  movedArgument,
  setCastOf,
  setRelease,
  wrong,
} from "./current_call";
import { notHeld } from "./call_held";
import { kindName } from "./kind_name";
import { fail1, failIS, opI, opS } from "./outcome";
import { F_NULL, F_PERCPU, F_UNTRUSTED, F_USER, isConst, K_BTF, K_NUM, K_SOCK, K_XSK, Reg } from "./reg";
import { attachType, progType } from "./request";
import { reg } from "./run";

/// Argument a must point to a kernel struct of the class, as btf_ptr_types of the kernel has it.
export function isStruct(i: i32, a: u32, c: u32, nullable: bool): bool {
  const r = reg(a);
  if (r.kind != K_BTF) return wrong(i, a, "a pointer to " + className(c));
  if (r.map < 0) return fail1(E.UNSUPPORTED_BTF_POINTER, i, a);
  if (r.flags & F_NULL && !nullable) return wrong(i, a, "");
  if (r.flags & (F_USER | F_PERCPU)) {
    return failIS(E.KERNEL_POINTER_ELSEWHERE, i, a, r.flags & F_USER ? "user space" : "per-CPU variables");
  }
  if (r.flags & F_UNTRUSTED) {
    failIS(E.ARGUMENT_UNTRUSTED, i, a, callName());
    opS(kindName(r));
    return false;
  }
  if (!isConst(r) || r.bits != 0 || r.off < 0) {
    failIS(E.POINTER_VARIABLE_OFFSET, i, a, kindName(r));
    opI(<i64> r.off + r.smin);
    opI(<i64> r.off + r.smax);
    return false;
  }
  const is = pointsTo(i, r, c);
  if (is < 0) return false;
  return is == 1 ? true : wrong(i, a, "a pointer to " + className(c));
}

function isSocket(r: Reg): bool {
  return r.kind >= K_SOCK && r.kind <= K_XSK;
}

export function isSockmap(type: u32): bool {
  return type == MAP_SOCKMAP || type == MAP_SOCKHASH;
}

/// What goes into a sockmap is the socket itself.
export function sockmapValue(i: i32, a: u32, r: Reg): bool {
  if (!mayChangeSockmap(callHelperId)) return mapMismatch(i);
  if (r.kind == K_BTF) return fail1(E.UNSUPPORTED_BTF_POINTER, i, a);
  if (!isSocket(r) || r.flags & F_NULL) return wrong(i, a, "a socket");
  return r.off != 0 ? movedArgument(E.REFERENCE_OFFSET, i, a, r) : true;
}

/// Sockets and kernel structs.
export function socketArgument(i: i32, a: u32, kind: u8, r: Reg): bool {
  switch (kind) {
    case C.A_SOCKC:
    case C.A_SOCKB:
    case C.A_SOCKB_NULL:
    case C.A_SOCKREF:
      return plainSocket(i, a, kind, r);
    case C.A_BSKC:
      // a pointer to the same socket of another type: released with it
      setCastOf(r.ref);
      if (isSocket(r) && !(r.flags & F_NULL)) {
        return r.off != 0 ? movedArgument(E.REFERENCE_OFFSET, i, a, r) : true;
      }
      return isStruct(i, a, B_SOCK_COMMON, false);
    case C.A_BSKC_NULL:
      return isZero(r) || isStruct(i, a, B_SOCK_COMMON, true);
    case C.A_BTASK:
      return isStruct(i, a, B_TASK, false);
    case C.A_BTASK_NULL:
      return isZero(r) || isStruct(i, a, B_TASK, true);
    case C.A_BCGRP:
      return isStruct(i, a, B_CGROUP, false);
    case C.A_BCGRP_NULL:
      return isZero(r) || isStruct(i, a, B_CGROUP, true);
    case C.A_BSEQ:
      return isStruct(i, a, B_SEQ, false);
    case C.A_BPATH:
      return isStruct(i, a, B_PATH, false);
    case C.A_BFILE:
      return isStruct(i, a, B_FILE, false);
    case C.A_BSKB:
      return isStruct(i, a, B_SKB, false);
    case C.A_BXDP:
      return isStruct(i, a, B_XDP, false);
    default:
      return failIS(E.UNSUPPORTED_HELPER, i, callHelperId, callName());
  }
}

/// Whether NULL may stand for the socket. Socket storage takes it from tracing programs alone, and only where a socket is
/// looked up may one be assigned that is none.
function mayBeNone(id: i32): bool {
  if (id == C.H_GET_SOCKET_COOKIE) return true;
  return id == C.H_SK_ASSIGN ? C.column == C.P_SK_LOOKUP : C.isTracing();
}

function plainSocket(i: i32, a: u32, kind: u8, r: Reg): bool {
  const id = callHelperId, nullable = kind == C.A_SOCKB_NULL && mayBeNone(id);
  if (nullable && isZero(r)) return true;
  if (r.kind == K_BTF) {
    // sockets found by their BTF are handed to socket storage only
    if (!isTyped(r) || (id != C.H_SK_STORAGE_GET && id != C.H_SK_STORAGE_DELETE)) {
      return fail1(E.UNSUPPORTED_BTF_POINTER, i, a);
    }
    if (attachFlags & 2) return failIS(E.HELPER_NOT_ALLOWED, i, id, callName());
    return isStruct(i, a, B_SOCK_COMMON, nullable);
  }
  if (kind == C.A_SOCKREF && r.kind == K_NUM) return notHeld(i, a, r);
  if (!isSocket(r) || (r.flags & F_NULL && !nullable)) return wrong(i, a, "a socket");
  if (r.off != 0) return movedArgument(E.REFERENCE_OFFSET, i, a, r);
  if (kind == C.A_SOCKREF) {
    if (r.ref == 0) return failIS(E.REFERENCE_NOT_OWNED, i, a, callName());
    setRelease(r.ref);
  } else if (id == C.H_SK_FULLSOCK || id == C.H_TCP_SOCK) setCastOf(r.ref);
  return true;
}

/// Whether the helper may change a sockmap from programs of this type: those in which no socket's lock is held
/// (may_update_sockmap() from 7.3 on; before, tc, XDP and socket filters were let in too, and could lock up).
export function mayChangeSockmap(helper: i32): bool {
  switch (progType) {
    case 13: // socket operations put theirs in by a helper of their own
      return helper == C.H_MAP_DELETE_ELEM;
    case 21:
    case 30:
      return true;
    case 26:
      return attachType == 28; // iterators
    default:
      return false;
  }
}
