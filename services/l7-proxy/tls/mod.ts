/** TLS by the server that a client names: nothing is decrypted. @module */

export type { ClientHello } from "./client_hello.ts";
export { TlsShared } from "./limits.ts";
export { TlsConnection, type TlsConnectionOptions } from "./tls_connection.ts";
