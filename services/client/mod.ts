/** @weir/client: typed client over the HTTP API of every service, see README.md. @module */
export * from "./caller.ts";
export * from "./client.ts";
export * from "./collection_client.ts";
export * from "./query.ts";
export * from "./reflector.ts";
export * from "./connect.ts";
export * from "./transport.ts";
export * from "./sign_of_life.ts";
export * from "./trust.ts";
