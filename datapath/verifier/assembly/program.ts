// What is known of the program's instructions, maps and functions before the walk.
import { newTable, noTable } from "./table";
import { count, FIELD_BYTES, maps, outerMaps, subs } from "./request";
export * from "./options";
export * from "./request";
export * from "./instruction";

/// Kind of special field, see SPECIAL_FIELD_KINDS.
export const FIELD_TIMER: u32 = 2, FIELD_KPTR: u32 = 3;
export const INSNS_MAX: i32 = 1000000;
export let subOf: StaticArray<u8> = noTable<u8>();
export let mark: StaticArray<u8> = noTable<u8>();
/// Kind of pointer that each load or store was walked with so far, plus one; 0 not yet.
export let addressKind: StaticArray<u8> = noTable<u8>();
/// Nothing is known of any instruction.
export function forgetInstructions(): void {
  mark = newTable<u8>(count);
  addressKind = newTable<u8>(count);
  subOf = newTable<u8>(count);
}

export const M_HIGH: u8 = 1, M_TARGET: u8 = 2, M_SEEN: u8 = 4, M_FORCE: u8 = 8, M_CALLBACK: u8 = 16;
/// A jump leads here: paths may come together.
export const M_JOIN: u8 = 32;
export let usesCallbacks: bool = false;
export function setUsesCallbacks(): void {
  usesCallbacks = true;
}
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
