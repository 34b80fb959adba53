/**
 * A watch stream of the real HTTP API over a connection of its own that keeps nothing but sums: how many objects came, up to
 * which revision, and the sum of their revisions. Every object of a table has another revision, so two readers with the same
 * count and sum have been given the same objects.
 *
 *     connection ─▶ HTTP/1.1 chunks ─▶ frames (varint length, WatchEvent) ─▶ type and revision of each
 *
 * @module
 */

/** What came of one collection. */
export interface Counted {
  puts: number;
  deletes: number;
  /** Sum of the revisions of PUTs less those of DELETED, modulo 2^48. */
  sum: number;
  /** Newest revision that was told, and the epoch of the newest SYNCED. */
  revision: number;
  epoch: string;
  isSynced: boolean;
}

/** Options of {@link CountedStream}. */
export interface CountedStreamOptions {
  /** Path of the service's unix socket. */
  socket: string;
  path: string;
  /** A POST of protobuf bytes; absent: a GET. */
  body?: Uint8Array;
  /** Of which collection the events are when nothing says it. */
  collection?: string;
  onSynced?: (collection: string, counted: Counted) => void;
  onEnd: (error: Error) => void;
}

const PUT = 1, DELETED = 2, SYNCED = 3, COLLECTION = 5;
const SUM_MODULUS = 2 ** 48;
const BEGINNING_BUFFER_BYTES = 65_536, IDLE_BUFFER_BYTES = 2048;
const decoder = new TextDecoder(), encoder = new TextEncoder();

/** A stream that keeps nothing but sums. */
export class CountedStream {
  readonly collections = new Map<string, Counted>();
  /** Bytes that came, HTTP included. */
  bytes = 0;
  /** Pieces in which they came. */
  reads = 0;
  readonly #options: CountedStreamOptions;
  #current: Counted | undefined;
  #currentName = "";
  #connection: Deno.Conn | undefined;
  #carry = new Uint8Array(0);
  #head = "";
  #hasHead = false;
  /** Of the chunk that is read: bytes left, -1 while its length is read, and what was read of that. */
  #left = -1;
  #sizeText = "";

  constructor(options: CountedStreamOptions) {
    this.#options = options;
    if (options.collection !== undefined) this.#select(options.collection);
  }

  /** Connects and asks; resolves when the request is sent. */
  async open(): Promise<void> {
    const { socket, path, body } = this.#options;
    const connection = this.#connection = await connect(socket);
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
    this.#read(connection).catch((error) => this.#options.onEnd(error));
  }

  close(): void {
    this.#connection?.close();
  }

  async #read(connection: Deno.Conn): Promise<void> {
    let buffer = new Uint8Array(BEGINNING_BUFFER_BYTES);
    while (true) {
      const count = await connection.read(buffer);
      if (count === null) throw new Error("the stream ended");
      this.bytes += count;
      this.reads++;
      this.#take(buffer.subarray(0, count));
      if (count < IDLE_BUFFER_BYTES && buffer.length > IDLE_BUFFER_BYTES && this.#isSynced) {
        buffer = new Uint8Array(IDLE_BUFFER_BYTES);
      }
    }
  }

  get #isSynced(): boolean {
    for (const { isSynced } of this.collections.values()) if (!isSynced) return false;
    return true;
  }

  #take(piece: Uint8Array): void {
    let at = 0;
    if (!this.#hasHead) {
      const before = this.#head.length;
      this.#head += decoder.decode(piece);
      const end = this.#head.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!this.#head.startsWith("HTTP/1.1 200")) throw new Error(this.#head.slice(0, 400));
      at = end + 4 - before;
      this.#hasHead = true;
    }
    while (at < piece.length) {
      if (this.#left > 0) {
        const end = Math.min(piece.length, at + this.#left);
        this.#left -= end - at;
        this.#frames(piece.subarray(at, end));
        at = end;
        continue;
      }
      const byte = piece[at++];
      if (byte === 13 || byte === 10) {
        // The end of the length, or the empty line after a chunk.
        if (byte === 10 && this.#sizeText !== "") {
          this.#left = parseInt(this.#sizeText, 16);
          this.#sizeText = "";
          if (!(this.#left > 0)) throw new Error("the stream ended in order");
        }
      } else this.#sizeText += String.fromCharCode(byte);
    }
  }

  #frames(piece: Uint8Array): void {
    let bytes = piece;
    if (this.#carry.length > 0) {
      bytes = new Uint8Array(this.#carry.length + piece.length);
      bytes.set(this.#carry);
      bytes.set(piece, this.#carry.length);
    }
    let at = 0;
    while (at < bytes.length) {
      let length = 0, scale = 1, start = at;
      while (start < bytes.length) {
        const byte = bytes[start++];
        length += (byte & 127) * scale;
        scale *= 128;
        if (byte < 128) {
          scale = 0;
          break;
        }
      }
      if (scale !== 0 || start + length > bytes.length) break;
      at = start + length;
      const current = this.#current;
      if (current === undefined || !isPut(bytes, start)) {
        this.#event(bytes, start, at);
        continue;
      }
      // Nearly all events are these, a thousand million of them in a large cluster.
      let revision = 0;
      for (let byte = start + 3, scale = 1;; scale *= 128) {
        revision += (bytes[byte] & 127) * scale;
        if (bytes[byte++] < 128) break;
      }
      current.puts++;
      current.sum += revision;
      if (current.sum >= SUM_MODULUS) current.sum -= SUM_MODULUS;
      if (current.isSynced) current.revision = revision;
    }
    this.#carry = at === bytes.length ? EMPTY : bytes.slice(at);
  }

  /** A WatchEvent: fields in the order of their numbers, as protobufjs writes them. */
  #event(bytes: Uint8Array, from: number, to: number): void {
    let at = from, type = 0, revision = 0;
    if (bytes[at] === 0x08) {
      type = bytes[at + 1];
      at += 2;
    }
    if (bytes[at] === 0x10) {
      at++;
      for (let scale = 1;; scale *= 128) {
        const byte = bytes[at++];
        revision += (byte & 127) * scale;
        if (byte < 128) break;
      }
    }
    if (type === COLLECTION) {
      this.#select(decoder.decode(bytes.subarray(at + 2, to)));
      return;
    }
    const current = this.#current;
    if (current === undefined) throw new Error("an event of no collection");
    if (type === DELETED) {
      current.deletes++;
      if (current.isSynced) current.revision = revision;
    } else if (type === SYNCED) {
      current.revision = revision;
      // Tag and length of the epoch.
      if (bytes[at] === 0x2a) current.epoch = decoder.decode(bytes.subarray(at + 2, to));
      current.isSynced = true;
      this.#options.onSynced?.(this.#currentName, current);
    }
  }

  #select(name: string): void {
    this.#currentName = name;
    this.#current = this.collections.get(name);
    if (this.#current !== undefined) return;
    this.#current = { puts: 0, deletes: 0, sum: 0, revision: 0, epoch: "", isSynced: false };
    this.collections.set(name, this.#current);
  }
}

/** A PUT: type, then revision. */
function isPut(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0x08 && bytes[at + 1] === PUT && bytes[at + 2] === 0x10;
}

const EMPTY = new Uint8Array(0);

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
