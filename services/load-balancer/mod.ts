/** @weir/load-balancer, see README.md. @module */
export {};
