/** A watch as a byte stream that is pulled: what `Deno.serve` and tests take. @module */
import { concatBytes } from "./framing.ts";
import type { BodySink, WatchBody } from "./watch_body.ts";

/** Pieces up to so many bytes together are copied into one chunk. */
const COPIED_BYTES_MAX = 8192;

const bodies = new WeakMap<ReadableStream, WatchBody>();

/** The byte stream of a watch. It gives a chunk for each pull. */
export function streamOf(body: WatchBody): ReadableStream<Uint8Array> {
  const stream = new ReadableStream(new PulledBody(body), { highWaterMark: 0 });
  bodies.set(stream, body);
  return stream;
}

/** The watch behind a byte stream that nobody has read from; undefined when it is another stream. */
export function watchBehind(stream: ReadableStream | null): WatchBody | undefined {
  return stream === null || stream.locked ? undefined : bodies.get(stream);
}

class PulledBody implements BodySink, UnderlyingDefaultSource<Uint8Array> {
  readonly #body: WatchBody;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #pulled: (() => void) | undefined;

  constructor(body: WatchBody) {
    this.#body = body;
  }

  get isDrained(): boolean {
    return this.#pulled !== undefined;
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller;
    this.#body.attach(this);
  }

  pull(): Promise<void> {
    return new Promise((resolve) => {
      this.#pulled = resolve;
      this.#body.ready();
    });
  }

  cancel(): void {
    this.#body.cancel();
  }

  write(pieces: readonly Uint8Array[]): boolean {
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const chunks = pieces.length > 1 && bytes <= COPIED_BYTES_MAX ? [concatBytes(pieces)] : pieces;
    for (const chunk of chunks) this.#controller!.enqueue(chunk);
    this.#answer();
    return false;
  }

  fail(error: unknown): void {
    this.#controller?.error(error);
    this.#answer();
  }

  #answer(): void {
    const pulled = this.#pulled;
    this.#pulled = undefined;
    pulled?.();
  }
}
