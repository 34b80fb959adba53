/** @weir/agent, see README.md. @module */
export {};
