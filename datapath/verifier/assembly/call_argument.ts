// Arguments of helpers by kind: the context, maps, memory and its size.
import * as E from "./gen/codes";
import * as C from "./contract";
import { MAP_ARRAY } from "./map_type";
import { strict } from "./access";
import { lockArgument, ringbufArgument, timerArgument } from "./call_held";
import { isSockmap, socketArgument, sockmapValue } from "./call_socket";
import {
  callHelperId,
  callName,
  isZero,
  mapIndex,
  mapMismatch,
  memArg,
  memNullable,
  memWrite,
  movedArgument,
  setAlloc,
  setCallee,
  setCallMap,
  setMemory,
  setSizeMax,
  sizeMax,
  takesPacket,
  wrong,
} from "./current_call";
import { kindName } from "./kind_name";
import { changesMap, isKnownMap, M_RDONLY_PROG, mapFits } from "./map_type";
import { helperMemory } from "./memory";
import { fail1, fail2, failIS, opI } from "./outcome";
import {
  F_NULL,
  F_TRUSTED,
  isConst,
  K_BTF,
  K_CTX,
  K_FP,
  K_FUNC,
  K_KEY,
  K_MAP,
  K_MEM,
  K_META,
  K_NUM,
  K_PKT,
  K_VALUE,
  Reg,
} from "./reg";
import { maps } from "./request";
import { reg } from "./run";
import { stackWritten } from "./stack";

function isMemory(i: i32, a: u32, takesPacket: bool): bool {
  const r = reg(a);
  switch (r.kind) {
    case K_PKT:
    case K_META:
      if (!takesPacket || C.packetAccess() == 0) return failIS(E.PACKET_ARGUMENT, i, a, callName());
      return true;
    case K_FP:
      return true;
    case K_VALUE:
    case K_MEM:
    case K_KEY:
      return r.flags & F_NULL ? wrong(i, a, "memory") : true;
    case K_BTF:
      if (r.map < 0) return fail1(E.UNSUPPORTED_BTF_POINTER, i, a);
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
  if (!m.frozen || !(m.flags & 0x80) || m.type != MAP_ARRAY || m.maxEntries != 1) return false;
  for (let at = <i64> r.off + <i64> r.bits; at >= 0 && at < <i64> m.contentsLength; at++) {
    if (load<u8>(m.contents + <usize> at) == 0) return true;
  }
  return false;
}

/// bpf_probe_read and its kin: they take an address to read from, which does not leave the program by that.
function readsAddress(id: i32): bool {
  return id == C.H_PROBE_READ || id == C.H_PROBE_READ_STR ||
    (id >= C.H_PROBE_READ_USER && id <= C.H_PROBE_READ_KERNEL_STR);
}

/// Argument a of the call at i against the kind that the helper's contract demands.
export function checkArgument(i: i32, a: u32, kind: u8): bool {
  const r = reg(a);
  switch (kind) {
    case C.A_ANY:
      if (r.kind != K_NUM && strict() && !readsAddress(callHelperId)) {
        return failIS(E.POINTER_LEAK, i, a, kindName(r));
      }
      return true;
    case C.A_CTX_NULL:
      return isZero(r) || contextArgument(i, a, r);
    case C.A_CTX:
      return contextArgument(i, a, r);
    case C.A_MAP:
      return mapArgument(i, a, r);
    case C.A_KEY:
      return memoryOf(i, a, r, maps[mapIndex].keySize, false);
    case C.A_VAL:
      if (isSockmap(maps[mapIndex].type)) return sockmapValue(i, a, r);
      return memoryOf(i, a, r, maps[mapIndex].valueSize, false);
    case C.A_UVAL:
      return memoryOf(i, a, r, maps[mapIndex].valueSize, true);
    case C.A_ANY_NULL: // value or NULL
      return isZero(r) || memoryOf(i, a, r, maps[mapIndex].valueSize, false);
    case C.A_MEM:
    case C.A_MEM_NULL:
    case C.A_UMEM:
    case C.A_UMEMI:
    case C.A_MEMN:
      setMemory(
        a,
        kind == C.A_UMEM || kind == C.A_UMEMI || kind == C.A_MEMN,
        kind == C.A_MEM_NULL || kind == C.A_MEMN,
      );
      return memNullable && isZero(r) || isMemory(i, a, takesPacket);
    case C.A_SIZE:
    case C.A_SIZE0:
      return sizeArgument(i, a, kind, r);
    case C.A_ASIZE:
      if (r.kind != K_NUM || !isConst(r) || r.bits >= 1 << 29) {
        return failIS(E.ARGUMENT_NOT_CONSTANT, i, a, callName());
      }
      setAlloc(<i64> r.bits);
      return true;
    case C.A_U32:
    case C.A_U64:
      return wordArgument(i, a, kind, r);
    case C.A_FIX20:
      return memoryOf(i, a, r, 20, false);
    case C.A_FIX40:
      return memoryOf(i, a, r, 40, false);
    case C.A_STR:
      return isString(r) ? true : failIS(E.ARGUMENT_STRING, i, a, callName());
    case C.A_FUNC:
      if (r.kind != K_FUNC) return failIS(E.FUNCTION_EXPECTED, i, a, callName());
      setCallee(r.map);
      return true;
    case C.A_STACK_NULL:
      return r.kind == K_FP || isZero(r) ? true : wrong(i, a, "a stack pointer or 0");
    case C.A_RBREF:
      return ringbufArgument(i, a, r);
    case C.A_LOCK:
      return lockArgument(i, a, r);
    case C.A_TIMER:
      return timerArgument(i, a, r);
    default:
      return socketArgument(i, a, kind, r);
  }
}

function contextArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind != K_CTX) return wrong(i, a, "the context");
  return r.off != 0 || !isConst(r) ? movedArgument(E.CONTEXT_ARGUMENT_OFFSET, i, a, r) : true;
}

function mapArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind != K_MAP || r.flags & F_NULL) return wrong(i, a, "a map");
  // a timer belongs to the map that it lies in
  if (mapIndex >= 0 && mapIndex != r.map) return failIS(E.TIMER_OF_OTHER_MAP, i, a, callName());
  setCallMap(r.map);
  if (!isKnownMap(maps[mapIndex].type)) {
    return failIS(E.UNSUPPORTED_MAP, i, <i32> maps[mapIndex].handle, maps[mapIndex].type.toString());
  }
  if (maps[mapIndex].flags & M_RDONLY_PROG && changesMap(callHelperId)) {
    return fail1(E.MAP_READ_ONLY, i, <i32> maps[mapIndex].handle);
  }
  return mapFits(callHelperId, maps[mapIndex].type) ? true : mapMismatch(i);
}

function memoryOf(i: i32, a: u32, r: Reg, size: u32, write: bool): bool {
  return isMemory(i, a, takesPacket) && helperMemory(i, a, r, size, write);
}

/// The size of the memory in the argument before it.
function sizeArgument(i: i32, a: u32, kind: u8, r: Reg): bool {
  if (r.kind != K_NUM) return wrong(i, a, "a size");
  if (r.smin < 0 || r.umax >= 1 << 29) {
    failIS(E.ARGUMENT_SIZE_UNBOUNDED, i, a, callName());
    opI(r.smin);
    opI(r.smax);
    return false;
  }
  if (r.umin == 0 && kind == C.A_SIZE) return failIS(E.ARGUMENT_SIZE_ZERO, i, a, callName());
  setSizeMax(<i64> r.umax);
  const m = reg(memArg);
  if (m.kind == K_BTF && r.umin == 0) return fail1(E.UNSUPPORTED_BTF_POINTER, i, memArg);
  if (memNullable && isZero(m)) {
    return sizeMax == 0 ? true : wrong(i, memArg, "memory of that size");
  }
  return helperMemory(i, memArg, m, sizeMax, memWrite);
}

/// An aligned word that the helper fills in.
function wordArgument(i: i32, a: u32, kind: u8, r: Reg): bool {
  if (!isMemory(i, a, takesPacket)) return false;
  const size: u32 = kind == C.A_U32 ? 4 : 8;
  if (((<u64> r.off + r.bits) | r.unk) & (size - 1)) {
    fail2(E.MISALIGNED_ACCESS, i, size, r.off);
    opI(a);
    return false;
  }
  if (kind == C.A_U32 && !stackWritten(i, r, 4)) return false;
  return helperMemory(i, a, r, size, true);
}
