/**
 * Our verifier as the tests see it: bytes and maps in, verdict and claims out. It runs in the sandbox; running
 * out of a limit there is a verdict too.
 *
 * @module
 */

import { OutOfFuel, OutOfMemory, Sandbox, SandboxError, type SandboxReport } from "@weir/sandbox";
import {
  type AbstractValue,
  type Claim,
  codeLabel,
  encodeRequest,
  reportMessage,
  type VerifyReport,
  type VerifyRequest,
} from "@weir/verifier";

/** A program of the generator. */
export interface SubjectProgram {
  readonly type: number;
  readonly attach: number;
  readonly flags: number;
  readonly instructions: Uint8Array<ArrayBuffer>;
  readonly maps: readonly {
    fd: number;
    type: number;
    keyBytes: number;
    valueBytes: number;
    entriesMax: number;
    flags: number;
  }[];
}

/** What ours says. */
export interface Verdict {
  /** `broken` when the module trapped or its report cannot be read: a defect of the verifier. */
  readonly verdict: VerifyReport["verdict"] | "broken";
  /** `WV0123`, empty for accepted. */
  readonly code: string;
  readonly message: string;
  readonly report: SandboxReport | null;
  /** Why `value` cannot be in that register before that instruction; null when it can. */
  contradiction(instruction: number, register: number, value: bigint): string | null;
}

/** An opened verifier. */
export class Subject {
  readonly sandbox: Sandbox;

  constructor() {
    this.sandbox = Sandbox.open();
  }

  /** Frees it. */
  close(): void {
    this.sandbox.close();
  }

  /** Verifies a generated program; with `claims`, {@link Verdict.contradiction} can be asked. */
  verify(program: SubjectProgram, claims: boolean): Verdict {
    return this.verifyRequest(requestOf(program, claims));
  }

  /** The same without pruning, within `visitsMax`. */
  verifyExhaustively(program: SubjectProgram, visitsMax: number): Verdict {
    return this.verifyRequest({
      ...requestOf(program, false),
      exhaustive: true,
      limits: { visits: visitsMax },
    });
  }

  /** The bytes of a generated program's request. */
  encode(program: SubjectProgram, claims: boolean): Uint8Array<ArrayBuffer> {
    return encodeRequest(requestOf(program, claims));
  }

  /** Verifies any request. */
  verifyRequest(request: VerifyRequest): Verdict {
    try {
      return verdictOf(this.sandbox.verify(request));
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      const limit = error instanceof OutOfFuel || error instanceof OutOfMemory;
      return {
        verdict: limit ? "limit" : "broken",
        code: error.code,
        message: error.message,
        report: null,
        contradiction: () => null,
      };
    }
  }
}

/** A report as a verdict. */
export function verdictOf<T extends VerifyReport>(report: T): Omit<Verdict, "report"> & { report: T } {
  const claims = new Map(report.claims.map((claim) => [claim.instruction, claim]));
  return {
    verdict: report.verdict,
    code: report.code === 0 ? "" : codeLabel(report.code),
    message: report.verdict === "accepted" ? "" : `${reportMessage(report)} (at ${report.instruction})`,
    report,
    contradiction: (instruction, register, value) => contradiction(claims, instruction, register, value),
  };
}

function requestOf(program: SubjectProgram, claims: boolean): VerifyRequest {
  return {
    name: "generated",
    programType: program.type,
    attachType: program.attach,
    programFlags: program.flags,
    gplCompatible: true,
    instructions: program.instructions,
    maps: program.maps.map((map) => ({
      handle: map.fd,
      type: map.type,
      keySize: map.keyBytes,
      valueSize: map.valueBytes,
      maxEntries: map.entriesMax,
      flags: map.flags,
    })),
    claims: claims ? "all" : undefined,
  };
}

function contradiction(
  claims: Map<number, Claim>,
  instruction: number,
  register: number,
  value: bigint,
): string | null {
  const claim = claims.get(instruction);
  if (claim === undefined) return "ours says that no path comes here";
  return outside(claim.registers[register], value);
}

/** Which fact about the number does not hold for `value`; null when all hold. */
export function outside(claimed: AbstractValue, value: bigint): string | null {
  if (claimed.kind !== "number") return null;
  const signed = BigInt.asIntN(64, value);
  const low = BigInt.asUintN(32, value), lowSigned = BigInt.asIntN(32, value);
  const facts: [string, boolean][] = [
    [`unsigned ${claimed.umin}..${claimed.umax}`, value >= claimed.umin && value <= claimed.umax],
    [`signed ${claimed.smin}..${claimed.smax}`, signed >= claimed.smin && signed <= claimed.smax],
    [
      `unsigned 32-bit ${claimed.u32min}..${claimed.u32max}`,
      low >= BigInt(claimed.u32min) && low <= BigInt(claimed.u32max),
    ],
    [
      `signed 32-bit ${claimed.s32min}..${claimed.s32max}`,
      lowSigned >= BigInt(claimed.s32min) && lowSigned <= BigInt(claimed.s32max),
    ],
    [
      `bits 0x${claimed.bits.toString(16)} except in 0x${claimed.unknown.toString(16)}`,
      ((value ^ claimed.bits) & ~claimed.unknown & 0xffffffffffffffffn) === 0n,
    ],
  ];
  const broken = facts.find(([, holds]) => !holds);
  return broken === undefined ? null : `ours claims ${broken[0]}`;
}
