// Test entries: abstract operations on two values, each read from 24 words laid out like `Reg`.
import { alu } from "./alu";
import { refine } from "./compare";
import { sync } from "./number";
import { Reg, REG_BYTES } from "./reg";

/// Room for two registers.
export function probeAlloc(): u32 {
  return <u32> heap.alloc(2 * REG_BYTES);
}

export function probeAlu(p: usize, op: u32, is32: bool, signed: bool): void {
  alu(changetype<Reg>(p), changetype<Reg>(p + REG_BYTES), <u8> op, is32, signed);
}

export function probeRefine(p: usize, op: u32, is32: bool): bool {
  return refine(changetype<Reg>(p), changetype<Reg>(p + REG_BYTES), <u8> op, is32);
}

export function probeSync(p: usize): bool {
  return sync(changetype<Reg>(p));
}
