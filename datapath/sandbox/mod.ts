/** @weir/sandbox: the verifier in Wasmtime, see README.md. @module */
export * from "./errors.ts";
export { WASMTIME_VERSION } from "./layout.ts";
export { defaultLibraryPath } from "./library.ts";
export type { ModuleOrigin } from "./module_cache.ts";
export * from "./sandbox.ts";
