/**
 * What a connection may hold, and all connections together.
 * @module
 */

import { SharedHold } from "../held_bytes.ts";

/** Bytes of one request, and of one response: a broker's own limit is 100 MiB. */
export const FRAME_BYTES_MAX = 100 * 1024 * 1024;
/** Bytes of a request that are held until it is judged. Producers send 1 MiB at most unless told otherwise. */
export const REQUEST_HELD_BYTES_MAX = 4 * 1024 * 1024;
/** Bytes of a Produce to a single topic that are held; the rest passes as it comes. */
export const PRODUCE_HELD_BYTES = 64 * 1024;
/** Bytes of an answer that is changed: to ApiVersions and Metadata. */
export const CHANGED_BYTES_MAX = 16 * 1024 * 1024;
/** Bytes that all connections hold together. */
export const HELD_BYTES_TOTAL_MAX = 256 * 1024 * 1024;
/** Requests of one connection without an answer yet; clients have 5, librdkafka up to 1000. */
export const PENDING_MAX = 4096;
/** Topics, partitions and the like of one request, and of one answer that is read. */
export const REQUEST_ELEMENTS_MAX = 65_536;
export const ANSWER_ELEMENTS_MAX = 400_000;
/** Bytes of our answers that wait behind the broker's. */
export const ANSWERS_WAITING_BYTES_MAX = 4 * 1024 * 1024;
/** Characters of a topic's name; a broker takes 249. */
export const TOPIC_LENGTH_MAX = 255;

/** Topics that one connection fetches. */
export const FETCHED_TOPICS_MAX = 10_000;

/** What all connections of a proxy share. */
export class KafkaShared {
  readonly held: SharedHold;

  constructor(heldBytesTotalMax = HELD_BYTES_TOTAL_MAX) {
    this.held = new SharedHold(heldBytesTotalMax);
  }

  /** Bytes that all connections hold. */
  get heldBytes(): number {
    return this.held.bytes;
  }
}
