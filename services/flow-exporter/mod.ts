/** @weir/flow-exporter: from the datapath's events to flows, see README.md. @module */
export * from "./event.ts";
export * from "./event_record.ts";
export * from "./flow_builder.ts";
export * from "./flow_exporter.ts";
export * from "./flow_query.ts";
export * from "./flow_ring.ts";
export * from "./known_names.ts";
export * from "./l7/l7_flow.ts";
export * from "./l7/records_server.ts";
export * from "./l7/redaction.ts";
export * from "./losses.ts";
export * from "./packet.ts";
export * from "./server.ts";
