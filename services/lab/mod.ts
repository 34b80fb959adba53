/** @weir/lab, see README.md. @module */
export {};
