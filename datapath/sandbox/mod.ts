/** @weir/sandbox, see README.md. @module */
export {};
