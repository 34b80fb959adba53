/** @weir/cli, see README.md. @module */
export {};
