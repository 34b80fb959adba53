/**
 * The body of a watch: the bytes of one stream, or of several collections in turn. Pulled as fast as its reader takes it.
 *
 *     one      PUT PUT SYNCED PUT ...
 *     several  COLLECTION nodes  PUT PUT SYNCED  COLLECTION ipcache  PUT PUT ...
 *
 * @module
 */
import { WatchEvent } from "@weir/proto/common";
import { concatBytes, delimit, type Encoding } from "./framing.ts";
import type { WatchStream } from "./watch_stream.ts";

const encoder = new TextEncoder();
/** Chunks up to here are copied to go out with the mark before them. */
const COPIED_BYTES_MAX = 4096;

/** A collection's stream in a body. */
export interface BodyPart {
  // deno-lint-ignore no-explicit-any
  readonly stream: WatchStream<any>;
  /** The collection, where the body is one of several: said before its chunks where the chunk before was another's. */
  readonly name?: string;
}

/** Says of which collection the events after it are, or (GONE) that there will be none of it. */
export function encodeMark(
  type: "COLLECTION" | "GONE",
  name: string,
  encoding: Encoding,
): Uint8Array<ArrayBuffer> {
  return encoding === "protobuf"
    ? delimit(WatchEvent.encode({ type, name }))
    : encoder.encode(JSON.stringify({ type, name }) + "\n");
}

/** The source of a byte stream. */
export class WatchBody implements UnderlyingDefaultSource<Uint8Array> {
  #parts: readonly BodyPart[];
  /** What goes before everything else. */
  #first: Uint8Array | undefined;
  /** The part that the newest chunk was of; -1: none. */
  #at = -1;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #pulled: (() => void) | undefined;
  #ended = false;

  /** @param first bytes that go before everything */
  constructor(parts: readonly BodyPart[], first?: Uint8Array) {
    this.#parts = parts;
    this.#first = first;
    for (const { stream } of parts) stream.body = this;
  }

  /** True while the reader waits for bytes. */
  get isPulled(): boolean {
    return this.#pulled !== undefined;
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller;
  }

  pull(): Promise<void> {
    return new Promise((resolve) => {
      this.#pulled = resolve;
      this.step();
    });
  }

  cancel(): void {
    this.#end(undefined);
  }

  /** Has every part say SYNCED: silence ends for all of them with one write. */
  beat(): void {
    for (const { stream } of this.#parts) stream.syncDue = true;
    this.step();
  }

  /** Gives the reader that waits the next chunk, if there is one. */
  step(): void {
    if (this.#pulled === undefined || this.#ended) return;
    const chunk = this.#next();
    if (chunk === undefined || this.#ended) return;
    this.#controller!.enqueue(chunk);
    const pulled = this.#pulled;
    this.#pulled = undefined;
    pulled();
  }

  /**
   * A collection cannot go on: its reader is told so while there are others, and sees a loss when there are not.
   * @param before what was taken for the reader and goes first
   */
  failPart(stream: BodyPart["stream"], error: unknown, before: readonly Uint8Array[] = []): void {
    const part = this.#parts.find((part) => part.stream === stream);
    if (part === undefined) return;
    if (part.name === undefined || this.#parts.length === 1) {
      this.fail(error);
      return;
    }
    this.#parts = this.#parts.filter((other) => other !== part);
    this.#at = -1;
    const gone = encodeMark("GONE", part.name, stream.encoding);
    this.#first = concatBytes([...this.#first === undefined ? [] : [this.#first], ...before, gone]);
    stream.end(error);
    this.step();
  }

  /** Cuts the body; its reader sees a loss. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#end(error);
    this.#controller?.error(error);
    this.#pulled?.();
    this.#pulled = undefined;
  }

  /**
   * The parts have their turns: a long beginning of one does not silence the others. What is short goes out together, for a
   * write costs the same whatever is in it.
   */
  #next(): Uint8Array | undefined {
    if (this.#first !== undefined) return this.#takeFirst();
    const parts = this.#parts, pieces: Uint8Array[] = [];
    let bytes = 0;
    for (let i = 1, from = this.#at; i <= parts.length && bytes <= COPIED_BYTES_MAX; i++) {
      const at = (from + i) % parts.length, { stream, name } = parts[at];
      let chunk: Uint8Array | undefined;
      try {
        chunk = stream.next();
      } catch (error) {
        this.failPart(stream, error, pieces);
        return this.#takeFirst();
      }
      if (chunk === undefined) continue;
      if (name !== undefined && at !== this.#at) pieces.push(encodeMark("COLLECTION", name, stream.encoding));
      this.#at = at;
      pieces.push(chunk);
      bytes += chunk.length;
    }
    if (pieces.length <= 1) return pieces[0];
    if (bytes <= 2 * COPIED_BYTES_MAX) return concatBytes(pieces);
    for (const piece of pieces.slice(0, -1)) this.#controller!.enqueue(piece);
    return pieces.at(-1);
  }

  #takeFirst(): Uint8Array | undefined {
    const first = this.#first;
    this.#first = undefined;
    return first;
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const { stream } of this.#parts) stream.end(error);
  }
}
