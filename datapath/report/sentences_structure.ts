/** Sentences about a program's structure, about limits, and about what is not supported. @module */
import { PROGRAM_TYPES } from "@weir/object";
import { loopOfLimit } from "./loop.ts";
import { place, type Say, typeOfMap } from "./sentence_context.ts";

/** By code. */
export const STRUCTURE: Readonly<Record<number, Say>> = {
  12: (c) => `${place(c, c.n(0), "Instruction")} can never be reached`,
  16: (c) =>
    `The functions of this call chain need ${c.n(0)} bytes of stack together; a program has ${c.n(1)}`,
  17: (c) => `The loop at ${place(c, c.n(0))} comes round again with nothing changed, so it never ends`,
  30: (c) => stopped(c, `after ${c.n(0)} instruction visits`),
  31: (c) => stopped(c, `with ${c.n(0)} states, the limit`),
  32: (c) => stopped(c, `at ${c.n(0)} bytes of memory, the limit`),
  33: (c) => stopped(c, `with ${c.n(0)} branches waiting, the limit`),
  160: (c) =>
    PROGRAM_TYPES[c.n(0)] === undefined
      ? "Programs of this type are not known to this verifier"
      : `Programs of type ${PROGRAM_TYPES[c.n(0)]} are not supported by this verifier`,
  162: (c) => `The kernel function ${c.s(1)}() is not supported by this verifier`,
  166: (c) => `Map \`${c.map(0)}\` is ${typeOfMap(Number(c.s(1)))}, which this verifier does not support`,
  3: (c) => `The program has ${c.n(0)} instructions; the kernel takes at most ${c.n(1)}`,
  4: (c) => `An instruction has opcode ${hex(c.n(0))}, which no kernel knows`,
  5: (c) => `An instruction (opcode ${hex(c.n(0))}) uses a field that must be zero`,
  6: () => "An instruction names a register that does not exist; there are r0 to r10",
  7: () => "The frame pointer (r10) is read-only, but it is written",
  8: () => "A jump goes outside its function",
  9: () => "A jump goes into the middle of a 16-byte instruction",
  13: (c) => `${functionAt(c, c.n(0))} calls itself, directly or through others`,
  20: () => "A function of the program does not start where a function can start",
  143: (c) => `Packet load instructions (LD_ABS, LD_IND) are not allowed here: ${c.s(0)}`,
  161: (c) => `${c.s(1)}() is not supported by this verifier`,
  164: (c) => `What ${c.reg(0)} points to in the kernel has a type that is not supported by this verifier`,
  165: (c) =>
    `Argument ${c.n(0)} of global function ${c.s(1)}() has a type that this verifier does not support`,
  168: () => "The kernel profile that is asked for is not built into this verifier",
  169: (c) => {
    const name = c.source.referenceAt(c.report.instruction)?.name;
    return `The kernel symbol ${
      name === undefined ? "" : `\`${name}\` `
    }is loaded by its type, which this verifier does not support`;
  },
  170: (c) =>
    `What lies at offset ${c.n(1)} (${c.n(2)} bytes) of a struct of the kernel is not known to this verifier`,
};

/** Which loop it was, where it was one. */
function stopped(c: Parameters<Say>[0], where: string): string {
  const branch = loopOfLimit(c.report);
  return branch === undefined
    ? `Verification stopped ${where}: the program has too many different paths`
    : `Verification stopped ${where}: the loop at ${
      place(c, branch)
    } goes round without a bound that can be counted to`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, "0")}`;
}

function functionAt(c: Parameters<Say>[0], instruction: number): string {
  const name = c.source.functionAt(instruction)?.name;
  return name === undefined || name === "" ? "A function" : `${name}()`;
}
