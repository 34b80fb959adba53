/** @weir/endpoint-manager, see README.md. @module */
export {};
