/** @weir/client, see README.md. @module */
export {};
