/** @weir/policy-engine/recorded: policies tried on recorded connections, see README.md. @module */
export * from "./flow_file.ts";
export * from "./judged_cluster.ts";
export * from "./map_cost.ts";
export * from "./preview.ts";
export { clusterOf, type EndKind, type RecordedEnd } from "./recorded_end.ts";
export * from "./recommend.ts";
export * from "./recommend_yaml.ts";
export * from "./recorder.ts";
export * from "./stored.ts";
