/** @weir/common/manifest: manifests of every kind, see README.md. @module */
export * from "./annotation.ts";
export * from "./document.ts";
export * from "./fault.ts";
export * from "./kind.ts";
export * from "./object.ts";
export * from "./origin.ts";
export * from "./reader.ts";
