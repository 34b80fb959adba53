/** @weir/maps, see README.md. @module */
export {};
