/** Messages of a stream: each behind its length, two bytes (RFC 1035, 4.2.2). @module */
import { type HeldBudget, HeldBytes } from "../held_bytes.ts";
import { MESSAGE_BYTES_MAX } from "./limits.ts";

const LENGTH_BYTES = 2;

/** Cuts one direction of a stream into messages. */
export class FrameReader {
  readonly #held: HeldBytes;

  constructor(budget: HeldBudget) {
    this.#held = new HeldBytes(budget, LENGTH_BYTES + MESSAGE_BYTES_MAX);
  }

  /** Whether the beginning of a message is here. */
  get isWithin(): boolean {
    return this.#held.length > 0;
  }

  /**
   * Takes bytes, and calls `take` for each message that is whole now; its bytes may be used again afterwards.
   * @throws {HeldBytesError} no room for the beginning of one
   */
  push(bytes: Uint8Array, take: (message: Uint8Array) => void): void {
    const held = this.#held;
    let at = 0;
    while (at < bytes.length) {
      if (held.length === 0) {
        const end = at + LENGTH_BYTES + (bytes[at] << 8 | bytes[at + 1]);
        if (at + LENGTH_BYTES <= bytes.length && end <= bytes.length) {
          take(bytes.subarray(at + LENGTH_BYTES, end));
          at = end;
          continue;
        }
      }
      const wanted = held.length < LENGTH_BYTES
        ? LENGTH_BYTES
        : LENGTH_BYTES + (held.bytes[0] << 8 | held.bytes[1]);
      const part = bytes.subarray(at, at + wanted - held.length);
      held.append(part);
      at += part.length;
      const isLengthKnown = held.length >= LENGTH_BYTES;
      if (isLengthKnown && held.length === LENGTH_BYTES + (held.bytes[0] << 8 | held.bytes[1])) {
        take(held.take().subarray(LENGTH_BYTES));
      }
    }
  }

  /** Gives back what is held. */
  end(): void {
    this.#held.take();
  }
}

/** A message as it goes onto a stream. */
export function framed(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(LENGTH_BYTES + message.length);
  frame[0] = message.length >> 8;
  frame[1] = message.length & 0xff;
  frame.set(message, LENGTH_BYTES);
  return frame;
}
