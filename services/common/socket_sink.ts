/**
 * A watch written straight to its connection, as HTTP/1.1 chunks (RFC 9112, section 7.1): no stream and no promise between
 * the two. What many watchers are given is made into a chunk once (`http_chunk.ts`).
 *
 * What waits for the reader is what the kernel did not take: one write, and those before it up to the socket's high-water
 * mark (64 KiB). Then nothing is written before it has drained.
 *
 * @module
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { chunkAround, chunkHead, concatInChunk, CRLF } from "./http_chunk.ts";
import type { BodySink, WatchBody } from "./watch_body.ts";

/** Chunks up to so many bytes are made in one piece and remembered. */
const SHARED_BYTES_MAX = 131_072;
/** How many of the newest are remembered. */
const SHARED_MAX = 8;

/** The newest chunks by the pieces that they were made of. Pieces never change: the same ones make the same chunk. */
const shared: { pieces: readonly Uint8Array[]; chunk: Uint8Array }[] = [];
let oldest = 0;

/** Writes a watch to the connection of an answer whose head was sent, with `transfer-encoding: chunked`. */
export class SocketSink implements BodySink {
  readonly #answer: ServerResponse;
  readonly #socket: Socket;

  constructor(answer: ServerResponse, socket: Socket) {
    this.#answer = answer;
    this.#socket = socket;
  }

  get isDrained(): boolean {
    return this.#socket.writableLength === 0;
  }

  /** Begins, and ends the watch when the connection does. */
  carry(body: WatchBody): void {
    body.attach(this);
    this.#socket.on("drain", () => body.ready());
    this.#answer.on("close", () => body.cancel());
    body.ready();
  }

  write(pieces: readonly Uint8Array[]): boolean {
    const socket = this.#socket;
    if (socket.destroyed) return false;
    const chunk = chunkOf(pieces);
    if (chunk !== undefined) return socket.write(chunk);
    socket.cork();
    socket.write(chunkHead(bytesOf(pieces)));
    for (const piece of pieces) socket.write(piece);
    const isFlowing = socket.write(CRLF);
    socket.uncork();
    return isFlowing;
  }

  fail(): void {
    this.#answer.destroy();
  }
}

/** The pieces as one chunk; undefined where they are long, and copying them would cost more than it saves. */
function chunkOf(pieces: readonly Uint8Array[]): Uint8Array | undefined {
  const made = pieces.length === 1 ? chunkAround(pieces[0]) : undefined;
  if (made !== undefined) return made;
  for (const known of shared) if (isSame(known.pieces, pieces)) return known.chunk;
  if (bytesOf(pieces) > SHARED_BYTES_MAX) return undefined;
  const chunk = chunkAround(concatInChunk(pieces))!;
  shared[oldest] = { pieces, chunk };
  oldest = (oldest + 1) % SHARED_MAX;
  return chunk;
}

function isSame(some: readonly Uint8Array[], others: readonly Uint8Array[]): boolean {
  if (some.length !== others.length) return false;
  for (let i = 0; i < some.length; i++) if (some[i] !== others[i]) return false;
  return true;
}

function bytesOf(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const { length } of pieces) bytes += length;
  return bytes;
}
