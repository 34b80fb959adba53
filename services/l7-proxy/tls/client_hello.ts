/**
 * Reads a ClientHello (RFC 8446 4.1.2; older versions have the same form) as far as it says which server is meant.
 *
 *      type 1 | length 3 | version 2 | random 32 | session <0..32> | suites <2..> | compression <1..> | extensions <0..>
 *
 * Strict: what two readers could read differently is refused.
 * @module
 */

/** Bytes that are no TLS, or a hello that is none. */
export class TlsFormError extends Error {
  override name = "TlsFormError";
}

/** What is to be known of it. */
export interface ClientHello {
  /** As it was sent; "" where the client names none. */
  readonly serverName: string;
  /** It has an encrypted hello (ECH, or GREASE in its place): `serverName` is then the outer name, and the server may be another. */
  readonly encryptedHello: boolean;
}

/** Handshake message's type and length. */
export const MESSAGE_HEADER_BYTES = 4;
export const CLIENT_HELLO = 1;

const SERVER_NAME = 0;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;
const HOST_NAME = 0;

/** @param message the whole message with its header. @throws {TlsFormError} */
export function readClientHello(message: Uint8Array): ClientHello {
  const cursor = new Cursor(message, "the ClientHello");
  if (cursor.u8() !== CLIENT_HELLO) throw new TlsFormError("the first message is no ClientHello");
  const body = cursor.vector(3);
  cursor.ends();
  if (body.u8() !== 3) throw new TlsFormError("a ClientHello of a version before SSL 3");
  body.skip(1 + 32);
  if (body.vector(1).left > 32) throw new TlsFormError("a session id of more than 32 bytes");
  const suites = body.vector(2).left;
  if (suites === 0 || suites % 2 === 1) throw new TlsFormError(`cipher suites in ${suites} bytes`);
  if (body.vector(1).left === 0) throw new TlsFormError("no compression method, not even none");
  let serverName = "", encryptedHello = false;
  if (body.left === 0) return { serverName, encryptedHello };
  const extensions = body.vector(2), seen = new Set<number>();
  body.ends();
  while (extensions.left > 0) {
    const type = extensions.u16(), content = extensions.vector(2);
    if (seen.has(type)) throw new TlsFormError(`extension ${type} twice`);
    seen.add(type);
    if (type === SERVER_NAME) serverName = readServerName(content);
    if (type === ENCRYPTED_CLIENT_HELLO) encryptedHello = true;
  }
  return { serverName, encryptedHello };
}

/** One name of a host (RFC 6066 3): lists of several are read differently by every library. */
function readServerName(content: Cursor): string {
  const list = content.vector(2);
  content.ends();
  const type = list.u8();
  if (type !== HOST_NAME) throw new TlsFormError(`a server name of type ${type}, want 0, a host's`);
  const name = list.vector(2).text();
  if (list.left > 0) throw new TlsFormError("several server names in one ClientHello");
  // A name ends where C ends it, for some servers; and what is beyond ASCII has no one meaning.
  if (!/^[!-~]{1,255}$/.test(name)) throw new TlsFormError(`${JSON.stringify(name)} is no name of a server`);
  return name;
}

/** Reads within bounds. */
class Cursor {
  #at = 0;
  constructor(readonly bytes: Uint8Array, readonly what: string) {}

  get left(): number {
    return this.bytes.length - this.#at;
  }

  u8(): number {
    return this.bytes[this.skip(1)];
  }

  u16(): number {
    return this.#number(2);
  }

  /** The content of a vector whose length has this many bytes. */
  vector(lengthBytes: number): Cursor {
    const length = this.#number(lengthBytes), at = this.skip(length);
    return new Cursor(this.bytes.subarray(at, at + length), this.what);
  }

  text(): string {
    return String.fromCharCode(
      ...this.bytes.subarray(this.#at, Math.min(this.bytes.length, this.#at + 1024)),
    );
  }

  /** Where it was before. */
  skip(bytes: number): number {
    const at = this.#at;
    if (bytes > this.left) throw new TlsFormError(`${this.what} ends within a field`);
    this.#at += bytes;
    return at;
  }

  ends(): void {
    if (this.left > 0) throw new TlsFormError(`${this.what} has ${this.left} bytes too many`);
  }

  #number(bytes: number): number {
    const at = this.skip(bytes);
    let number = 0;
    for (let place = at; place < at + bytes; place++) number = number * 256 + this.bytes[place];
    return number;
  }
}
