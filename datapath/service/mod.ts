/** @weir/datapath, see README.md. @module */
export {};
