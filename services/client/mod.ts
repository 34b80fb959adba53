/** @weir/client: typed client over the HTTP API of every service, see README.md. @module */
export * from "./client.ts";
export * from "./reflector.ts";
export * from "./transport.ts";
