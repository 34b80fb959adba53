/** @weir/relay: the flows of all nodes in one stream, see README.md. @module */
export * from "./flow_merge.ts";
export * from "./get_flows.ts";
export * from "./node_link.ts";
export * from "./node_links.ts";
export * from "./observer.ts";
export * from "./response_bytes.ts";
