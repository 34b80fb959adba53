/** @weir/grpc: a server and a client of gRPC on HTTP/2, see README.md. @module */
export * from "./client.ts";
export * from "./frame.ts";
export * from "./health.ts";
export * from "./listening.ts";
export * from "./methods.ts";
export * from "./server.ts";
export * from "./status.ts";
