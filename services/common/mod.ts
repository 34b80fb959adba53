/** @weir/common, see README.md. @module */
export {};
