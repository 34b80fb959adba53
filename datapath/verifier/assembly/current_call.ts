// The call whose arguments are being checked: what it is about, and what is wrong with an argument of it.
import * as E from "./gen/codes";
import * as C from "./contract";
import { kindName } from "./kind_name";
import { fail1, failIS, opI, opS, setLostAt } from "./outcome";
import { F_NULL, isConst, K_NONE, K_NUM, Reg } from "./reg";
import { maps } from "./request";
import { originOf, reg } from "./run";

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
export let memArg: u32 = 0, memWrite: bool = false, memNullable: bool = false;

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

export function setSizeMax(bytes: i64): void {
  sizeMax = bytes;
}

export function setAlloc(bytes: i64): void {
  alloc = bytes;
}

export function setCallee(start: i32): void {
  callee = start;
}

export function setMemory(a: u32, write: bool, nullable: bool): void {
  memArg = a;
  memWrite = write;
  memNullable = nullable;
}

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

/// What must be handed over as it was got was moved.
export function movedArgument(code: i32, i: i32, a: u32, r: Reg): bool {
  failIS(code, i, a, callName());
  opI(r.off);
  return false;
}

export function mapMismatch(i: i32): bool {
  failIS(E.MAP_HELPER_MISMATCH, i, <i32> maps[mapIndex].handle, callName());
  opI(maps[mapIndex].type);
  return false;
}
