// Calls: helpers by their contracts, functions of the program, callbacks.
import * as C from "./contract";
import {
  copyReg,
  F_NULL,
  F_PERCPU,
  F_RDONLY,
  F_RINGBUF,
  F_TRUSTED,
  F_UNTRUSTED,
  F_USER,
  isConst,
  K_BTF,
  K_CTX,
  K_FP,
  K_FUNC,
  K_KEY,
  K_MAP,
  K_MEM,
  K_META,
  K_NONE,
  K_NUM,
  K_PKT,
  K_SKC,
  K_SOCK,
  K_TCP,
  K_VALUE,
  K_XSK,
  Reg,
  setConst,
  setKind,
  setRangeS,
  setRangeU,
  setUnknown,
} from "./reg";
import { fail, fail1, fail2, failIS, failS, opI, opS, setLostAt } from "./outcome";
import {
  attachType,
  findSub,
  hasLock,
  immOf,
  maps,
  OP_CALL,
  opcode,
  options,
  progFlags,
  progType,
  srcOf,
  Sub,
  subs,
} from "./program";
import {
  copyState,
  enterFrame,
  frameOf,
  FRAMES_MAX,
  Ref,
  refOf,
  REFS_MAX,
  regOf,
  State,
  zeroVar,
} from "./state";
import {
  cur,
  dropRefValues,
  frame,
  freshId,
  invalidatePacket,
  noteOrigin,
  originOf,
  refreshFrame,
  reg,
  removeRef,
} from "./run";
import {
  attachFlags,
  attachTarget,
  B_CGROUP,
  B_FILE,
  B_MPTCP,
  B_PATH,
  B_REGS,
  B_REQUEST,
  B_SEQ,
  B_SKB,
  B_SOCK_COMMON,
  B_SOCKET,
  B_TASK,
  B_TCP,
  B_TCP6,
  B_TIMEWAIT,
  B_UDP6,
  B_UNIX,
  B_XDP,
  className,
  isTrusted,
  isTyped,
  pointsTo,
  setClass,
} from "./btf";
import { helperMemory, kindName, stackWritten, strict } from "./memory";
import { wait } from "./walk";
import { sink } from "./relevance";

export function acquire(insn: i32, kind: u8): u32 {
  if (cur.refCount >= REFS_MAX) {
    failS(163, insn, "More than 16 references at a time");
    return 0;
  }
  const id = freshId();
  const r = refOf(cur, cur.refCount++);
  r.id = id;
  r.insn = insn;
  r.kind = kind;
  r.frame = <u8> cur.depth;
  return id;
}
export function refName(kind: u8): string {
  return kind == K_MEM ? "ring buffer memory" : "socket reference";
}

