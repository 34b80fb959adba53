/** The command `weir`, and what debugging scripts share with it, see README.md. @module */
export * from "./args.ts";
export * from "./clients.ts";
export * from "./context.ts";
export * from "./label_text.ts";
export * from "./output.ts";
