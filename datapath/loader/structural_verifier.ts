/**
 * The checks that need no proof: every instruction is one the kernel knows, registers exist, jumps land on instructions,
 * the last instruction leaves, helpers exist, map references are of maps that were given. It says nothing about memory
 * safety: that is the sandboxed verifier's work.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { GateReport, GateRequest, Verifier } from "./verifier.ts";

/** Highest helper number of the newest kernel known here (6.18: 211 and a reserve of none). */
const HELPER_ID_MAX = 211;
/** Instructions of one program that the kernel takes from privileged users. */
const INSNS_MAX = 1_000_000;

const CLASS = { LD: 0, LDX: 1, ST: 2, STX: 3, ALU: 4, JMP: 5, JMP32: 6, ALU64: 7 } as const;
const PSEUDO_MAP_FD = 1, PSEUDO_MAP_VALUE = 2, PSEUDO_FUNC = 4, PSEUDO_BTF_ID = 3;
const PSEUDO_CALL = 1, PSEUDO_KFUNC_CALL = 2;

/** The checks that need no proof. */
export class StructuralVerifier implements Verifier {
  readonly mode = "structural";
  readonly version = "structural-1";
  readonly kernelProfile = "any";

  verify(request: GateRequest): GateReport {
    const start = performance.now();
    const count = request.insns.length / 8;
    const finding = checkStructure(request.insns, new Set(request.maps.map((map) => map.fd)));
    return {
      verdict: finding === undefined ? "accepted" : "unsafe",
      code: finding?.code ?? "",
      message: finding === undefined ? "" : `${finding.message} (instruction ${finding.insn})`,
      hash: createHash("sha256").update(request.insns).digest("hex"),
      visits: count,
      timeUs: (performance.now() - start) * 1000,
    };
  }
}

/** What is wrong with a program and where. */
export interface StructuralFinding {
  code: string;
  message: string;
  insn: number;
}

/** The first structural fault of a program, undefined when there is none. */
export function checkStructure(
  insns: Uint8Array<ArrayBuffer>,
  mapFds: ReadonlySet<number>,
): StructuralFinding | undefined {
  if (insns.length % 8 !== 0 || insns.length === 0 || insns.length > INSNS_MAX * 8) {
    return {
      code: "WS0001",
      message: `program has ${insns.length} bytes, not a multiple of 8 up to ${INSNS_MAX * 8}`,
      insn: 0,
    };
  }
  const count = insns.length / 8;
  const view = new DataView(insns.buffer, insns.byteOffset, insns.length);
  const second = new Uint8Array(count); // second halves of 16-byte instructions
  const targets: [from: number, to: number][] = [];
  for (let i = 0; i < count; i++) {
    const opcode = view.getUint8(i * 8), registers = view.getUint8(i * 8 + 1);
    const dst = registers & 15, src = registers >> 4;
    const offset = view.getInt16(i * 8 + 2, true), imm = view.getInt32(i * 8 + 4, true);
    const fault = (code: string, message: string): StructuralFinding => ({ code, message, insn: i });
    if (dst > 10 || (src > 10)) return fault("WS0002", `register r${Math.max(dst, src)} does not exist`);
    const cls = opcode & 7;
    if (opcode === 0x18) {
      if (i + 1 >= count || view.getUint8(i * 8 + 8) !== 0) {
        return fault("WS0003", "64-bit load lacks its second half");
      }
      if (src === PSEUDO_MAP_FD || src === PSEUDO_MAP_VALUE) {
        if (!mapFds.has(imm)) {
          return fault("WS0004", `map descriptor ${imm} is not one of the program's maps`);
        }
      } else if (src === PSEUDO_FUNC) targets.push([i, i + imm + 1]);
      else if (src > 6 || src === PSEUDO_BTF_ID && imm === 0) {
        return fault("WS0003", `64-bit load has unknown kind ${src}`);
      }
      second[i + 1] = 1;
      i++;
      continue;
    }
    if (cls === CLASS.ALU || cls === CLASS.ALU64) {
      const operation = opcode >> 4;
      if (operation > 13) {
        return fault("WS0005", `arithmetic operation 0x${opcode.toString(16)} does not exist`);
      }
      if (dst === 10) return fault("WS0006", "frame pointer r10 is written");
      const divides = operation === 3 || operation === 9;
      if (divides && (opcode & 8) === 0 && imm === 0) return fault("WS0007", "division by constant zero");
    } else if (cls === CLASS.JMP || cls === CLASS.JMP32) {
      const operation = opcode >> 4;
      if (operation > 14 || (cls === CLASS.JMP32 && (operation === 8 || operation === 9))) {
        return fault("WS0008", `jump operation 0x${opcode.toString(16)} does not exist`);
      }
      if (operation === 8) {
        if (src === PSEUDO_CALL) targets.push([i, i + imm + 1]);
        else if (src === 0 && (imm <= 0 || imm > HELPER_ID_MAX)) {
          return fault("WS0009", `helper ${imm} does not exist`);
        } else if (src > PSEUDO_KFUNC_CALL) return fault("WS0009", `call has unknown kind ${src}`);
      } else if (operation !== 9) {
        targets.push([i, cls === CLASS.JMP32 && operation === 0 ? i + imm + 1 : i + offset + 1]);
      }
    } else if (!knownMemory(opcode, cls)) {
      return fault("WS0010", `memory operation 0x${opcode.toString(16)} does not exist`);
    } else if (cls === CLASS.LDX && dst === 10) return fault("WS0006", "frame pointer r10 is written");
  }
  for (const [from, to] of targets) {
    if (to < 0 || to >= count) {
      return { code: "WS0011", message: `jump leaves the program (to ${to} of ${count})`, insn: from };
    }
    if (second[to]) return { code: "WS0012", message: "jump lands inside a 64-bit load", insn: from };
  }
  const last = view.getUint8((count - 1) * 8);
  const leaves = last === 0x95 || last === 0x05 || last === 0x06;
  return leaves && !second[count - 1]
    ? undefined
    : { code: "WS0013", message: "program runs off its end", insn: count - 1 };
}

/** Memory modes by class: LDX mem, memsx; ST mem; STX mem, atomic; LD abs, ind. */
function knownMemory(opcode: number, cls: number): boolean {
  const mode = opcode >> 5, size = (opcode >> 3) & 3;
  if (cls === CLASS.LD) return (mode === 1 || mode === 2) && size !== 3;
  if (cls === CLASS.LDX) return mode === 3 || (mode === 4 && size !== 3) || mode === 6;
  if (cls === CLASS.ST) return mode === 3;
  return mode === 3 || mode === 6;
}
