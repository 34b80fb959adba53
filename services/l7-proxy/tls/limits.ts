/**
 * What a connection may hold, and all connections together.
 * @module
 */

/** Bytes of a ClientHello; those of today's clients have up to 2 KiB. */
export const HELLO_BYTES_MAX = 16 * 1024;
/** Of it with what its records add, however small they are. */
export const HELLO_RECORDS_BYTES_MAX = 2 * HELLO_BYTES_MAX;
/** Bytes of a record without its header: 2^14, and what encryption may add (RFC 8446 5.2, RFC 5246 6.2.3). */
export const RECORD_BYTES_MAX = 16_384 + 2048;
/** Bytes that all connections hold together: more than one client's may. */
export const HELD_BYTES_TOTAL_MAX = 256 * 1024 * 1024;

/** What all connections of a proxy share. */
export class TlsShared {
  #held = 0;
  readonly #max: number;

  constructor(heldBytesTotalMax = HELD_BYTES_TOTAL_MAX) {
    this.#max = heldBytesTotalMax;
  }

  /** Bytes that all connections hold. */
  get heldBytes(): number {
    return this.#held;
  }

  /** Takes `bytes` more (fewer: a negative number); false: there is no room, and nothing was taken. */
  hold(bytes: number): boolean {
    if (bytes > 0 && this.#held + bytes > this.#max) return false;
    this.#held += bytes;
    return true;
  }
}
