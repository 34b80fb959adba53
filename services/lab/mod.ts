/** @weir/lab: a cluster of network namespaces on one host, see README.md. @module */
export * from "./expectations.ts";
export * from "./lab.ts";
export * from "./manifest.ts";
export * from "./manifests.ts";
export * from "./topology.ts";
