/** @weir/endpoint-manager: the conductor of a node, see README.md. @module */
export * from "./config.ts";
export * from "./endpoint_manager.ts";
export * from "./endpoint_store.ts";
export * from "./ports.ts";
export * from "./peers.ts";
export * from "./server.ts";
