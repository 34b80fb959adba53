/** @weir/ui: the web page and its server, see README.md. @module */
export * from "./server/guard.ts";
export * from "./server/page_files.ts";
