/** @weir/flow-exporter/hubble: Hubble's API on a node, see ../README.md. @module */
export * from "./agent_events.ts";
export * from "./flow_bytes.ts";
export * from "./namespaces.ts";
export * from "./observer.ts";
export * from "./peers.ts";
export * from "./server.ts";
