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
