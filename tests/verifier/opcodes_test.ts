/**
 * The whole space of opcodes beside the kernel: each of the 256, with every field that may be reserved set to values that
 * mean something elsewhere, alone and in pairs. Whatever the kernel refuses, ours must not accept.
 */
import assert from "node:assert/strict";
import { encodeRequest, verifyBytes } from "@weir/verifier";
import { decodeReport } from "@weir/verifier";
import { Kernel } from "../../scripts/probe/kernel.ts";

const available = Kernel.available();
if (!available) console.log("SKIP opcodes in the kernel: this process may not load eBPF programs");

interface Fields {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly off: number;
  readonly imm: number;
}

const SOCKET_FILTER = 1;
const Class = { ld: 0, ldx: 1, st: 2, stx: 3 };

/** Values that are in use in some instruction, and some that are in none. */
const DST = [2, 10, 11];
const SRC = [0, 1, 2, 3, 5, 7, 10, 11];
const OFF = [0, 1, 2, 8, 16, 32, -1, -8, 0x7fff];
const IMM = [0, 1, 2, 16, 32, 63, 64, -1, 0x40, 0x51, 0xa0, 0xe1, 0xf1, 0x100];

/** The plain form of an instruction: it reads or writes numbers, in registers or at the top of the stack. */
function plain(opcode: number): Fields {
  const kind = opcode & 7;
  if (kind === Class.ldx) return { opcode, dst: 2, src: 10, off: -8, imm: 0 };
  if (kind === Class.st) return { opcode, dst: 10, src: 0, off: -8, imm: 1 };
  if (kind === Class.stx) return { opcode, dst: 10, src: 7, off: -8, imm: 0 };
  if (kind === Class.ld) return { opcode, dst: 0, src: 0, off: 0, imm: 0 };
  return { opcode, dst: 2, src: (opcode & 8) !== 0 ? 7 : 0, off: 0, imm: (opcode & 8) !== 0 ? 0 : 1 };
}

/** The plain form with one field, or two, changed. */
function variants(opcode: number): Fields[] {
  const base = plain(opcode), found = new Map<string, Fields>();
  const add = (fields: Partial<Fields>) => {
    const all = { ...base, ...fields };
    found.set(Object.values(all).join(), all);
  };
  for (const off of OFF) for (const imm of IMM) add({ off, imm });
  for (const src of SRC) for (const imm of IMM) add({ src, imm });
  for (const src of SRC) for (const off of OFF) add({ src, off });
  for (const src of SRC) for (const dst of DST) add({ src, dst });
  for (const dst of DST) for (const imm of IMM) add({ dst, imm });
  return [...found.values()];
}

function put(view: DataView, slot: number, { opcode, dst, src, off, imm }: Fields): void {
  view.setUint8(slot * 8, opcode);
  view.setUint8(slot * 8 + 1, dst | src << 4);
  view.setInt16(slot * 8 + 2, off, true);
  view.setInt32(slot * 8 + 4, imm, true);
}

const LD_IMM64 = 0x18, REGISTERS = [0, 2, 3, 4, 5, 7, 8, 9];

/** Every register a number but R6 and R1, the context; a number on the stack; the instruction; an end wherever it jumps to. */
function program(fields: Fields, second?: Fields): Uint8Array<ArrayBuffer> {
  const wide = fields.opcode === LD_IMM64 ? 1 : 0;
  const head = REGISTERS.length + 2;
  const view = new DataView(new ArrayBuffer((head + 1 + wide + 5) * 8));
  const set = (slot: number, opcode: number, rest: Partial<Fields> = {}) =>
    put(view, slot, { opcode, dst: 0, src: 0, off: 0, imm: 0, ...rest });
  REGISTERS.forEach((dst, slot) => set(slot, 0xb7, { dst, imm: 1 }));
  set(head - 2, 0xbf, { dst: 6, src: 1 });
  set(head - 1, 0x7a, { dst: 10, off: -8, imm: 1 });
  put(view, head, fields);
  if (wide) put(view, head + 1, second ?? { opcode: 0, dst: 0, src: 0, off: 0, imm: 0 });
  for (let slot = head + 1 + wide; slot < head + wide + 5; slot++) set(slot, 0xb7);
  set(head + wide + 5, 0x95);
  return new Uint8Array(view.buffer);
}

const module = available
  ? new WebAssembly.Module(Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)))
  : undefined;

function ours(instructions: Uint8Array<ArrayBuffer>, programFlags = 0): string {
  const bytes = encodeRequest({
    name: "opcode",
    programType: SOCKET_FILTER,
    programFlags,
    gplCompatible: true,
    instructions,
    maps: [],
  });
  return decodeReport(verifyBytes(module!, bytes)).verdict;
}

/** Compares; `accepted` counts what both accept. */
function compare(
  kernel: Kernel,
  instructions: Uint8Array<ArrayBuffer>,
  what: string,
  wrong: string[],
): boolean {
  if (ours(instructions) !== "accepted") return false;
  const loaded = kernel.load({ type: SOCKET_FILTER, instructions, logLevel: 0 });
  if (loaded.ok) {
    kernel.closeFd(loaded.fd);
    return true;
  }
  wrong.push(`${what}: ${kernel.load({ type: SOCKET_FILTER, instructions }).log.trim().split("\n").at(-2)}`);
  return false;
}

Deno.test({
  name: "opcodes: what the kernel refuses of all 256 and their fields, ours does not accept",
  ignore: !available,
  fn: () => {
    const kernel = new Kernel(), wrong: string[] = [];
    let count = 0, accepted = 0;
    try {
      for (let opcode = 0; opcode < 256; opcode++) {
        for (const fields of variants(opcode)) {
          count++;
          if (compare(kernel, program(fields), JSON.stringify(fields), wrong)) accepted++;
        }
      }
      for (const src of [0, 2, 5, 7]) {
        for (
          const [name, values] of Object.entries({ opcode: [0, 1, 0x18, 0xb7], dst: DST, src: SRC, off: OFF })
        ) {
          for (const value of values) {
            const first = { ...plain(LD_IMM64), src }, second = { opcode: 0, dst: 0, src: 0, off: 0, imm: 0 };
            const what = `ld_imm64 of kind ${src}, second half ${name} ${value}`;
            compare(kernel, program(first, { ...second, [name]: value }), what, wrong);
          }
        }
      }
    } finally {
      kernel.close();
    }
    console.log(`  ${count} instructions, ${accepted} accepted by both`);
    assert.deepEqual(wrong, []);
    assert.ok(accepted > 3000, `${accepted} of ${count} accepted`);
  },
});
