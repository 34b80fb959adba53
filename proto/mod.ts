/** @weir/proto, see README.md. @module */
export {};
