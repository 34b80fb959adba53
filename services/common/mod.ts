/** @weir/common, see README.md. @module */
export * from "./address.ts";
export * from "./identity.ts";
export * from "./label_filter.ts";
export * from "./labels.ts";
export * from "./map_state.ts";
export * from "./port_prefix.ts";
export * from "./prefix.ts";
export * from "./prefix_trie.ts";
export * from "./selector.ts";

export * from "./api_server.ts";
export * from "./backoff.ts";
export * from "./body.ts";
export * from "./clock.ts";
export * from "./collection.ts";
export * from "./config.ts";
export * from "./framing.ts";
export * from "./health.ts";
export * from "./input_file.ts";
export * from "./lifecycle.ts";
export * from "./listener.ts";
export * from "./log.ts";
export * from "./metrics.ts";
export * from "./problem.ts";
export * from "./version.ts";
export * from "./watch_stream.ts";
export * from "./watched_table.ts";
