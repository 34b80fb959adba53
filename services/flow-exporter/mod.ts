/** @weir/flow-exporter, see README.md. @module */
export {};
