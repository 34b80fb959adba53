/** @weir/flow-filter: what somebody asks of flows, and which flows answer it, see README.md. @module */
export * from "./application_filter.ts";
export * from "./filter_engines.ts";
export * from "./flow_filter.ts";
export * from "./query_parameters.ts";
export * from "./query_time.ts";
export * from "./response_mask.ts";
