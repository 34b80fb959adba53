/** @weir/loader, see README.md. @module */
export {};
