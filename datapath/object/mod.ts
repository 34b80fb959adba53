/** @weir/object: reads compiled eBPF objects; every offset in them is hostile until checked. See README.md. @module */
export * from "./btf.ts";
export * from "./btf_ext.ts";
export * from "./elf.ts";
export { LIMITS, ObjectError, type ObjectErrorCode } from "./error.ts";
