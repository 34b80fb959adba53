// The request: instructions, maps, functions, as they were handed over.
import * as E from "./gen/codes";
import { flagsOfType, MAP_PERF_EVENT_ARRAY } from "./map_type";
import { BYTES_OF_ANSWER, BYTES_OF_SLOT, setAnswers, setAttach, setStructs } from "./btf";
import { setOptions } from "./options";
import { failS } from "./outcome";

export class MapInfo {
  handle: u32 = 0;
  type: u32 = 0;
  keySize: u32 = 0;
  valueSize: u32 = 0;
  maxEntries: u32 = 0;
  flags: u32 = 0;
  frozen: bool = false;
  contents: usize = 0;
  contentsLength: u32 = 0;
  inner: i32 = -1; // index of the inner map's facts
  fieldCount: u32 = 0;
  fields: usize = 0; // {kind, offset, size, type} x fieldCount
}

/// Bytes of a special field in the request.
export const FIELD_BYTES: u32 = 16;

export class Sub {
  start: i32 = 0;
  end: i32 = 0;
  isGlobal: bool = false;
  name: string = "";
  returns: u32 = 3;
  argCount: u32 = 0;
  args: usize = 0; // {kind, size} x argCount
  isCallback: bool = false;
  maySleep: bool = false;
  isAsync: bool = false; // called by a timer: on a stack of its own
  changesPacket: bool = false;
  tailCalls: bool = false;
  usesLdAbs: bool = false;
  depth: i32 = 0; // bytes of stack, found while walking
  fpEscapes: bool = false;
}

export let insns: usize = 0;
export let count: i32 = 0;
export let progType: i32 = 0, attachType: i32 = 0, progFlags: u32 = 0;
export let visitsMax: u32 = 0, statesMax: u32 = 0, memoryMax: u32 = 0;
/// Kernel functions that the program calls: numbers in the kernel's BTF, and names.
export const kfuncNumbers: Array<i32> = [];
export const kfuncNames: Array<string> = [];
export const maps: Array<MapInfo> = [];
export let outerMaps: i32 = 0;
export const subs: Array<Sub> = [];
export let claimList: usize = 0, claimCount: u32 = 0;
let at: usize = 0, end: usize = 0, broken: bool = false;
function u(): u32 {
  if (at + 4 > end) {
    broken = true;
    return 0;
  }
  const v = load<u32>(at);
  at += 4;
  return v;
}

let strLength: u32 = 0;
function str(): usize {
  const n = u();
  if (broken || <u64> n > <u64> (end - at)) {
    broken = true;
    strLength = 0;
    return at;
  }
  const p = at;
  const padded = (<usize> n + 3) & ~3;
  if (padded > end - at) broken = true;
  else at += padded;
  strLength = broken ? 0 : n;
  return p;
}

function many(each: u32): u32 {
  const n = u();
  if (<u64> n * each > <u64> (end - at)) {
    broken = true;
    return 0;
  }
  return n;
}

function text(): string {
  const p = str();
  if (strLength == 0) return "";
  return String.UTF8.decodeUnsafe(p, min<u32>(strLength, 128));
}

function shape(m: MapInfo): void {
  m.type = u();
  m.keySize = u();
  m.valueSize = u();
  m.maxEntries = u();
  m.flags = u() | flagsOfType(m.type);
  m.fieldCount = many(FIELD_BYTES);
  m.fields = at;
  at += m.fieldCount * FIELD_BYTES;
}

/// Keys of hash maps end where the kernel's allocator does (KMALLOC_MAX_SIZE).
const KEY_BYTES_MAX: u32 = 4 << 20;
export function readRequest(pointer: usize, length: u32): bool {
  at = pointer;
  end = pointer + length;
  if (u() != 0x51525657 || u() != 2) return failS(E.MALFORMED_REQUEST, -1, "magic or version");
  str(); // its name
  progType = u();
  attachType = u();
  progFlags = u();
  setOptions(u());
  const profile = text();
  visitsMax = u();
  statesMax = u();
  memoryMax = u();
  insns = str();
  if (broken || strLength & 7) return failS(E.MALFORMED_REQUEST, -1, "instructions");
  count = <i32> (strLength >> 3);
  if (profile != "default") return failS(E.UNSUPPORTED_PROFILE, -1, profile);
  const n = many(28);
  const inners: Array<MapInfo> = [];
  for (let i: u32 = 0; i < n && !broken; i++) {
    const m = new MapInfo();
    m.handle = u();
    shape(m);
    m.frozen = u() != 0;
    m.contents = str();
    m.contentsLength = strLength;
    if (u() != 0) {
      const inner = new MapInfo();
      inner.handle = m.handle;
      shape(inner);
      m.inner = <i32> n + inners.length;
      inners.push(inner);
    }
    maps.push(m);
  }
  outerMaps = maps.length;
  for (let i = 0; i < inners.length; i++) maps.push(inners[i]);
  const s = many(20);
  for (let i: u32 = 0; i < s && !broken; i++) {
    const sub = new Sub();
    sub.start = u();
    sub.isGlobal = u() == 1;
    sub.name = text();
    sub.returns = u();
    sub.argCount = many(8);
    sub.args = at;
    at += sub.argCount * 8;
    subs.push(sub);
  }
  const functions = many(8);
  for (let i: u32 = 0; i < functions && !broken; i++) {
    kfuncNumbers.push(<i32> u());
    kfuncNames.push(text());
  }
  claimCount = many(4);
  claimList = at;
  at += claimCount * 4;
  if (!broken && !readKernelTypes()) return failS(E.MALFORMED_REQUEST, -1, "kernel types");
  if (broken || at != end) return failS(E.MALFORMED_REQUEST, -1, "length");
  for (let i = 0; i < maps.length; i++) {
    const m = maps[i];
    if (m.keySize > KEY_BYTES_MAX && m.type != MAP_PERF_EVENT_ARRAY || m.valueSize > 1 << 28) {
      return failS(E.MALFORMED_REQUEST, -1, "map sizes");
    }
    if (m.contentsLength > m.valueSize) return failS(E.MALFORMED_REQUEST, -1, "map contents");
  }
  return true;
}

function readKernelTypes(): bool {
  if (u() != 0) {
    const target = text(), refused = text(), flags = u();
    const n = many(BYTES_OF_SLOT);
    if (broken || !setAttach(target, refused, flags, at, n)) return false;
    at += n * BYTES_OF_SLOT;
  }
  const n = many(BYTES_OF_ANSWER);
  if (broken || !setAnswers(at, n)) return false;
  at += n * BYTES_OF_ANSWER;
  const s = many(12);
  setStructs(at, s);
  for (let i: u32 = 0; i < s && !broken; i++) {
    u();
    u();
    str();
  }
  const callback = text();
  if (callback.length) return failS(E.UNSUPPORTED_EXCEPTION_CALLBACK, -1, callback);
  return true;
}

export function kfuncName(id: i32): string {
  for (let i = 0; i < kfuncNumbers.length; i++) if (kfuncNumbers[i] == id) return kfuncNames[i];
  return "?";
}
