/** @weir/policy-engine/offline: what policies do, by files alone, see README.md. @module */
export * from "./difference.ts";
export type { End } from "./end.ts";
export * from "./inventory.ts";
export * from "./matrix.ts";
export * from "./port_range.ts";
