/** @weir/verifier, see README.md. @module */
export {};
