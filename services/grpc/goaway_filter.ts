/**
 * HTTP/2 without GOAWAY. A process on Deno 2.9 that reads such a frame on a connection with some calls behind it dies within
 * nghttp2 (denoland/deno#36788), and clients say it whenever they close. So it is taken out before nghttp2 sees it: to a
 * server it says nothing but that no pushed streams are wanted, of which it has none; a client closes the connection.
 *
 *     socket ─▶ | preface | frame | GOAWAY | frame | … ─▶ filter ─▶ | preface | frame | frame | … ─▶ node:http2
 *     socket ◀─ everything ─────────────────────────────────────────────────────────────────────── node:http2
 *
 * @module
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** What a client sends before its first frame (RFC 9113, section 3.4), in bytes; a server sends nothing. */
export const PREFACE_BYTES = 24;
/** Length (24 bits), type, flags, stream: RFC 9113, section 4.1. */
const HEADER_BYTES = 9;
const GOAWAY = 7;
/** So many frames tell what a peer did last. */
const RECENT_FRAMES = 64;

/** Takes GOAWAY out of what one peer sends. */
export class GoawayFilter {
  readonly #onGoaway: () => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  /** Bytes to come of the preface or of a frame, and whether they pass. */
  #left: number;
  #isPassing = true;
  readonly #recent = new Uint8Array(RECENT_FRAMES);
  #frames = 0;

  constructor(prefaceBytes: number, onGoaway: () => void = () => {}) {
    this.#left = prefaceBytes;
    this.#onGoaway = onGoaway;
  }

  /** What passes of the next bytes, in order; views of `chunk` but for headers that came in pieces. */
  take(chunk: Uint8Array): Uint8Array[] {
    const passed: Uint8Array[] = [];
    let from = 0, at = 0;
    const pass = (to: number) => {
      if (to > from) passed.push(chunk.subarray(from, to));
    };
    while (at < chunk.length) {
      if (this.#left > 0) {
        const bytes = Math.min(this.#left, chunk.length - at);
        this.#left -= bytes;
        at += bytes;
        if (!this.#isPassing) from = at;
        continue;
      }
      if (this.#headerBytes === 0 && chunk.length - at >= HEADER_BYTES) {
        const start = at;
        at += HEADER_BYTES;
        if (this.#begin(chunk.subarray(start, at))) continue;
        pass(start);
        from = at;
        continue;
      }
      // A header in pieces is held back until its type is known.
      pass(at);
      const part = chunk.subarray(at, at + HEADER_BYTES - this.#headerBytes);
      this.#header.set(part, this.#headerBytes);
      this.#headerBytes += part.length;
      from = at += part.length;
      if (this.#headerBytes < HEADER_BYTES) continue;
      this.#headerBytes = 0;
      if (this.#begin(this.#header)) passed.push(this.#header.slice());
    }
    pass(at);
    return passed;
  }

  /** Types of the last frames that came, in any order. */
  get recentFrames(): number[] {
    return [...this.#recent.subarray(0, Math.min(this.#frames, RECENT_FRAMES))];
  }

  /** A frame begins. @returns whether it passes */
  #begin(header: Uint8Array): boolean {
    this.#left = header[0] << 16 | header[1] << 8 | header[2];
    this.#recent[this.#frames++ % RECENT_FRAMES] = header[3];
    this.#isPassing = header[3] !== GOAWAY;
    if (!this.#isPassing) this.#onGoaway();
    return this.#isPassing;
  }
}

/** A socket as node:http2 gets it. It ends with the socket, and the socket with it. */
export class FilteredSocket extends Duplex {
  readonly #socket: Socket;
  readonly #filter: GoawayFilter;
  /** Error of the GOAWAY that nghttp2 itself sent to a peer that it cuts; 0: none. */
  goawayCode = 0;

  constructor(socket: Socket, filter: GoawayFilter) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#filter = filter;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Uint8Array) => {
      let wantsMore = true;
      for (const part of filter.take(chunk)) wantsMore = this.push(part);
      if (!wantsMore) socket.pause();
    });
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  /** Types of the last frames that came, in any order. */
  get recentFrames(): number[] {
    return this.#filter.recentFrames;
  }

  /** Closes when what was written has gone out. */
  destroySoon(): void {
    if (this.writableFinished) return void this.destroy();
    this.once("finish", () => this.destroy());
    this.end();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#look(chunk);
    this.#socket.write(chunk, done);
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    for (const { chunk } of chunks) this.#look(chunk);
    this.#socket.cork();
    for (const { chunk } of chunks.slice(0, -1)) this.#socket.write(chunk);
    this.#socket.write(chunks[chunks.length - 1].chunk, done);
    this.#socket.uncork();
  }

  /** A frame is written in a piece of its own: length, type 7, flags, stream 0; last stream, error (RFC 9113, section 6.8). */
  #look(chunk: Uint8Array): void {
    if (chunk[3] !== GOAWAY || chunk.length < HEADER_BYTES + 8) return;
    const bytes = chunk[0] << 16 | chunk[1] << 8 | chunk[2];
    if (chunk.length !== HEADER_BYTES + bytes || chunk.subarray(4, HEADER_BYTES).some((byte) => byte !== 0)) {
      return;
    }
    this.goawayCode ||= new DataView(chunk.buffer, chunk.byteOffset).getUint32(HEADER_BYTES + 4);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
