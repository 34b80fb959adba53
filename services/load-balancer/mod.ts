/** @weir/load-balancer, see README.md. @module */
export * from "./config.ts";
export * from "./load_balancer.ts";
export * from "./maglev_size.ts";
export * from "./manifest.ts";
export * from "./manifest_directory.ts";
export * from "./model.ts";
export { createLoadBalancer } from "./routes.ts";
