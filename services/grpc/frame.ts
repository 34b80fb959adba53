/**
 * How messages lie in a call's body: a byte that says whether it is compressed, its length (32 bits, big endian), the message.
 *
 *     0 | 00 00 00 2a | 42 bytes    0 | 00 00 00 05 | 5 bytes   ...
 *
 * @module
 */
import { GrpcError } from "./status.ts";

/** Bytes in front of each message. */
export const FRAME_HEADER_BYTES = 5;

/** Puts messages one behind the other, each with its header: many in one write cost the reader one wake. Pure. */
export function framesOf(messages: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const size = messages.reduce((sum, { length }) => sum + FRAME_HEADER_BYTES + length, 0);
  const out = new Uint8Array(size), view = new DataView(out.buffer);
  let at = 0;
  for (const message of messages) {
    view.setUint32(at + 1, message.length);
    out.set(message, at + FRAME_HEADER_BYTES);
    at += FRAME_HEADER_BYTES + message.length;
  }
  return out;
}

/** Takes a body apart as its bytes come, and holds at most one message. */
export class FrameReader {
  #held: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(readonly messageBytesMax: number) {}

  /**
   * The messages that `chunk` completes.
   * @throws {GrpcError} UNIMPLEMENTED for a compressed one, RESOURCE_EXHAUSTED for one that is too long
   */
  push(chunk: Uint8Array): Uint8Array<ArrayBuffer>[] {
    const bytes = new Uint8Array(this.#held.length + chunk.length);
    bytes.set(this.#held);
    bytes.set(chunk, this.#held.length);
    const view = new DataView(bytes.buffer), messages: Uint8Array<ArrayBuffer>[] = [];
    let at = 0;
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      if (bytes[at] !== 0) {
        throw new GrpcError("UNIMPLEMENTED", "messages are not compressed here: send them as they are");
      }
      const length = view.getUint32(at + 1);
      if (length > this.messageBytesMax) {
        const text = `a message of ${length} bytes is too long: at most ${this.messageBytesMax}`;
        throw new GrpcError("RESOURCE_EXHAUSTED", text);
      }
      if (bytes.length - at - FRAME_HEADER_BYTES < length) break;
      messages.push(bytes.slice(at + FRAME_HEADER_BYTES, at + FRAME_HEADER_BYTES + length));
      at += FRAME_HEADER_BYTES + length;
    }
    this.#held = bytes.slice(at);
    return messages;
  }

  /** @throws {GrpcError} INVALID_ARGUMENT where the body ends inside a message */
  end(): void {
    if (this.#held.length > 0) throw new GrpcError("INVALID_ARGUMENT", "the request ends inside a message");
  }
}
