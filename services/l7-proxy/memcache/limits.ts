/**
 * What a connection may hold, and all connections together.
 * @module
 */

/** Bytes of a command's line: a `get` of some hundred keys. */
export const LINE_BYTES_MAX = 32 * 1024;
/** Bytes of a line of an answer. */
export const ANSWER_LINE_BYTES_MAX = 8 * 1024;
/** Bytes that all connections hold together: more than one client's may. */
export const HELD_BYTES_TOTAL_MAX = 256 * 1024 * 1024;
/** Denials of one connection that wait for their turn. */
export const TURNS_MAX = 4096;

/** What all connections of a proxy share. */
export class MemcacheShared {
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
