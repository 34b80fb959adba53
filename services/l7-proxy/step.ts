/**
 * What comes of bytes of one direction: what to write to either side, in order, and whether the connection ends.
 * @module
 */

/** The outcome of one call. Arrays may be views of the bytes that were handed in: write or copy them before those are reused. */
export interface Step {
  readonly toServer: Uint8Array[];
  readonly toClient: Uint8Array[];
  /** The connection is to be closed once both were written, and why; null: it goes on. */
  readonly close: string | null;
}

/** Adds bytes to write; what lies behind the last ones in one buffer is written with them. */
export function pushBytes(list: Uint8Array[], bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  const last = list.at(-1);
  if (
    last !== undefined && last.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset
  ) {
    list[list.length - 1] = new Uint8Array(bytes.buffer, last.byteOffset, last.length + bytes.length);
  } else {
    list.push(bytes);
  }
}
