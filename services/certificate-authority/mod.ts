/** @weir/certificate-authority, see README.md. @module */
export * from "./authority.ts";
export * from "./certificate_authority.ts";
export * from "./config.ts";
export * from "./member.ts";
export { createCertificateAuthority } from "./routes.ts";
