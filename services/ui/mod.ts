/** @weir/ui: the web page and its server, see README.md. @module */
export * from "./server/guard.ts";
export * from "./server/page_files.ts";
export type { OpenPage, PageOptions, UiServices } from "./server/page_server.ts";
export { type RunningUi, startUi, type UiOptions } from "./server/ui_server.ts";
export type { WebTls } from "./server/web_listener.ts";
export { readWebTls, readWebToken } from "./server/web_tls.ts";
