/** @weir/flow-history: what flows were, and what held then, see README.md. @module */
export * from "./history.ts";
export * from "./intake.ts";
export * from "./relay_follower.ts";
export * from "./routes.ts";
