/** One side of a connection, and the bytes that came from it. @module */

/** What is needed of a socket; `Deno.TcpConn` is one. */
export interface Socket {
  read(bytes: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  closeWrite(): Promise<void>;
  close(): void;
}

/** The socket of what has none. */
export const NO_SOCKET: Socket = {
  read: () => Promise.resolve(null),
  write: () => Promise.reject(new Error("no socket")),
  closeWrite: () => Promise.resolve(),
  close: () => {},
};

/** Bytes of a direction's buffer. */
export const BUFFER_BYTES = 64 * 1024;
/** What a connection has while little comes: most are idle most of the time. */
export const SMALL_BUFFER_BYTES = 4 * 1024;
/** Large buffers that are kept for the next who needs one. */
const FREE_BUFFERS_MAX = 64;

const free: Uint8Array[] = [];

/** Writes all of it. */
export async function writeAll(socket: Socket, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await socket.write(at === 0 ? bytes : bytes.subarray(at));
  }
}

/** Closes what may be closed already. */
export function closeQuietly(socket: Socket | undefined): void {
  try {
    socket?.close();
  } catch {
    // It is.
  }
}

/**
 * What came from a socket and is not used yet: `bytes` from `start` to `end`. At most one read is under way; it writes behind `end`,
 * and nothing in front of it is moved meanwhile.
 */
export class Inflow {
  bytes: Uint8Array = new Uint8Array(SMALL_BUFFER_BYTES);
  start = 0;
  end = 0;
  /** The other side sends no more. */
  ended = false;
  #pending: Promise<boolean> | undefined;
  #small: Uint8Array | undefined;
  #wasFull = false;
  /** Called when a read fails, also one that nobody waits for. */
  onError: (() => void) | undefined;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get size(): number {
    return this.end - this.start;
  }

  /** No more can be read before something is used. */
  get isFull(): boolean {
    return this.start === 0 && this.end === BUFFER_BYTES;
  }

  /** Takes note that everything before `at` was used. */
  use(at: number): void {
    this.start = at;
    if (at === this.end && this.#pending === undefined) {
      this.start = 0;
      this.end = 0;
    }
  }

  /** Reads once more. @returns false at the end of the stream, or when there is no room */
  fill(): Promise<boolean> {
    if (this.#pending !== undefined) return this.#pending;
    if (this.ended) return Promise.resolve(false);
    this.#makeRoom();
    if (this.end === this.bytes.length) return Promise.resolve(false);
    return this.#pending = this.#read();
  }

  /** Begins to read what may come next, and does not wait for it. */
  prefetch(): void {
    if (this.#pending !== undefined || this.ended || this.isFull) return;
    if (this.size === 0) this.#release();
    this.fill().catch(() => {}); // onError has heard of it
  }

  /** Gives a large buffer back. Not while a read is under way. */
  close(): void {
    if (this.#pending === undefined) this.#release();
  }

  async #read(): Promise<boolean> {
    const { bytes, end } = this;
    try {
      const count = await this.#socket.read(end === 0 ? bytes : bytes.subarray(end));
      if (count === null) this.ended = true;
      else this.end = end + count;
      this.#wasFull = this.end === bytes.length;
      return count !== null;
    } catch (error) {
      this.ended = true;
      this.onError?.();
      throw error;
    } finally {
      this.#pending = undefined;
    }
  }

  #makeRoom(): void {
    if (this.start === this.end) {
      this.start = 0;
      this.end = 0;
    }
    const isSmall = this.bytes.length < BUFFER_BYTES;
    if (isSmall && (this.end === this.bytes.length || this.#wasFull)) {
      const large = free.pop() ?? new Uint8Array(BUFFER_BYTES);
      large.set(this.bytes.subarray(this.start, this.end));
      this.#small = this.bytes;
      this.bytes = large;
    } else if (this.end === this.bytes.length && this.start > 0) {
      this.bytes.copyWithin(0, this.start, this.end);
    } else return;
    this.end -= this.start;
    this.start = 0;
  }

  #release(): void {
    if (this.#small === undefined) return;
    if (free.length < FREE_BUFFERS_MAX) free.push(this.bytes);
    this.bytes = this.#small;
    this.#small = undefined;
    this.#wasFull = false;
    this.start = 0;
    this.end = 0;
  }
}
