/**
 * A small assembler for tests and fuzzers: each function gives one instruction, `assemble` their bytes.
 * @module
 */

/** One instruction, or the two halves of an `ld_imm64`; `jump` names a label. */
export interface Instruction {
  op: number;
  dst?: number;
  src?: number;
  off?: number;
  imm?: number;
  /** Second half of `ld_imm64`. */
  imm2?: number;
  /** Label that `off` (or `imm` of a call or gotol) goes to. */
  to?: string;
  /** Where the label's distance goes. */
  toField?: "off" | "imm";
}
/** A label stands before the instruction that follows it. */
export type Line = Instruction | string;

/** Bytes of a program. Throws RangeError for a label that is not there. */
export function assemble(lines: Line[]): Uint8Array<ArrayBuffer> {
  const labels = new Map<string, number>(), list: { at: number; ins: Instruction }[] = [];
  let at = 0;
  for (const line of lines) {
    if (typeof line === "string") labels.set(line, at);
    else {
      list.push({ at, ins: line });
      at += line.imm2 === undefined ? 1 : 2;
    }
  }
  const bytes = new Uint8Array(at * 8), view = new DataView(bytes.buffer);
  for (const { at, ins } of list) {
    let off = ins.off ?? 0, imm = ins.imm ?? 0;
    if (ins.to !== undefined) {
      const target = labels.get(ins.to);
      if (target === undefined) throw new RangeError(`Cannot assemble: no label ${ins.to}`);
      if (ins.toField === "imm") imm = target - at - 1;
      else off = target - at - 1;
    }
    bytes[at * 8] = ins.op;
    bytes[at * 8 + 1] = (ins.dst ?? 0) | ((ins.src ?? 0) << 4);
    view.setInt16(at * 8 + 2, off, true);
    view.setInt32(at * 8 + 4, imm | 0, true);
    if (ins.imm2 !== undefined) view.setInt32(at * 8 + 12, ins.imm2 | 0, true);
  }
  return bytes;
}

/** High nibbles of the arithmetic opcodes. */
// deno-fmt-ignore
export const ALU = {
  add: 0x00, sub: 0x10, mul: 0x20, div: 0x30, or: 0x40, and: 0x50, lsh: 0x60, rsh: 0x70, mod: 0x90, xor: 0xa0,
  mov: 0xb0, arsh: 0xc0,
};
/** High nibbles of the jumps. */
// deno-fmt-ignore
export const JUMP = {
  eq: 0x10, gt: 0x20, ge: 0x30, set: 0x40, ne: 0x50, sgt: 0x60, sge: 0x70, lt: 0xa0, le: 0xb0, slt: 0xc0, sle: 0xd0,
};
const SIZE: Record<number, number> = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };

/** dst OP= imm, 64 bits. */
export function alu(op: keyof typeof ALU, dst: number, imm: number): Instruction {
  return { op: 0x07 | ALU[op], dst, imm };
}
/** dst OP= src, 64 bits; `off` 1: signed div and mod, 8/16/32: sign-extending mov. */
export function aluReg(op: keyof typeof ALU, dst: number, src: number, off = 0): Instruction {
  return { op: 0x0f | ALU[op], dst, src, off };
}
/** dst OP= imm, 32 bits. */
export function alu32(op: keyof typeof ALU, dst: number, imm: number): Instruction {
  return { op: 0x04 | ALU[op], dst, imm };
}
/** dst OP= src, 32 bits. */
export function alu32Reg(op: keyof typeof ALU, dst: number, src: number, off = 0): Instruction {
  return { op: 0x0c | ALU[op], dst, src, off };
}
/** dst = imm */
export function mov(dst: number, imm: number): Instruction {
  return alu("mov", dst, imm);
}
/** dst = src */
export function movReg(dst: number, src: number): Instruction {
  return aluReg("mov", dst, src);
}
/** dst = *(size *)(src + off) */
export function load(size: number, dst: number, src: number, off: number): Instruction {
  return { op: 0x61 | SIZE[size], dst, src, off };
}
/** dst = *(signed size *)(src + off) */
export function loadSigned(size: number, dst: number, src: number, off: number): Instruction {
  return { op: 0x81 | SIZE[size], dst, src, off };
}
/** *(size *)(dst + off) = src */
export function store(size: number, dst: number, off: number, src: number): Instruction {
  return { op: 0x63 | SIZE[size], dst, src, off };
}
/** *(size *)(dst + off) = imm */
export function storeImm(size: number, dst: number, off: number, imm: number): Instruction {
  return { op: 0x62 | SIZE[size], dst, off, imm };
}
/** Atomic operation `imm` on *(size *)(dst + off) with src. */
export function atomic(size: 4 | 8, imm: number, dst: number, off: number, src: number): Instruction {
  return { op: 0xc3 | SIZE[size], dst, src, off, imm };
}
/** if dst OP imm goto label */
export function jump(op: keyof typeof JUMP, dst: number, imm: number, to: string): Instruction {
  return { op: 0x05 | JUMP[op], dst, imm, to };
}
/** if dst OP src goto label */
export function jumpReg(op: keyof typeof JUMP, dst: number, src: number, to: string): Instruction {
  return { op: 0x0d | JUMP[op], dst, src, to };
}
/** if (u32)dst OP imm goto label */
export function jump32(op: keyof typeof JUMP, dst: number, imm: number, to: string): Instruction {
  return { op: 0x06 | JUMP[op], dst, imm, to };
}
/** goto label */
export function goto(to: string): Instruction {
  return { op: 0x05, to };
}
/** call helper */
export function call(helper: number): Instruction {
  return { op: 0x85, imm: helper };
}
/** call a function of the program */
export function callLocal(to: string): Instruction {
  return { op: 0x85, src: 1, to, toField: "imm" };
}
/** dst = address of a function of the program */
export function loadFunction(dst: number, to: string): Instruction {
  return { op: 0x18, dst, src: 4, imm2: 0, to, toField: "imm" };
}
/** dst = 64-bit constant */
export function load64(dst: number, value: bigint): Instruction {
  return {
    op: 0x18,
    dst,
    imm: Number(BigInt.asIntN(32, value)),
    imm2: Number(BigInt.asIntN(32, value >> 32n)),
  };
}
/** dst = map */
export function loadMap(dst: number, handle: number): Instruction {
  return { op: 0x18, dst, src: 1, imm: handle, imm2: 0 };
}
/** dst = address of the map's value + offset */
export function loadMapValue(dst: number, handle: number, offset = 0): Instruction {
  return { op: 0x18, dst, src: 2, imm: handle, imm2: offset };
}
/** exit */
export function exit(): Instruction {
  return { op: 0x95 };
}
