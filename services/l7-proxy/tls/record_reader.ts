/**
 * The record layer in the clear: which bytes of a direction belong to a record of which type, however they are cut.
 *
 *      type 1 | version 2 | length 2 | payload
 *
 * @module
 */
import { TlsFormError } from "./client_hello.ts";
import { RECORD_BYTES_MAX } from "./limits.ts";

/** Types of records. */
export const RecordType = { CHANGE_CIPHER_SPEC: 20, ALERT: 21, HANDSHAKE: 22, APPLICATION_DATA: 23 } as const;

const HEADER_BYTES = 5;

/** Reads one direction. */
export class RecordReader {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #left = 0;
  readonly #who: string;

  /** @param who "the client" */
  constructor(who: string) {
    this.#who = who;
  }

  /** Of the record that the last bytes were of. */
  get type(): number {
    return this.#header[0];
  }

  /** The last bytes were the end of a record. */
  get atEnd(): boolean {
    return this.#headerBytes === 0;
  }

  /**
   * Takes bytes up to the end of a header or of a record's payload. @returns where these end; `payload` is empty for those of a header
   * @throws {TlsFormError}
   */
  take(bytes: Uint8Array, at: number): { end: number; payload: Uint8Array } {
    if (this.#headerBytes < HEADER_BYTES) {
      const end = Math.min(bytes.length, at + HEADER_BYTES - this.#headerBytes);
      this.#header.set(bytes.subarray(at, end), this.#headerBytes);
      this.#headerBytes += end - at;
      this.#check();
      return { end, payload: bytes.subarray(end, end) };
    }
    const end = Math.min(bytes.length, at + this.#left);
    this.#left -= end - at;
    if (this.#left === 0) this.#headerBytes = 0;
    return { end, payload: bytes.subarray(at, end) };
  }

  /** As soon as a byte is there that cannot be: whoever speaks something else may wait for an answer. */
  #check(): void {
    const [type, major, , high, low] = this.#header, have = this.#headerBytes;
    if (
      type < RecordType.CHANGE_CIPHER_SPEC || type > RecordType.APPLICATION_DATA || have > 1 && major !== 3
    ) {
      throw new TlsFormError(`${this.#who} does not speak TLS`);
    }
    if (have < HEADER_BYTES) return;
    this.#left = high * 256 + low;
    if (this.#left === 0 || this.#left > RECORD_BYTES_MAX) {
      throw new TlsFormError(`a record of ${this.#left} bytes, wanted 1 to ${RECORD_BYTES_MAX}`);
    }
  }
}
