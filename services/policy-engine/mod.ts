/** @weir/policy-engine, see README.md. @module */
export * from "./cidr_identities.ts";
export * from "./cidr_numbers.ts";
export * from "./cookie_registry.ts";
export * from "./manifest.ts";
export { type Fault, type FaultCode, formatFault } from "@weir/common/manifest";
export * from "./named_ports.ts";
export * from "./policy.ts";
export * from "./policy_group.ts";
export * from "./policy_repository.ts";
export * from "./selector_cache.ts";
export * from "./explain.ts";
export * from "./implied_labels.ts";
export * from "./pair_state.ts";
export * from "./create_policy_engine.ts";
export * from "./policy_engine.ts";
