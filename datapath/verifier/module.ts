/**
 * The verifier under the plain `WebAssembly` of Deno and browsers. The sandbox runs the same module in Wasmtime.
 *
 * The module imports nothing and exports: `memory`, `version() -> u32`, `alloc(length) -> pointer` (0: too
 * large), `verify(pointer, length) -> u64`: the report's pointer, and its length in the high half. One instance verifies one
 * program and is thrown away.
 * @module
 */
import { decodeReport, type VerifyReport } from "./report.ts";
import { encodeRequest, requestHash, type VerifyRequest } from "./request.ts";

/** Grows with every change that can change a verdict; verdicts of other versions do not count. */
export const verifierVersion = "0.2.13";

/** Where `scripts/build.ts` puts the module. */
export const verifierWasmUrl: URL = new URL("../../.build/verifier.wasm", import.meta.url);

/** Exports of an instance of the module. */
export interface VerifierExports {
  memory: WebAssembly.Memory;
  alloc(length: number): number;
  verify(pointer: number, length: number): bigint;
}

/** The answer of the module cannot be used. */
export class VerifierModuleError extends Error {
  constructor(
    readonly code: "request-too-large" | "hash-mismatch" | "report-out-of-bounds",
    message: string,
  ) {
    super(message);
    this.name = "VerifierModuleError";
  }
}

/** A fresh instance: it serves one `verify`. */
export function instantiate(module: WebAssembly.Module): VerifierExports {
  return new WebAssembly.Instance(module, {}).exports as unknown as VerifierExports;
}

/** Where the module says that its report lies; nobody has checked it against the memory's size yet. */
function reportPlace(result: bigint): { pointer: number; length: number } {
  return { pointer: Number(result & 0xffffffffn), length: Number(BigInt.asUintN(32, result >> 32n)) };
}

/** Hands request bytes to a fresh instance and returns a copy of the report's bytes. */
export function verifyBytes(module: WebAssembly.Module, request: Uint8Array): Uint8Array {
  const instance = instantiate(module);
  const pointer = instance.alloc(request.length) >>> 0;
  if (pointer === 0) {
    throw new VerifierModuleError("request-too-large", `Cannot verify: request of ${request.length} bytes`);
  }
  new Uint8Array(instance.memory.buffer).set(request, pointer);
  const { pointer: report, length } = reportPlace(instance.verify(pointer, request.length));
  const size = instance.memory.buffer.byteLength;
  if (length > size || report > size - length) {
    throw new VerifierModuleError("report-out-of-bounds", `Report at ${report}, ${length} bytes, of ${size}`);
  }
  return new Uint8Array(instance.memory.buffer).slice(report, report + length);
}

/** Verifies one program. Throws `WireError` or `VerifierModuleError` where the answer cannot be trusted. */
export function verify(module: WebAssembly.Module, request: VerifyRequest): VerifyReport {
  const bytes = encodeRequest(request);
  return checkReport(bytes, decodeReport(verifyBytes(module, bytes)));
}

/** Returns the report if it answers these request bytes; throws else. */
export function checkReport(request: Uint8Array, report: VerifyReport): VerifyReport {
  const wanted = requestHash(request);
  if (report.requestHash !== wanted) {
    throw new VerifierModuleError(
      "hash-mismatch",
      `Report answers ${report.requestHash}; sent was ${wanted}`,
    );
  }
  return report;
}
