// Arguments of helpers by kind: the context, maps, memory and its size.
import * as E from "./gen/codes";
import * as C from "./contract";
import { MAP_ARRAY } from "./map_type";
import { strict } from "./access";
import { lockArgument, ringbufArgument, timerArgument } from "./call_held";
import { isSockmap, socketArgument, sockmapValue } from "./call_socket";
import { kindName } from "./kind_name";
import { changesMap, isKnownMap, M_RDONLY_PROG, mapFits } from "./map_type";
import { helperMemory } from "./memory";
import { fail1, fail2, failIS, opI, opS, setLostAt } from "./outcome";
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
  K_NONE,
  K_NUM,
  K_PKT,
  K_VALUE,
  Reg,
} from "./reg";
import { maps } from "./request";
import { originOf, reg } from "./run";
import { stackWritten } from "./stack";

export function wrong(i: i32, a: u32, expected: string): bool {
  const r = reg(a);
  if (r.kind == K_NONE) return fail1(E.UNINITIALISED_REGISTER, i, a);
  if (r.flags & F_NULL) {
    setLostAt(originOf(r.id));
    return failIS(E.ARGUMENT_NULL, i, a, callName());
  }
  if (r.kind == K_NUM) setLostAt(r.size - 1);
  failIS(E.ARGUMENT_TYPE, i, a, callName());
  opS(kindName(r));
  opS(expected);
  return false;
}

export function isZero(r: Reg): bool {
  return r.kind == K_NUM && isConst(r) && r.bits == 0;
}

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

/// What the call that is being checked is about; its arguments fill it in, later ones rest on earlier ones.
let givenName: string = "";
/// Name of what is called. Made when a finding needs it: a text per call would fill the memory.
export function callName(): string {
  return givenName.length ? givenName : C.helperName(callHelperId);
}

export let callHelperId: i32 = 0;
export let takesPacket: bool = false;
/// The map of the call, and what the values of that map are worth to its other arguments; -1: none yet.
export let mapIndex: i32 = -1;

/// Largest size of the newest argument that is memory, and the constant size that is to be allocated.
export let sizeMax: i64 = 0, alloc: i64 = 0;

/// Reference that the call releases; reference of the socket that it casts.
export let release: u32 = 0, cast: u32 = 0;

/// Start of the function that is called back; -1: none.
export let callee: i32 = -1;

/// Memory whose size is the next argument.
let memArg: u32 = 0, memWrite: bool = false, memNullable: bool = false;

export function beginCall(id: i32, flags: u8): void {
  callHelperId = id;
  givenName = "";
  takesPacket = (flags & 8) != 0;
  mapIndex = -1;
  sizeMax = 0;
  alloc = 0;
  release = 0;
  cast = 0;
  callee = -1;
  memArg = 0;
  memWrite = false;
  memNullable = false;
}

/// A kernel function is called: its arguments are told by its name.
export function beginKfunc(name: string): void {
  beginCall(0, 0);
  givenName = name;
}

export function setCallMap(map: i32): void {
  mapIndex = map;
}

export function setRelease(ref: u32): void {
  release = ref;
}

export function setCastOf(ref: u32): void {
  cast = ref;
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
      memArg = a;
      memWrite = kind == C.A_UMEM || kind == C.A_UMEMI || kind == C.A_MEMN;
      memNullable = kind == C.A_MEM_NULL || kind == C.A_MEMN;
      return memNullable && isZero(r) || isMemory(i, a, takesPacket);
    case C.A_SIZE:
    case C.A_SIZE0:
      return sizeArgument(i, a, kind, r);
    case C.A_ASIZE:
      if (r.kind != K_NUM || !isConst(r) || r.bits >= 1 << 29) {
        return failIS(E.ARGUMENT_NOT_CONSTANT, i, a, callName());
      }
      alloc = <i64> r.bits;
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
      callee = r.map;
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

/// What must be handed over as it was got was moved.
export function movedArgument(code: i32, i: i32, a: u32, r: Reg): bool {
  failIS(code, i, a, callName());
  opI(r.off);
  return false;
}

function mapArgument(i: i32, a: u32, r: Reg): bool {
  if (r.kind != K_MAP || r.flags & F_NULL) return wrong(i, a, "a map");
  // a timer belongs to the map that it lies in
  if (mapIndex >= 0 && mapIndex != r.map) return failIS(E.TIMER_OF_OTHER_MAP, i, a, callName());
  mapIndex = r.map;
  if (!isKnownMap(maps[mapIndex].type)) {
    return failIS(E.UNSUPPORTED_MAP, i, <i32> maps[mapIndex].handle, maps[mapIndex].type.toString());
  }
  if (maps[mapIndex].flags & M_RDONLY_PROG && changesMap(callHelperId)) {
    return fail1(E.MAP_READ_ONLY, i, <i32> maps[mapIndex].handle);
  }
  return mapFits(callHelperId, maps[mapIndex].type) ? true : mapMismatch(i);
}

export function mapMismatch(i: i32): bool {
  failIS(E.MAP_HELPER_MISMATCH, i, <i32> maps[mapIndex].handle, callName());
  opI(maps[mapIndex].type);
  return false;
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
  sizeMax = <i64> r.umax;
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
