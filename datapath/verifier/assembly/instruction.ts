// Fields of instructions.
import { insns } from "./request";

export function opcode(i: i32): u8 {
  return load<u8>(insns + (<usize> i << 3));
}

export function dstOf(i: i32): u32 {
  return <u32> load<u8>(insns + (<usize> i << 3), 1) & 15;
}

export function srcOf(i: i32): u32 {
  return <u32> load<u8>(insns + (<usize> i << 3), 1) >> 4;
}

export function offOf(i: i32): i32 {
  return <i32> load<i16>(insns + (<usize> i << 3), 2);
}

export function immOf(i: i32): i32 {
  return load<i32>(insns + (<usize> i << 3), 4);
}

export const BPF_LD: u8 = 0,
  BPF_LDX: u8 = 1,
  BPF_ST: u8 = 2,
  BPF_STX: u8 = 3,
  BPF_ALU: u8 = 4,
  BPF_JMP: u8 = 5;

export const BPF_JMP32: u8 = 6, BPF_ALU64: u8 = 7;
/// `imm` of atomic instructions that only load (from src, to dst) or only store.
export const LOAD_ACQUIRE: i32 = 0x100, STORE_RELEASE: i32 = 0x110;
/// *(u64 *)(src + off), neither signed nor atomic.
export const OP_LOAD_64: u8 = 0x79;
export const OP_CALL: u8 = 0x85,
  OP_EXIT: u8 = 0x95,
  OP_JA: u8 = 0x05,
  OP_JA32: u8 = 0x06,
  OP_LDIMM: u8 = 0x18;
/// A jump that the kernel takes when a counter of its own has run out.
export const OP_MAY_GOTO: u8 = 0xe5;

/// Target of a jump instruction.
export function targetOf(i: i32): i32 {
  return i + 1 + (opcode(i) == OP_JA32 ? immOf(i) : offOf(i));
}

export function isJump(op: u8): bool {
  const c = op & 7;
  if (c == BPF_JMP) return op != OP_CALL && op != OP_EXIT;
  return c == BPF_JMP32;
}

/// Whether instruction i, an STX, loads.
export function isLoadAcquire(i: i32): bool {
  return (opcode(i) & 0xe0) == 0xc0 && immOf(i) == LOAD_ACQUIRE;
}

/// Bytes that a load or store touches.
export function sizeOf(op: u8): i32 {
  switch (op & 0x18) {
    case 0:
      return 4;
    case 8:
      return 2;
    case 0x10:
      return 1;
    default:
      return 8;
  }
}
