/** @weir/endpoint-manager: the conductor of a node, see README.md. @module */
export * from "./config.ts";
export * from "./endpoint_manager.ts";
export * from "./endpoint_store.ts";
export * from "./node_file.ts";
export * from "./http_sources.ts";
export * from "./server.ts";
export * from "./sources.ts";