let name: string = "";
function wrong(i: i32, a: u32, expected: string): bool {
  const r = reg(a);
  if (r.kind == K_NONE) return fail1(40, i, a);
  if (r.flags & F_NULL) {
    setLostAt(originOf(r.id));
    return failIS(104, i, a, name);
  }
  if (r.kind == K_NUM) setLostAt(r.size - 1);
  failIS(103, i, a, name);
  opS(kindName(r));
  opS(expected);
  return false;
}
/// A number where something is to be released: what was released is one, and so is what was never acquired.
function notHeld(i: i32, a: u32, r: Reg): bool {
  const at = r.size - 1;
  if (at >= 0 && opcode(at) == OP_CALL && srcOf(at) == 0) {
    const id = immOf(at);
    if (id == 86 || id == 132 || id == 133) setLostAt(at);
  }
  return failIS(121, i, a, name);
}
function isZero(r: Reg): bool {
  return r.kind == K_NUM && isConst(r) && r.bits == 0;
}
function isMemory(i: i32, a: u32, takesPacket: bool): bool {
  const r = reg(a);
  switch (r.kind) {
    case K_PKT:
    case K_META:
      if (!takesPacket || C.packetAccess() == 0) return failIS(110, i, a, name);
      return true;
    case K_FP:
      return true;
    case K_VALUE:
    case K_MEM:
    case K_KEY:
      return r.flags & F_NULL ? wrong(i, a, "memory") : true;
    case K_BTF:
      if (r.map < 0) return fail1(164, i, a);
      // the kernel takes structs for memory to be read while it trusts them
      if (r.map > 0 && r.flags == F_TRUSTED) return true;
      return wrong(i, a, "memory: stack, map value or packet");
    default:
      return wrong(i, a, "memory: stack, map value or packet");
  }
}
/// A string whose end is known: in a frozen map that programs may only read.
function isString(r: Reg): bool {
  if (r.kind != K_VALUE || r.flags & F_NULL || !isConst(r)) return false;
  const m = maps[r.map];
  if (!m.frozen || !(m.flags & 0x80) || m.type != 2 || m.maxEntries != 1) return false;
  for (let at = <i64> r.off + <i64> r.bits; at >= 0 && at < <i64> m.contentsLength; at++) {
    if (load<u8>(m.contents + <usize> at) == 0) return true;
  }
  return false;
}
/// Argument a must point to a kernel struct of the class, as btf_ptr_types of the kernel has it.
function isStruct(i: i32, a: u32, c: u32, nullable: bool): bool {
  const r = reg(a);
  if (r.kind != K_BTF) return wrong(i, a, "a pointer to " + className(c));
  if (r.map < 0) return fail1(164, i, a);
  if (r.flags & F_NULL && !nullable) return wrong(i, a, "");
  if (r.flags & (F_USER | F_PERCPU)) {
    return failIS(90, i, a, r.flags & F_USER ? "user space" : "per-CPU variables");
  }
  if (r.flags & F_UNTRUSTED) {
    failIS(116, i, a, name);
    opS(kindName(r));
    return false;
  }
  if (!isConst(r) || r.bits != 0 || r.off < 0) {
    failIS(42, i, a, kindName(r));
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

/// bpf_probe_read and its kin: they take an address to read from, which does not leave the program by that.
function readsAddress(id: i32): bool {
  return id == 4 || id == 45 || (id >= 112 && id <= 115);
}

export function callHelper(i: i32): bool {
  const id = immOf(i);
  name = C.helperName(id);
  const flags = C.helperFlags(id);
  if (id <= 0 || id > 255 || (name == "helper" && !(flags & 1))) return fail1(100, i, id);
  // what takes the socket itself where others take their context
  const onSockets = (id == 49 || id == 57) &&
    (C.column == C.P_CGROUP_SETSOCKOPT ||
      (C.column == C.P_ITER && (attachTarget == "tcp" || attachTarget == "unix")));
  // uprobes may sleep, which the table's kprobes did not
  const sleeping = (id == 148 || id == 191) && progType == 2 && (progFlags & 0x10) != 0;
  if (!C.helperAllowed(id) && !onSockets && !sleeping) return failIS(101, i, id, name);
  if (!(flags & 1)) return failIS(161, i, id, name);
  if (flags & 2 && !(options & 1)) return failIS(102, i, id, name);
  if (flags & 16 && !(progFlags & 0x10) && progType != 31) return failS(112, i, name);
  if (cur.lockId && id != 94) return callUnderLock(i, name);
  const takesPacket = (flags & 8) != 0;
  let mapIndex = -1, sizeMax: i64 = 0, alloc: i64 = 0, release: u32 = 0, cast: u32 = 0, callee = -1;
  let memArg: u32 = 0, memWrite = false, memNullable = false;
  if (id == 147 && !(attachFlags & 1)) return failIS(101, i, id, name);
  for (let a: u32 = 1; a < 6; a++) {
    let kind = C.argKind(id, a);
    // what tracing programs hand over is the socket itself, not their context
    if (a == 1 && onSockets) kind = C.A_BSKC;
    else if (a == 1 && C.isTracing()) {
      if (id == 46) kind = C.A_BSKC_NULL;
      else if (id == 188) kind = C.A_BXDP;
    }
    if (kind == C.A_NONE) break;
    const r = reg(a);
    if (r.kind == K_NONE) return fail1(40, i, a);
    if (kind != C.A_ANY && r.kind == K_NUM) sink(1 << a);
    switch (kind) {
      case C.A_ANY:
        if (r.kind != K_NUM && strict() && !readsAddress(id)) return failIS(49, i, a, kindName(r));
        break;
      case C.A_CTX:
      case C.A_CTX_NULL:
        if (kind == C.A_CTX_NULL && isZero(r)) break;
        if (r.kind != K_CTX) return wrong(i, a, "the context");
        if (r.off != 0 || !isConst(r)) {
          failIS(111, i, a, name);
          opI(r.off);
          return false;
        }
        break;
      case C.A_MAP:
        if (r.kind != K_MAP || r.flags & F_NULL) return wrong(i, a, "a map");
        mapIndex = r.map;
        if (!C.mapFits(id, maps[mapIndex].type)) {
          failIS(108, i, <i32> maps[mapIndex].handle, name);
          opI(maps[mapIndex].type);
          return false;
        }
        break;
      case C.A_KEY:
        if (!isMemory(i, a, takesPacket)) return false;
        if (!helperMemory(i, a, r, maps[mapIndex].keySize, false)) return false;
        break;
      case C.A_VAL:
        if (maps[mapIndex].type == 15 || maps[mapIndex].type == 18) {
          // what goes into a sockmap is the socket itself; socket operations put theirs in by a helper of their own
          if (progType == 13 || !mayChangeSockmap()) {
            failIS(108, i, <i32> maps[mapIndex].handle, name);
            opI(maps[mapIndex].type);
            return false;
          }
          if (r.kind == K_BTF) return fail1(164, i, a);
          if (!isSocket(r) || r.flags & F_NULL) return wrong(i, a, "a socket");
          if (r.off != 0) {
            failIS(123, i, a, name);
            opI(r.off);
            return false;
          }
          break;
        }
        if (!isMemory(i, a, takesPacket)) return false;
        if (!helperMemory(i, a, r, maps[mapIndex].valueSize, false)) return false;
        break;
      case C.A_UVAL:
        if (!isMemory(i, a, takesPacket)) return false;
        if (!helperMemory(i, a, r, maps[mapIndex].valueSize, true)) return false;
        break;
      case C.A_ANY_NULL: // value or NULL
        if (isZero(r)) break;
        if (!isMemory(i, a, takesPacket)) return false;
        if (!helperMemory(i, a, r, maps[mapIndex].valueSize, false)) return false;
        break;
      case C.A_MEM:
      case C.A_MEM_NULL:
      case C.A_UMEM:
      case C.A_UMEMI:
      case C.A_MEMN:
        memArg = a;
        memWrite = kind == C.A_UMEM || kind == C.A_UMEMI || kind == C.A_MEMN;
        memNullable = kind == C.A_MEM_NULL || kind == C.A_MEMN;
        if (memNullable && isZero(r)) break;
        if (!isMemory(i, a, takesPacket)) return false;
        break;
      case C.A_SIZE:
      case C.A_SIZE0: {
        if (r.kind != K_NUM) return wrong(i, a, "a size");
        if (r.smin < 0 || r.umax >= 1 << 29) {
          failIS(105, i, a, name);
          opI(r.smin);
          opI(r.smax);
          return false;
        }
        if (r.umin == 0 && kind == C.A_SIZE) return failIS(106, i, a, name);
        sizeMax = <i64> r.umax;
        const m = reg(memArg);
        if (m.kind == K_BTF && r.umin == 0) return fail1(164, i, memArg);
        if (memNullable && isZero(m)) {
          if (sizeMax != 0 && C.argKind(id, memArg) != C.A_MEMN) {
            return wrong(i, memArg, "memory of that size");
          }
        } else if (!helperMemory(i, memArg, m, sizeMax, memWrite)) return false;
        break;
      }
      case C.A_ASIZE:
        if (r.kind != K_NUM || !isConst(r)) return failIS(107, i, a, name);
        if (r.bits >= 1 << 29) return failIS(107, i, a, name);
        alloc = <i64> r.bits;
        break;
      case C.A_U32:
      case C.A_U64: {
        if (!isMemory(i, a, takesPacket)) return false;
        const size: u32 = kind == C.A_U32 ? 4 : 8;
        if (((<u64> r.off + r.bits) | r.unk) & (size - 1)) {
          fail2(78, i, size, r.off);
          opI(a);
          return false;
        }
        if (kind == C.A_U32 && !stackWritten(i, r, 4)) return false;
        if (!helperMemory(i, a, r, size, true)) return false;
        break;
      }
      case C.A_FIX20:
      case C.A_FIX40:
        if (!isMemory(i, a, takesPacket)) return false;
        if (!helperMemory(i, a, r, kind == C.A_FIX20 ? 20 : 40, false)) return false;
        break;
      case C.A_SOCKC:
      case C.A_SOCKB:
      case C.A_SOCKB_NULL:
      case C.A_SOCKREF:
        if (kind == C.A_SOCKB_NULL && isZero(r)) break;
        if (r.kind == K_BTF) {
          // sockets found by their BTF are handed to socket storage only
          if (!isTyped(r) || (id != 107 && id != 108)) return fail1(164, i, a);
          if (attachFlags & 2) return failIS(101, i, id, name);
          if (!isStruct(i, a, B_SOCK_COMMON, true)) return false;
          break;
        }
        if (kind == C.A_SOCKREF && r.kind == K_NUM) return notHeld(i, a, r);
        if (!isSocket(r) || (r.flags & F_NULL && kind != C.A_SOCKB_NULL)) return wrong(i, a, "a socket");
        if (r.off != 0) {
          failIS(123, i, a, name);
          opI(r.off);
          return false;
        }
        if (kind == C.A_SOCKREF) {
          if (r.ref == 0) return failIS(121, i, a, name);
          release = r.ref;
        } else if (id == 95 || id == 96) cast = r.ref;
        break;
      case C.A_BSKC:
        // a pointer to the same socket of another type: released with it
        if (isSocket(r) && !(r.flags & F_NULL)) {
          if (r.off != 0) {
            failIS(123, i, a, name);
            opI(r.off);
            return false;
          }
          cast = r.ref;
          break;
        }
        cast = r.ref;
        if (!isStruct(i, a, B_SOCK_COMMON, false)) return false;
        break;
      case C.A_BSKC_NULL:
        if (isZero(r)) break;
        if (!isStruct(i, a, B_SOCK_COMMON, true)) return false;
        break;
      case C.A_BTASK:
        if (!isStruct(i, a, B_TASK, false)) return false;
        break;
      case C.A_BTASK_NULL:
        if (isZero(r)) break;
        if (!isStruct(i, a, B_TASK, true)) return false;
        break;
      case C.A_BCGRP:
        if (!isStruct(i, a, B_CGROUP, false)) return false;
        break;
      case C.A_BCGRP_NULL:
        if (isZero(r)) break;
        if (!isStruct(i, a, B_CGROUP, true)) return false;
        break;
      case C.A_BSEQ:
        if (!isStruct(i, a, B_SEQ, false)) return false;
        break;
      case C.A_BPATH:
        if (!isStruct(i, a, B_PATH, false)) return false;
        break;
      case C.A_BFILE:
        if (!isStruct(i, a, B_FILE, false)) return false;
        break;
      case C.A_BSKB:
        if (!isStruct(i, a, B_SKB, false)) return false;
        break;
      case C.A_STR:
        if (!isString(r)) return failIS(109, i, a, name);
        break;
      case C.A_BXDP:
        if (!isStruct(i, a, B_XDP, false)) return false;
        break;
      case C.A_RBREF:
        if (r.kind == K_NUM) return notHeld(i, a, r);
        if (r.kind != K_MEM || !(r.flags & F_RINGBUF) || r.flags & F_NULL) {
          return wrong(i, a, "ring buffer memory");
        }
        if (r.off != 0 || !isConst(r)) {
          failIS(123, i, a, name);
          opI(r.off);
          return false;
        }
        if (r.ref == 0) return failIS(121, i, a, name);
        release = r.ref;
        break;
      case C.A_LOCK:
        if (r.kind != K_VALUE || r.flags & F_NULL) return wrong(i, a, "the lock of a map value");
        if (!isConst(r) || r.id == 0 || !hasLock(r.map, <i64> r.off + <i64> r.bits)) {
          failIS(125, i, a, name);
          opI(r.off);
          return false;
        }
        if (id == 93) {
          // callHelper() comes here without a lock only
          cur.lockId = r.id;
          cur.lockMap = r.map;
          cur.lockAt = i;
        } else {
          if (cur.lockId != r.id || cur.lockMap != r.map) {
            return fail2(127, i, cur.lockId ? cur.lockAt : -1, a);
          }
          cur.lockId = 0;
        }
        break;
      case C.A_FUNC:
        if (r.kind != K_FUNC) return failIS(113, i, a, name);
        callee = r.map;
        break;
      case C.A_STACK_NULL:
        if (r.kind != K_FP && !isZero(r)) return wrong(i, a, "a stack pointer or 0");
        break;
      default:
        return failIS(161, i, id, name);
    }
  }
  if (id == 81) {
    sink(4);
    if (reg(2).kind != K_NUM || !isConst(reg(2)) || reg(2).bits != 0) {
      failIS(114, i, 2, name);
      opS("flags must be 0");
      return false;
    }
  }
  if (
    mapIndex >= 0 && id == 3 && (maps[mapIndex].type == 15 || maps[mapIndex].type == 18) &&
    !mayChangeSockmap()
  ) {
    failIS(108, i, <i32> maps[mapIndex].handle, name);
    opI(maps[mapIndex].type);
    return false;
  }
  if (id == 12 && cur.refCount > 0) {
    failS(122, i, refName(refOf(cur, 0).kind));
    opI(refOf(cur, 0).insn);
    return false;
  }
  if (id == 12 && cur.depth > 0 && inCallback()) return failS(163, i, "Tail call in a callback");
  if (release) {
    if (!removeRef(cur, release)) return failIS(121, i, 1, name);
    dropRefValues(cur, release, i);
  }
  if (flags & 4) invalidatePacket(i);
  if (callee >= 0 && !callCallback(i, id, callee)) return false;
  for (let r: u32 = 0; r < 6; r++) setKind(reg(r), K_NONE);
  if (!setResult(i, id, flags, mapIndex, sizeMax, alloc, cast)) return false;
  if (reg(0).flags & F_NULL) noteOrigin(reg(0).id, i);
  return true;
}

/// Program types that may take sockets out of a sockmap (may_update_sockmap() of the kernel).
function mayChangeSockmap(): bool {
  if (progType == 26) return attachType == 28; // iterators
  switch (progType) {
    case 1:
    case 3:
    case 4:
    case 6:
    case 13:
    case 21:
    case 22:
    case 30:
      return true;
    default:
      return false;
  }
}

function inCallback(): bool {
  for (let k = 0; k <= cur.depth; k++) if (frameOf(cur, k).callback) return true;
  return false;
}

function setResult(i: i32, id: i32, flags: u8, mapIndex: i32, sizeMax: i64, alloc: i64, cast: u32): bool {
  const r0 = reg(0);
  switch (C.helperReturn(id)) {
    case C.R_VOID:
      return true;
    case C.R_INT:
      if (flags & 32) setRangeS(r0, -4095, sizeMax);
      else setUnknown(r0);
      return true;
    case C.R_CPU:
      setRangeU(r0, 0, 8191);
      return true;
    case C.R_VALUE:
    case C.R_VALUE_NULL: {
      const m = maps[mapIndex];
      if (m.type == 12 || m.type == 13) {
        if (m.inner < 0) return failIS(166, i, <i32> m.handle, m.type.toString());
        setKind(r0, K_MAP);
        r0.map = m.inner;
      } else if (m.type == 15 || m.type == 18) {
        setKind(r0, K_SOCK);
        const ref = acquire(i, K_SOCK);
        if (ref == 0) return false;
        r0.ref = ref;
        r0.id = ref;
        r0.flags = F_NULL;
        return true;
      } else if (m.type == 17) {
        setKind(r0, K_XSK);
      } else {
        setKind(r0, K_VALUE);
        r0.map = mapIndex;
      }
      if (C.helperReturn(id) == C.R_VALUE) {
        if (r0.kind == K_VALUE && hasLock(r0.map, -1)) r0.id = freshId();
        return true;
      }
      r0.flags = F_NULL;
      r0.id = freshId();
      return true;
    }
    case C.R_MEM_NULL: {
      const ref = acquire(i, K_MEM);
      if (ref == 0) return false;
      setKind(r0, K_MEM);
      r0.flags = F_NULL | F_RINGBUF;
      r0.size = <i32> alloc;
      r0.ref = ref;
      r0.id = ref;
      return true;
    }
    case C.R_SOCK_NULL:
    case C.R_SKC_NULL:
    case C.R_TCP_NULL: {
      const ret = C.helperReturn(id);
      const acquires = id == 84 || id == 85 || id == 99;
      const ref = acquires ? acquire(i, K_SOCK) : cast;
      if (acquires && ref == 0) return false;
      setKind(r0, ret == C.R_SOCK_NULL ? K_SOCK : ret == C.R_SKC_NULL ? K_SKC : K_TCP);
      r0.flags = F_NULL;
      r0.ref = ref;
      r0.id = acquires ? ref : freshId();
      return true;
    }
    case C.R_BTASK:
      return setClass(i, r0, B_TASK, F_TRUSTED, 0);
    case C.R_BREGS:
      return setClass(i, r0, B_REGS, 0, 0);
    case C.R_BTCP6_NULL:
      return setCast(i, r0, B_TCP6, cast);
    case C.R_BTCP_NULL:
      return setCast(i, r0, B_TCP, cast);
    case C.R_BTW_NULL:
      return setCast(i, r0, B_TIMEWAIT, cast);
    case C.R_BREQ_NULL:
      return setCast(i, r0, B_REQUEST, cast);
    case C.R_BUDP6_NULL:
      return setCast(i, r0, B_UDP6, cast);
    case C.R_BUNIX_NULL:
      return setCast(i, r0, B_UNIX, cast);
    case C.R_BMPTCP_NULL:
      return setCast(i, r0, B_MPTCP, cast);
    case C.R_BSOCKET_NULL:
      return setCast(i, r0, B_SOCKET, 0);
    default:
      return failIS(161, i, id, C.helperName(id));
  }
}
function setCast(i: i32, r0: Reg, c: u32, cast: u32): bool {
  if (!setClass(i, r0, c, F_NULL, freshId())) return false;
  r0.ref = cast;
  return true;
}

// --- functions ---
export function callFunction(i: i32): bool {
  const k = findSub(i + 1 + immOf(i)), s = subs[k];
  if (s.isGlobal) return callGlobal(i, s);
  if (cur.depth + 1 >= FRAMES_MAX) return fail2(15, i, cur.depth + 2, FRAMES_MAX);
  const caller = frame;
  const f = enterFrame(cur, cur.depth + 1, k, i);
  for (let r: u32 = 1; r < 6; r++) copyReg(regOf(f, r), regOf(caller, r));
  for (let r: u32 = 0; r < 6; r++) setKind(regOf(caller, r), K_NONE);
  refreshFrame();
  cur.insn = s.start;
  return true;
}

function callUnderLock(i: i32, callee: string): bool {
  failS(128, i, callee);
  opI(cur.lockAt);
  return false;
}

function callGlobal(i: i32, s: Sub): bool {
  if (cur.lockId) return callUnderLock(i, s.name);
  for (let a: u32 = 1; a <= s.argCount; a++) {
    if (reg(a).kind == K_NUM) sink(1 << a);
    const kind = load<u32>(s.args + (a - 1) * 8), size = load<u32>(s.args + (a - 1) * 8, 4), r = reg(a);
    if (r.kind == K_NONE) return fail1(40, i, a);
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
      } else if (r.flags & F_NULL && kind == 4) expected = "memory that is not NULL";
      if (expected.length == 0) {
        const null1 = r.flags;
        r.flags &= ~F_NULL;
        const ok = helperMemory(i, a, r, size, false) && helperMemory(i, a, r, size, true);
        r.flags = null1;
        if (!ok) return false;
      }
    } else {
      failIS(165, i, a, s.name);
      return false;
    }
    if (expected.length) {
      failIS(140, i, a, s.name);
      opS(kindName(r));
      opS(expected);
      return false;
    }
  }
  if (s.changesPacket) invalidatePacket(i);
  if (s.tailCalls && cur.refCount > 0) {
    failS(122, i, refName(refOf(cur, 0).kind));
    opI(refOf(cur, 0).insn);
    return false;
  }
  for (let r: u32 = 0; r < 6; r++) setKind(reg(r), K_NONE);
  setUnknown(reg(0));
  cur.insn = i + 1;
  return true;
}

/// The callback may run: a waiting state enters it. On its exit the call is looked at again.
function callCallback(i: i32, id: i32, start: i32): bool {
  if (cur.depth + 1 >= FRAMES_MAX) return fail2(15, i, cur.depth + 2, FRAMES_MAX);
  const k = findSub(start);
  if (subs[k].isGlobal) return failS(163, i, "Global function as a callback");
  if (id == 181 && isConst(reg(1)) && reg(1).kind == K_NUM && <u32> reg(1).bits == 0) return true;
  if (id == 181 && reg(1).kind != K_NUM) return wrong(i, 1, "a number");
  const st = copyState(cur);
  st.insn = start;
  const f = enterFrame(st, cur.depth + 1, k, i);
  f.callback = id == 181 ? 1 : 2;
  const caller = frame;
  if (id == 181) {
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
