/** @weir/report, see README.md. @module */
export {};
