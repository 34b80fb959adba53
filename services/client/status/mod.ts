/** @weir/client/status: what every service on every node says of itself, and what is wrong, for `weir status` and the web page. @module */
export * from "./findings.ts";
export * from "./node_paths.ts";
export * from "./question.ts";
export * from "./status_report.ts";
