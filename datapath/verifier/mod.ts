/** @weir/verifier: the protocol of the verifier module, see README.md. @module */
export * from "./request.ts";
export * from "./report.ts";
export * from "./codes.ts";
export * from "./module.ts";
export * from "./kernel_types.ts";
