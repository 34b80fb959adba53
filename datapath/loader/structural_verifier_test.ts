import assert from "node:assert/strict";
import { checkStructure } from "./structural_verifier.ts";

/** One instruction: opcode, dst, src, offset, imm. */
function insn(opcode: number, dst = 0, src = 0, offset = 0, imm = 0): number[] {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint8(0, opcode);
  view.setUint8(1, src << 4 | dst);
  view.setInt16(2, offset, true);
  view.setInt32(4, imm, true);
  return [...new Uint8Array(view.buffer)];
}

const exit = insn(0x95), zero = insn(0xb7);

const cases: [name: string, insns: number[][], code: string | undefined][] = [
  ["accepts return 0", [zero, exit], undefined],
  ["accepts a map reference", [insn(0x18, 1, 1, 0, 5), insn(0), zero, exit], undefined],
  ["refuses a map that is not the program's", [insn(0x18, 1, 1, 0, 6), insn(0), zero, exit], "WS0004"],
  ["refuses half a 64-bit load", [insn(0x18, 1, 0, 0, 5), exit], "WS0003"],
  ["refuses r11", [insn(0xb7, 11), exit], "WS0002"],
  ["refuses writes to r10", [insn(0xb7, 10), exit], "WS0006"],
  ["refuses division by zero", [insn(0x37, 0, 0, 0, 0), exit], "WS0007"],
  ["refuses a jump out of the program", [insn(0x05, 0, 0, 5), exit], "WS0011"],
  ["refuses a jump into a 64-bit load", [insn(0x05, 0, 0, 1), insn(0x18), insn(0), exit], "WS0012"],
  ["refuses helper 9999", [insn(0x85, 0, 0, 0, 9999), exit], "WS0009"],
  ["refuses an unknown memory mode", [insn(0xe1), exit], "WS0010"],
  ["refuses to run off the end", [zero], "WS0013"],
  ["refuses nothing at all", [], "WS0001"],
];

for (const [name, insns, code] of cases) {
  Deno.test(`checkStructure() ${name}`, () => {
    assert.equal(checkStructure(new Uint8Array(insns.flat()), new Set([5]))?.code, code);
  });
}
