/** @weir/object, see README.md. @module */
export {};
