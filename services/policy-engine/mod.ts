/** @weir/policy-engine, see README.md. @module */
export {};
