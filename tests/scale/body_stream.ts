/**
 * One answer of a service over a connection of its own, read as HTTP/1.1 chunks to its last byte.
 *
 *     connection ─▶ what came at once ─▶ a small buffer of its own while little comes, a large one of all streams while much does
 *                                     ─▶ pieces of chunks
 *
 * @module
 */

/** What {@link BodyStream} asks, and who reads it. */
export interface BodyStreamOptions {
  /** Path of the service's unix socket. */
  socket: string;
  path: string;
  /** A POST of protobuf bytes; absent: a GET. */
  body?: Uint8Array;
  /** Bytes of a chunk; `left`: with these, of those that had not come; `isFirst`: they are its first. */
  onPiece: (piece: Uint8Array, left: number, isFirst: boolean) => void;
}

const SMALL_BYTES = 16 * 1024, LARGE_BYTES = 128 * 1024;
/** A stream keeps a large buffer while more may come, as long as there are no more than so many of them. */
const LARGE_MAX = 2000;
/** Large buffers that no stream reads into; the newest are in the processor's caches. */
const idle: Uint8Array[] = [];
let largeCount = 0;
const decoder = new TextDecoder(), encoder = new TextEncoder();

/** An answer that is not the stream that was asked for. */
export class AnswerError extends Error {
  readonly status: number;
  constructor(status: number, head: string) {
    super(head.match(/"code":\s*"(\w+)"/)?.[1] ?? `status ${status}`);
    this.status = status;
  }
}

/** One answer of a service. */
export class BodyStream {
  /** Bytes that came, HTTP included, and the reads in which they did. */
  bytes = 0;
  reads = 0;
  readonly #options: BodyStreamOptions;
  #connection: Deno.Conn | undefined;
  #isClosed = false;
  #head = "";
  #hasHead = false;
  /** Bytes of the chunk that have not come; 0 while its length is read, of which there is `#size`, -1: nothing. */
  #left = 0;
  #size = -1;
  #isFirst = false;

  constructor(options: BodyStreamOptions) {
    this.#options = options;
  }

  /** The service answered with a stream. */
  get isAnswered(): boolean {
    return this.#hasHead;
  }

  /** Connects, asks, and reads until the stream ends. Rejects with why it did, always. */
  async follow(): Promise<never> {
    const { socket, path, body } = this.#options;
    const connection = this.#connection = await connect(socket);
    try {
      if (this.#isClosed) throw new Error("closed");
      const lines = [
        `${body === undefined ? "GET" : "POST"} ${path} HTTP/1.1`,
        "host: localhost",
        "accept: application/x-protobuf",
        ...(body === undefined
          ? []
          : ["content-type: application/x-protobuf", `content-length: ${body.length}`]),
      ];
      await writeAll(connection, encoder.encode(lines.join("\r\n") + "\r\n\r\n"));
      if (body !== undefined) await writeAll(connection, body);
      return await this.#read(connection);
    } finally {
      this.close();
    }
  }

  /** Ends it; repeatable. */
  close(): void {
    this.#isClosed = true;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
  }

  async #read(connection: Deno.Conn): Promise<never> {
    const small = new Uint8Array(SMALL_BYTES);
    let large: Uint8Array | undefined;
    const giveBack = () => {
      if (large === undefined) return;
      largeCount--;
      idle.push(large);
      large = undefined;
    };
    try {
      while (true) {
        const buffer = large ?? small;
        const count = await connection.read(buffer);
        if (count === null) throw new Error("the stream ended");
        this.bytes += count;
        this.reads++;
        this.#take(buffer.subarray(0, count));
        if (large === undefined && count === SMALL_BYTES) {
          large = idle.pop() ?? new Uint8Array(LARGE_BYTES);
          largeCount++;
        } else if (count < SMALL_BYTES || (count < LARGE_BYTES && largeCount > LARGE_MAX)) giveBack();
      }
    } finally {
      giveBack();
    }
  }

  #take(piece: Uint8Array): void {
    let at = 0;
    if (!this.#hasHead) {
      const before = this.#head.length;
      this.#head += decoder.decode(piece);
      const end = this.#head.indexOf("\r\n\r\n");
      if (end < 0) return;
      const status = Number(this.#head.slice("HTTP/1.1 ".length).slice(0, 3));
      if (status !== 200) throw new AnswerError(status, this.#head);
      at = end + 4 - before;
      this.#head = "";
      this.#hasHead = true;
    }
    const { onPiece } = this.#options;
    while (at < piece.length) {
      if (this.#left > 0) {
        const end = Math.min(piece.length, at + this.#left), left = this.#left;
        this.#left -= end - at;
        onPiece(piece.subarray(at, end), left, this.#isFirst);
        this.#isFirst = false;
        at = end;
        continue;
      }
      const byte = piece[at++];
      if (byte === CR) continue;
      if (byte !== LF) {
        this.#size = Math.max(0, this.#size) * 16 + HEX.indexOf(byte);
        continue;
      }
      // The end of the length, or the empty line after a chunk.
      if (this.#size === 0) throw new Error("the stream ended in order");
      if (this.#size < 0) continue;
      this.#left = this.#size;
      this.#size = -1;
      this.#isFirst = true;
    }
  }
}

const CR = 13, LF = 10;
const HEX = encoder.encode("0123456789abcdef");

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** A connection, as soon as the server's queue of new ones has room: a unix socket answers EAGAIN instead of waiting. */
async function connect(path: string): Promise<Deno.Conn> {
  for (let tries = 0;; tries++) {
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (error) {
      if (!(error instanceof Deno.errors.WouldBlock) || tries > 600) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
