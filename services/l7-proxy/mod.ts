/** @weir/l7-proxy, see README.md. @module */
export * from "./connection_judge.ts";
export * from "./dns/mod.ts";
export * from "./handle_address.ts";
export * from "./handle_source.ts";
export * from "./http1/connection.ts";
export * from "./http1/http1_error.ts";
export * from "./listener.ts";
export * from "./proxy.ts";
export * from "./record_sender.ts";
export * from "./redirected_connection.ts";
export * from "./rule_book.ts";
export * from "./server.ts";
export * from "./snapshot.ts";
export * from "./socket.ts";
