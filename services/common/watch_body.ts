/**
 * The body of a watch: the bytes of one stream, or of several collections in turn. Made as fast as its reader takes it.
 *
 *     one      PUT PUT SYNCED PUT ...
 *     several  COLLECTION nodes  PUT PUT SYNCED  COLLECTION ipcache  PUT PUT ...
 *
 * It goes to a {@link BodySink}: a byte stream that is pulled, or straight to a connection (`socket_sink.ts`).
 *
 * @module
 */
import type { Init } from "@weir/proto";
import { WatchEvent } from "@weir/proto/common";
import { concatBytes, delimit, type Encoding } from "./framing.ts";
import type { Problem } from "./problem.ts";
import type { WatchStream } from "./watch_stream.ts";

const encoder = new TextEncoder();
/** Chunks of several collections go out together until they have so many bytes. */
const GATHERED_BYTES_MAX = 4096;

/** A collection's stream in a body. */
export interface BodyPart {
  // deno-lint-ignore no-explicit-any
  readonly stream: WatchStream<any>;
  /** The collection, where the body is one of several: said before its chunks where the chunk before was another's. */
  readonly name?: string;
}

/** Where a body's bytes go. */
export interface BodySink {
  /** False while something that was written still waits for the reader. */
  readonly isDrained: boolean;
  /** Takes pieces that go out together; answers false when the next are to wait for {@link WatchBody.ready}. */
  write(pieces: readonly Uint8Array[]): boolean;
  /** Cuts: the reader sees a loss. */
  fail(error: unknown): void;
}

/** Marks of collections: the same bytes for all, so that what is made of them is the same too. */
const marks = new Map<string, Uint8Array<ArrayBuffer>>();

/**
 * Says of which collection the events after it are, or (GONE) that there will be none of it.
 * @param name of a collection that there is: its mark is kept
 */
export function encodeMark(
  type: "COLLECTION" | "GONE",
  name: string,
  encoding: Encoding,
): Uint8Array<ArrayBuffer> {
  const key = `${type} ${name} ${encoding}`;
  let mark = marks.get(key);
  if (mark === undefined) {
    mark = encodeEvent({ type, name }, encoding);
    marks.set(key, mark);
  }
  return mark;
}

/** Says that nothing of a collection comes, and why. */
export function encodeRefusal(name: string, problem: Problem, encoding: Encoding): Uint8Array<ArrayBuffer> {
  return encodeEvent({ type: "GONE", name, problem }, encoding);
}

function encodeEvent(event: Init<WatchEvent>, encoding: Encoding): Uint8Array<ArrayBuffer> {
  return encoding === "protobuf"
    ? delimit(WatchEvent.encode(event))
    : encoder.encode(JSON.stringify(event) + "\n");
}

function markOf({ name, stream }: BodyPart): Uint8Array | undefined {
  return name === undefined ? undefined : encodeMark("COLLECTION", name, stream.encoding);
}

/** The bytes of one watch, for one reader. */
export class WatchBody {
  #parts: readonly BodyPart[];
  /** What goes before everything else. */
  #first: Uint8Array | undefined;
  /** Marks of the parts. */
  #marks: readonly (Uint8Array | undefined)[];
  /** The part that the newest chunk was of; -1: none. */
  #at = -1;
  #sink: BodySink | undefined;
  #isReady = false;
  #ended = false;

  /** @param first bytes that go before everything */
  constructor(parts: readonly BodyPart[], first?: Uint8Array) {
    this.#parts = parts;
    this.#first = first;
    this.#marks = parts.map(markOf);
    for (const { stream } of parts) stream.body = this;
  }

  /** True while the reader has taken everything, and waits for more. */
  get isAwaited(): boolean {
    return this.#sink?.isDrained === true;
  }

  /** Says where the bytes go. Once; they begin to flow with the first {@link ready}. */
  attach(sink: BodySink): void {
    this.#sink = sink;
  }

  /** The sink takes more. */
  ready(): void {
    this.#isReady = true;
    this.step();
  }

  /** The reader is gone. Repeatable. */
  cancel(): void {
    this.#end(undefined);
  }

  /** Has every part say SYNCED: silence ends for all of them with one write. A reader that is busy hears it afterwards. */
  beat(): void {
    for (const { stream } of this.#parts) stream.syncDue = true;
    if (this.isAwaited) this.step();
  }

  /** Gives the sink what there is, as long as it takes it. */
  step(): void {
    while (this.#isReady && !this.#ended) {
      const pieces = this.#next();
      if (pieces === undefined || this.#ended) return;
      this.#isReady = this.#sink!.write(pieces);
    }
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
    this.#marks = this.#parts.map(markOf);
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
    this.#sink?.fail(error);
  }

  /**
   * The parts have their turns: a long beginning of one does not silence the others. What is short goes out together, for a
   * write costs the same whatever is in it.
   */
  #next(): readonly Uint8Array[] | undefined {
    if (this.#first !== undefined) return this.#takeFirst();
    const parts = this.#parts, pieces: Uint8Array[] = [];
    let bytes = 0;
    for (let i = 1, from = this.#at; i <= parts.length && bytes <= GATHERED_BYTES_MAX; i++) {
      const at = (from + i) % parts.length, { stream } = parts[at], mark = this.#marks[at];
      let chunk: Uint8Array | undefined;
      try {
        chunk = stream.next();
      } catch (error) {
        this.failPart(stream, error, pieces);
        return this.#takeFirst();
      }
      if (chunk === undefined) continue;
      if (mark !== undefined && at !== this.#at) pieces.push(mark);
      this.#at = at;
      pieces.push(chunk);
      bytes += chunk.length;
    }
    return pieces.length === 0 ? undefined : pieces;
  }

  #takeFirst(): readonly Uint8Array[] | undefined {
    const first = this.#first;
    this.#first = undefined;
    return first && [first];
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const { stream } of this.#parts) stream.end(error);
  }
}
