/**
 * Bytes that wait: the beginning of a message of which more must come.
 * @module
 */

/** What all connections of a protocol hold together. */
export interface HeldBudget {
  /** Takes `bytes` more (fewer: a negative number); false: there is no room, and nothing was taken. */
  hold(bytes: number): boolean;
}

/** Nobody holds more than this many times what is free, as with connections: who comes next finds room. */
const SHARE_FACTOR = 2;

/** What all connections of a protocol hold together, by client. */
export class SharedHold {
  #bytes = 0;
  readonly #byClient = new Map<string, number>();

  constructor(readonly bytesMax: number) {}

  /** Bytes that all hold. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The part of one client. */
  of(client: string): HeldBudget {
    return { hold: (bytes) => this.#hold(client, bytes) };
  }

  #hold(client: string, bytes: number): boolean {
    const own = (this.#byClient.get(client) ?? 0) + bytes, all = this.#bytes + bytes;
    if (bytes > 0 && own > SHARE_FACTOR * (this.bytesMax - all)) return false;
    this.#bytes = all;
    if (own > 0) this.#byClient.set(client, own);
    else this.#byClient.delete(client);
    return true;
  }
}

/** Why bytes could not be held. */
export class HeldBytesError extends Error {
  override name = "HeldBytesError";
}

const FIRST_BYTES = 512;

/** A buffer that grows by doubling, and whose room is counted among all connections'. */
export class HeldBytes {
  #buffer = new Uint8Array(0);
  #length = 0;

  /** @param max bytes of one message */
  constructor(readonly shared: HeldBudget, readonly max: number) {}

  get length(): number {
    return this.#length;
  }

  /** All of them; valid until the next call. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Makes room for `length` bytes in all, where it is known how many come. Throws {@link HeldBytesError}. */
  reserve(length: number): void {
    if (length > this.#buffer.length) this.#grow(length, length);
  }

  /** Throws {@link HeldBytesError} where there is no room. */
  append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#buffer.length) {
      this.#grow(length, Math.max(FIRST_BYTES, 2 ** Math.ceil(Math.log2(length))));
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  /** Hands over all of them, and holds none. */
  take(): Uint8Array {
    const { bytes } = this;
    this.shared.hold(-this.#buffer.length);
    this.#buffer = new Uint8Array(0);
    this.#length = 0;
    return bytes;
  }

  #grow(length: number, room: number): void {
    if (length > this.max) {
      throw new HeldBytesError(`${length} bytes to be held of one message, at most ${this.max} are`);
    }
    if (!this.shared.hold(room - this.#buffer.length)) {
      throw new HeldBytesError(
        "no room to hold a message: its client or all connections together hold as much as they may",
      );
    }
    const grown = new Uint8Array(room);
    grown.set(this.bytes);
    this.#buffer = grown;
  }
}
