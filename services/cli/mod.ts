/** The command `weir`, see README.md. @module */
export * from "./context.ts";
export * from "./output.ts";
export * from "./args.ts";
