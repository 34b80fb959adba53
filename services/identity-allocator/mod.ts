/** @weir/identity-allocator, see README.md. @module */
export {};
