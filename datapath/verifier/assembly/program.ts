// The program's structure: functions and what is known of each instruction before the walk.
import { newTable, noTable } from "./table";
import * as E from "./gen/codes";
import { checkEncoding } from "./encoding";
import { checkCalls, checkFlow } from "./flow";
import { immOf, OP_CALL, OP_LDIMM, opcode, srcOf } from "./instruction";
import { fail, fail1, fail2 } from "./outcome";
import { count, FIELD_BYTES, insns, maps, outerMaps, Sub, subs } from "./request";
export * from "./request";
export * from "./instruction";

/// Kind of special field, see SPECIAL_FIELD_KINDS.
export const FIELD_TIMER: u32 = 2, FIELD_KPTR: u32 = 3;
export const INSNS_MAX: i32 = 1000000;
const FUNCTIONS_MAX: i32 = 256;
const MAPS_MAX: i32 = 64;
export let subOf: StaticArray<u8> = noTable<u8>();
export let mark: StaticArray<u8> = noTable<u8>();
/// Kind of pointer that each load or store was walked with so far, plus one; 0 not yet.
export let addressKind: StaticArray<u8> = noTable<u8>();

export const M_HIGH: u8 = 1, M_TARGET: u8 = 2, M_SEEN: u8 = 4, M_FORCE: u8 = 8, M_CALLBACK: u8 = 16;
/// A jump leads here: paths may come together.
export const M_JOIN: u8 = 32;
export let usesCallbacks: bool = false;
/// Some call makes an iterator.
export let usesIterators: bool = false;
export function setUsesIterators(): void {
  usesIterators = true;
}
/// A helper wants bytes of the stack to be initialised although it is privileged (bpf_check_mtu).
export let usesWritten: bool = false;
export function setUsesWritten(): void {
  usesWritten = true;
}

export function findMap(handle: u32): i32 {
  for (let i = 0; i < outerMaps; i++) if (maps[i].handle == handle) return i;
  return -1;
}

/// Whether values of a map have a special field of the kind at offset `at`; -1: anywhere.
export function hasField(map: i32, kind: u32, at: i64): bool {
  const m = maps[map];
  for (let k: u32 = 0; k < m.fieldCount; k++) {
    const p = m.fields + k * FIELD_BYTES;
    if (load<u32>(p) == kind && (at < 0 || <i64> load<u32>(p, 4) == at)) return true;
  }
  return false;
}

/// Whether values of a map have a spin lock; `at` is one at that offset, -1: anywhere.
export function hasLock(map: i32, at: i64): bool {
  const m = maps[map];
  for (let k: u32 = 0; k < m.fieldCount; k++) {
    const p = m.fields + k * FIELD_BYTES;
    if (load<u32>(p) == 1 && load<u32>(p, 8) == 4 && (at < 0 || <i64> load<u32>(p, 4) == at)) return true;
  }
  return false;
}

export function findSub(start: i32): i32 {
  for (let i = 0; i < subs.length; i++) if (subs[i].start == start) return i;
  return -1;
}

function addSub(start: i32): bool {
  if (findSub(start) >= 0) return true;
  if (subs.length >= FUNCTIONS_MAX) return fail2(E.TOO_MANY_FUNCTIONS, start, subs.length + 1, FUNCTIONS_MAX);
  const sub = new Sub();
  sub.start = start;
  subs.push(sub);
  return true;
}

/// Checks encoding, functions and control flow of the whole program.
export function checkStructure(): bool {
  if (count == 0) return fail(E.EMPTY_PROGRAM, -1);
  if (count > INSNS_MAX) return fail2(E.PROGRAM_TOO_LARGE, -1, count, INSNS_MAX);
  mark = newTable<u8>(count);
  addressKind = newTable<u8>(count);
  subOf = newTable<u8>(count);
  let usedMaps = 0;
  if (!addSub(0)) return false;
  for (let i = 0; i < count; i++) {
    const op = opcode(i);
    if (op == OP_LDIMM) {
      if (i + 1 >= count || load<u32>(insns + (<usize> (i + 1) << 3)) != 0) {
        return fail(E.INCOMPLETE_LD_IMM64, i);
      }
      mark[i + 1] |= M_HIGH;
      if (srcOf(i) == 1 || srcOf(i) == 2) usedMaps++;
    }
    if (!checkEncoding(i, op)) return false;
    if (op == OP_LDIMM) i++;
  }
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i);
    let callee = -1;
    if (op == OP_CALL && srcOf(i) == 1) callee = i + 1 + immOf(i);
    else if (op == OP_LDIMM && srcOf(i) == 4) callee = i + 1 + immOf(i);
    else continue;
    if (callee < 0 || callee >= count || mark[callee] & M_HIGH) return fail1(E.JUMP_OUT_OF_RANGE, i, callee);
    if (!addSub(callee)) return false;
    if (op == OP_LDIMM) {
      subs[findSub(callee)].isCallback = true;
      usesCallbacks = true;
    }
  }
  if (outerMaps > MAPS_MAX) return fail2(E.TOO_MANY_MAPS, -1, outerMaps, MAPS_MAX);
  if (subs.length > 1) subs.sort((a, b) => a.start - b.start);
  for (let k = 0; k < subs.length; k++) {
    const s = subs[k];
    if (
      s.start < 0 || s.start >= count || mark[s.start] & M_HIGH || (k > 0 && subs[k - 1].start == s.start)
    ) {
      return fail1(E.BAD_SUBPROGRAM_TABLE, -1, s.start);
    }
    s.end = k + 1 < subs.length ? subs[k + 1].start : count;
    if (s.end > count) return fail1(E.BAD_SUBPROGRAM_TABLE, -1, s.end);
    for (let i = s.start; i < s.end; i++) subOf[i] = <u8> k;
  }
  return checkFlow() && checkCalls();
}
