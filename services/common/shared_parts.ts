/**
 * What many objects of a stream have in common is sent once, and not with each of them.
 *
 *     PART 7: elements 0 .. 299        the elements of one repeated field, as protobuf has them
 *     PUT a:  own fields + 7[0, 300)
 *     PUT b:  own fields + 7[0, 12) + 7[13, 300)
 *
 * Parts never change, so both ends only need to agree on which of them the reader has. The writer forgets all of them (PART
 * 0) when they are many. A reader that misses one cannot read on: it begins a new stream, with no parts.
 * @module
 */
import type { Message } from "@weir/proto";
import { type PartRange, WatchEvent } from "@weir/proto/common";
import type { Change } from "./change_history.ts";
import { concatBytes, delimit } from "./framing.ts";
import { ProblemError } from "./problem.ts";

/** Elements of one repeated field, the same for ever. */
export class SharedPart {
  static #count = 0;
  /** Its number in this process. */
  readonly number: number = ++SharedPart.#count;
  /** A message of the collection with nothing but these elements. */
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** An object in pieces. */
export interface PartedObject {
  /** A message with all that is not in the parts. */
  readonly own: Uint8Array;
  /** Elements that follow. */
  readonly ranges: readonly { readonly part: SharedPart; readonly from: number; readonly to: number }[];
}

/** The pieces of an object; undefined where it is one piece. */
export type PartsOf<T> = (value: T) => PartedObject | undefined;

/** Bytes of parts that a reader has at most before they are forgotten. */
export const PARTS_BYTES_MAX = 4 * 1024 * 1024;

/** Bytes of parts that a reader takes: as many, and those of one more object. */
const READER_BYTES_MAX = 16 * PARTS_BYTES_MAX;

/** The writing end of one stream. */
export class PartWriter {
  readonly #sent = new Set<number>();
  #bytes = 0;

  /** A PUT as frames, after the parts that the reader has not. */
  encodePut<T>({ revision, name }: Change<T>, { own, ranges }: PartedObject): Uint8Array {
    const frames: Uint8Array[] = [];
    if (this.#bytes > PARTS_BYTES_MAX) {
      this.#sent.clear();
      this.#bytes = 0;
      frames.push(delimit(WatchEvent.encode({ type: "PART", part: 0 })));
    }
    for (const { part: { number, bytes } } of ranges) {
      if (this.#sent.has(number)) continue;
      this.#sent.add(number);
      this.#bytes += bytes.length;
      frames.push(delimit(WatchEvent.encode({ type: "PART", part: number, object: bytes })));
    }
    const parts = ranges.map(({ part, from, to }) => ({ part: part.number, from, to }));
    frames.push(delimit(WatchEvent.encode({ type: "PUT", revision, name, object: own, parts })));
    return concatBytes(frames);
  }
}

/** The reading end of one stream. Objects that have elements of one part share them: they are not to be changed. */
export class PartReader<T> {
  readonly #message: Message<T>;
  readonly #parts = new Map<number, { readonly field: string; readonly elements: readonly unknown[] }>();
  #bytes = 0;

  constructor(message: Message<T>) {
    this.#message = message;
  }

  /** Takes a part. @throws {ProblemError} PART_INVALID: not the elements of one repeated field, or too many bytes */
  take(number: number, bytes: Uint8Array): void {
    if (number === 0) {
      this.#parts.clear();
      this.#bytes = 0;
      return;
    }
    this.#bytes += bytes.length;
    if (this.#bytes > READER_BYTES_MAX) {
      throw partInvalid(`the parts have more than ${READER_BYTES_MAX} bytes together`, number);
    }
    const fields = Object.entries(this.#message.decode(bytes) as Record<string, unknown>)
      .filter((field): field is [string, unknown[]] => Array.isArray(field[1]) && field[1].length > 0);
    if (fields.length !== 1) {
      throw partInvalid(`it has elements of ${fields.length} fields, expected 1`, number);
    }
    const [[field, elements]] = fields;
    this.#parts.set(number, { field, elements });
  }

  /** The object. @throws {ProblemError} PART_INVALID: the reader has no such elements */
  join(own: Uint8Array, ranges: readonly PartRange[]): T {
    const value = this.#message.decode(own);
    for (const { part: number, from, to } of ranges) {
      const part = this.#parts.get(number);
      if (part === undefined || from > to || to > part.elements.length) {
        const has = part === undefined ? "is not known" : `has ${part.elements.length} elements`;
        throw partInvalid(`it ${has}, and ${from} to ${to} of it are asked for`, number);
      }
      const list = (value as Record<string, unknown[]>)[part.field];
      for (let at = from; at < to; at++) list.push(part.elements[at]);
    }
    return value;
  }
}

function partInvalid(why: string, number: number): ProblemError {
  return new ProblemError("PART_INVALID", {
    status: 502,
    detail: `Cannot read part ${number} of a stream: ${why}`,
    action: "Begin the stream again",
  });
}
