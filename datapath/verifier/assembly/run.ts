// The state being continued, and what all steps need of it.
import { Reg } from "./reg";
import { newTable, noTable } from "./table";
import { Frame, frameOf, regOf, slotReg, slotTypes, State, T_SPILL } from "./state";

export let cur: State = changetype<State>(0);
export let frame: Frame = changetype<Frame>(0);
export let idGen: u32 = 0;
export function setCur(s: State): void {
  cur = s;
  frame = frameOf(s, s.depth);
}

export function refreshFrame(): void {
  frame = frameOf(cur, cur.depth);
}

export function freshId(): u32 {
  return ++idGen;
}

/* Where the newest pointers that may be NULL came from: {id, instruction}, by the low bits of the id. */
const ORIGINS: i32 = 1024;

// made when it is needed: what lies among the module's constants is put back after each program
let origins: StaticArray<u32> = noTable<u32>();
/// A pointer that may be NULL was made here.
export function noteOrigin(id: u32, insn: i32): void {
  if (!changetype<usize>(origins)) origins = newTable<u32>(2 * ORIGINS);
  const k = <i32> (id & <u32> (ORIGINS - 1)) * 2;
  origins[k] = id;
  origins[k + 1] = <u32> insn;
}

/// The instruction that made it; -1 forgotten.
export function originOf(id: u32): i32 {
  if (id == 0 || !changetype<usize>(origins)) return -1;
  const k = <i32> (id & <u32> (ORIGINS - 1)) * 2;
  return origins[k] == id ? <i32> origins[k + 1] : -1;
}

export function reg(r: u32): Reg {
  return regOf(frame, r);
}

/// Visits every usable register and saved register of all frames of a state.
type Visit = (r: Reg, a: u64, b: u64) => void;

export function eachReg(s: State, visit: Visit, a: u64, b: u64): void {
  for (let k = 0; k <= s.depth; k++) {
    const f = frameOf(s, k);
    for (let r: u32 = 0; r < 10; r++) {
      const x = regOf(f, r);
      if (x.kind) visit(x, a, b);
    }
    for (let k2: u32 = 0; k2 < f.slots; k2++) {
      if (load<u8>(slotTypes(f, k2)) == T_SPILL) visit(slotReg(f, k2), a, b);
    }
  }
}

/// Whether a function on the call chain was called back by a helper.
export function inCallback(): bool {
  for (let k = 1; k <= cur.depth; k++) if (frameOf(cur, k).callback) return true;
  return false;
}
