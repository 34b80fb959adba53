/** @weir/tests, see README.md. @module */
export {};
