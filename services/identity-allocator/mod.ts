/** @weir/identity-allocator, see README.md. @module */
export * from "./config.ts";
export * from "./identity_allocator.ts";
export { createIdentityAllocator } from "./routes.ts";
