/** @weir/policy-engine/check: what is wrong or odd in manifests, by the manifests alone, see README.md. @module */
export * from "./check_inventory.ts";
export * from "./cluster_inventory.ts";
export * from "./finding.ts";
