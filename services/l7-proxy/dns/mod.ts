/** DNS: questions judged by name, answers passed back once their addresses are in force. See README.md. @module */
export * from "./dns_shared.ts";
export * from "./dns_stream.ts";
export * from "./name_learner.ts";
export * from "./dns_datagrams.ts";
