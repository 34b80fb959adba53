/** @weir/agent: keeps the services of a node running, see README.md. @module */
export * from "./agent.ts";
export * from "./config.ts";
export * from "./layout.ts";
export * from "./permissions.ts";
export * from "./service_spec.ts";
