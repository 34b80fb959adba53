/**
 * What a server answers to a ClientHello, as far as it decides whether another one comes: HelloRetryRequest is a ServerHello whose random says so
 * (RFC 8446 4.1.3).
 * @module
 */
import { TlsFormError } from "./client_hello.ts";

/** Bytes of the message up to the end of its random: type, length, version, random. */
const START_BYTES = 1 + 3 + 2 + 32;
const SERVER_HELLO = 2;
/** SHA-256 of "HelloRetryRequest". */
const RETRY_RANDOM = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";

/** Reads the beginning of the server's first message. */
export class ServerHelloReader {
  readonly #start = new Uint8Array(START_BYTES);
  #bytes = 0;

  /** @returns what it is, as soon as that is known. @throws {TlsFormError} */
  take(payload: Uint8Array): "retry" | "hello" | undefined {
    const part = payload.subarray(0, START_BYTES - this.#bytes);
    this.#start.set(part, this.#bytes);
    this.#bytes += part.length;
    if (this.#bytes > 0 && this.#start[0] !== SERVER_HELLO) {
      throw new TlsFormError(`the server begins with message ${this.#start[0]}, want 2, ServerHello`);
    }
    if (this.#bytes < START_BYTES) return undefined;
    return this.#start.subarray(-32).toHex() === RETRY_RANDOM ? "retry" : "hello";
  }
}
