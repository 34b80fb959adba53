/** @weir/net, see README.md. @module */
export {};
