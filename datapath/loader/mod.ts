/** @weir/loader: eBPF objects, the gate, maps, links, pins and the event ring. See README.md. @module */
export * from "./errno.ts";
export * from "./errors.ts";
export { Gate, type GateDecision, GateError, kernelTags } from "./gate.ts";
export { expedited, waitForPrograms } from "./grace_period.ts";
export * from "./info.ts";
export { closeFd } from "./library.ts";
export * from "./link.ts";
export * from "./map.ts";
export * from "./object.ts";
export * from "./pin.ts";
export * from "./probe.ts";
export * from "./program.ts";
export * from "./ring.ts";
export { SandboxVerifier, toVerifyRequest } from "./sandbox_verifier.ts";
export { checkStructure, type StructuralFinding, StructuralVerifier } from "./structural_verifier.ts";
export * from "./syscall.ts";
export { contentHash, VerdictCache, verdictKey, VERDICTS_MAX } from "./verdict_cache.ts";
export type * from "./verifier.ts";
