/**
 * What a connection may hold, and all connections together.
 * @module
 */

import { SharedHold } from "../held_bytes.ts";
import { PreparedStatements } from "./prepared_statements.ts";

/** Bytes of one request's body, streamed or not. A server's own limit is 16 or 256 MiB. */
export const REQUEST_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes of one answer's body. */
export const RESPONSE_BYTES_MAX = 256 * 1024 * 1024;
/** Bytes of a request that are held until it is judged. */
export const HELD_BYTES_MAX = 4 * 1024 * 1024;
/** Of them with what a segment or a header adds. */
export const HELD_MESSAGE_BYTES_MAX = HELD_BYTES_MAX + 1024 * 1024;
/** Bytes that all connections hold together. */
export const HELD_BYTES_TOTAL_MAX = 256 * 1024 * 1024;
/** Bytes that a client may send between STARTUP and its answer. */
export const EARLY_BYTES_MAX = 64 * 1024;
/** Bytes of the bodies of OPTIONS, STARTUP, REGISTER and AUTH_RESPONSE. */
export const CONTROL_BYTES_MAX = 64 * 1024;
/** Requests of one connection without an answer yet. */
export const PENDING_MAX = 8192;
/** Statements of them whose names lack a keyspace, in all. */
export const PENDING_UNQUALIFIED_MAX = 65_536;
/** Of these when a `USE` comes: each is judged anew. */
export const PENDING_AT_USE_MAX = 1024;
/** Bytes of our answers that wait until the server's message in progress has ended. */
export const ANSWERS_WAITING_BYTES_MAX = 256 * 1024;
/** Bytes of an answer's beginning that are read for what it tells: a prepared id, a keyspace, an error's code. */
export const PEEK_BYTES_MAX = 64 * 1024;

/** What all connections of a proxy share. */
export class CassandraShared {
  readonly prepared: PreparedStatements;
  readonly held: SharedHold;

  constructor(options: { prepared?: PreparedStatements; heldBytesTotalMax?: number } = {}) {
    this.prepared = options.prepared ?? new PreparedStatements();
    this.held = new SharedHold(options.heldBytesTotalMax ?? HELD_BYTES_TOTAL_MAX);
  }

  /** Bytes that all connections hold. */
  get heldBytes(): number {
    return this.held.bytes;
  }
}
