/** The sandboxed verifier behind the gate: turns a load into its question and its answer into the gate's. @module */
import { createHash } from "node:crypto";
import { Btf, contractOf, isGplCompatible } from "@weir/object";
import { Sandbox, type SandboxOptions } from "@weir/sandbox";
import {
  codeLabel,
  type MapFacts,
  reportMessage,
  type SubprogramFacts,
  verifierVersion,
  verifierWasmUrl,
  type VerifyRequest,
} from "@weir/verifier";
import { BpfError } from "./errors.ts";
import { contentHash } from "./verdict_cache.ts";
import type { GateMap, GateReport, GateRequest, Verifier } from "./verifier.ts";

/** The sandboxed verifier behind the gate. */
export class SandboxVerifier implements Verifier {
  readonly mode = "verifier";
  readonly version: string;
  readonly kernelProfile = "default";
  readonly #sandbox: Sandbox;

  /** @throws {SandboxError} when Wasmtime or the module is missing */
  constructor(options: SandboxOptions = {}) {
    const wasm = options.wasm ?? readModule();
    this.#sandbox = Sandbox.open({ ...options, wasm });
    // The number alone would let an old verdict stand for a rebuilt module.
    this.version = `${verifierVersion}-${createHash("sha256").update(wasm).digest("hex").slice(0, 12)}`;
  }

  /** May throw: out of fuel, out of memory, trapped, malformed report. */
  verify(request: GateRequest): GateReport {
    // The sandbox believes an accept only with the hash of the request; these are the bytes that stand in it.
    const instructions = request.insns.slice();
    const report = this.#sandbox.verify({ ...toVerifyRequest(request), instructions });
    return {
      verdict: report.verdict,
      code: report.verdict === "accepted" ? "" : codeLabel(report.code),
      message: report.verdict === "accepted" ? "" : reportMessage(report).replace(/^WV\d{4} /, ""),
      hash: contentHash(instructions),
      visits: report.visits,
      timeUs: report.timeUs,
    };
  }
}

function readModule(): Uint8Array<ArrayBuffer> {
  try {
    return Deno.readFileSync(verifierWasmUrl);
  } catch (cause) {
    throw new BpfError("gate-failed", `Cannot open the verifier: ${(cause as Error).message}`, {
      cause,
      action: "Run deno task build",
    });
  }
}

/** The verifier's question for a program that is about to be loaded. Pure. */
export function toVerifyRequest(request: GateRequest): VerifyRequest {
  return {
    name: request.program,
    programType: request.type,
    attachType: request.expectedAttachType,
    programFlags: request.flags,
    gplCompatible: isGplCompatible(request.license),
    instructions: request.insns,
    maps: request.maps.map(mapFacts),
    subprograms: subprograms(request),
  };
}

function mapFacts(map: GateMap): MapFacts {
  const { type, keySize, valueSize, entriesMax, flags } = map.info;
  return {
    handle: map.fd,
    type,
    keySize,
    valueSize,
    maxEntries: entriesMax,
    flags,
    specialFields: map.specialFields ?? [],
    frozen: map.frozen !== undefined,
    ...(map.frozen === undefined ? {} : { contents: map.frozen }),
    ...(map.inner === undefined ? {} : {
      inner: {
        type: map.inner.type,
        keySize: map.inner.keySize,
        valueSize: map.inner.valueSize,
        maxEntries: map.inner.entriesMax,
        flags: map.inner.flags,
        specialFields: map.inner.specialFields ?? [],
      },
    }),
  };
}

/** Functions by `bpf_func_info`: instruction offset, BTF id of the FUNC. */
function subprograms(request: GateRequest): SubprogramFacts[] {
  const { funcInfo, funcInfoRecordBytes: size, btf: bytes } = request;
  if (funcInfo === undefined || bytes === undefined || size < 8) return [];
  const btf = Btf.parse(bytes);
  const view = new DataView(funcInfo.buffer, funcInfo.byteOffset, funcInfo.byteLength);
  const found: SubprogramFacts[] = [];
  for (let at = 0; at + size <= funcInfo.length; at += size) {
    const start = view.getUint32(at, true), id = view.getUint32(at + 4, true);
    const func = btf.type(id);
    const isGlobal = start !== 0 && func.kind === "func" && func.linkage === "global";
    const contract = isGlobal ? contractOf(btf, id, { programType: request.type }) : undefined;
    found.push({
      start,
      name: func.name,
      linkage: isGlobal ? "global" : "static",
      ...(contract === undefined ? {} : { arguments: contract.arguments, returns: contract.returns }),
    });
  }
  return found;
}
