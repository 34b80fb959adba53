/** @weir/common, see README.md. @module */
export * from "./address.ts";
export * from "./identity.ts";
export * from "./label_filter.ts";
export * from "./labels.ts";
export * from "./port_prefix.ts";
export * from "./prefix.ts";
export * from "./selector.ts";
