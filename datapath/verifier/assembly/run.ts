// The state being continued, and what all steps need of it.
import { Reg } from "./reg";
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
const ORIGINS: u32 = 1024;

// memory that is 0 from the start costs a fresh instance nothing, arrays are made by each
const origins: usize = memory.data(8192, 8);
/// A pointer that may be NULL was made here.
export function noteOrigin(id: u32, insn: i32): void {
  const k = (id & (ORIGINS - 1)) * 2;
  store<u32>(origins + (<usize> k << 2), id);
  store<u32>(origins + (<usize> k << 2), <u32> insn, 4);
}

/// The instruction that made it; -1 forgotten.
export function originOf(id: u32): i32 {
  const k = (id & (ORIGINS - 1)) * 2;
  const at = origins + (<usize> k << 2);
  return id != 0 && load<u32>(at) == id ? load<i32>(at, 4) : -1;
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
