/**
 * Whether bytes are a message that every decoder takes, without making the message: what passes through from others is looked at so. It costs
 * a tenth of decoding.
 *
 *     field number << 3 | kind │ a number (0) │ 8 bytes (1) │ length and bytes (2) │ 4 bytes (5)
 *
 * Decoders skip fields that they do not know, and so does this. They stop at text that is no UTF-8; printers stop at times beyond the year 9999
 * and at a google.protobuf.Any of a type that they do not know.
 * @module
 */
import protobuf from "protobufjs/light";
import { typeOf } from "./root.ts";

/** Decoders allow more; no message of ours comes near. */
const DEPTH_MAX = 32;
const SECONDS_MAX = 253_402_300_799, NANOS_MAX = 999_999_999;
const FIELD_NUMBER_MAX = 2 ** 29 - 1;

/** What is within one field that is written with a length. */
type Within = Shape | "text" | "numbers" | "bytes";

/** Of a message: those fields that have an inside. */
interface Shape {
  readonly name: string;
  readonly fields: Map<number, Within>;
  /** Takes text fields that are asked for. */
  readonly taken: Map<number, string>;
}

/** What was found: the texts that were asked for, by their path; the last of each, as decoders take it. */
export type WireTexts = ReadonlyMap<string, string>;
/** The outermost fields that are written with a length, as they come, and where their insides are. */
export type FieldListener = (field: number, start: number, end: number) => void;

/** Checks messages of one type. */
export class WireCheck {
  readonly #shape: Shape;

  /**
   * @param name of the message: `observer.GetFlowsResponse`
   * @param texts paths of text fields whose values are wanted: `flow.node_name`
   */
  constructor(name: string, texts: readonly string[] = []) {
    const shapes = new Map<string, Shape>();
    this.#shape = shapeOf(typeOf(name), shapes);
    for (const path of texts) take(typeOf(name), path, shapes);
  }

  /** @throws {RangeError} bytes that are no such message, and why */
  check(bytes: Uint8Array, onField?: FieldListener): WireTexts {
    const found = new Map<string, string>();
    new Walk(new WireReader(bytes, 0), found, onField).message(this.#shape, bytes.length, 0);
    return found;
  }
}

function shapeOf(type: protobuf.Type, shapes: Map<string, Shape>): Shape {
  const known = shapes.get(type.fullName);
  if (known !== undefined) return known;
  const shape: Shape = { name: type.fullName, fields: new Map(), taken: new Map() };
  shapes.set(type.fullName, shape);
  for (const field of type.fieldsArray) {
    field.resolve();
    if (field.map) throw new Error(`Cannot check ${type.fullName}.${field.name}: it is a map`);
    if (field.resolvedType instanceof protobuf.Type) {
      shape.fields.set(field.id, shapeOf(field.resolvedType, shapes));
    } else if (field.type === "string") shape.fields.set(field.id, "text");
    else if (field.type === "bytes") shape.fields.set(field.id, "bytes");
    else if (field.repeated) {
      const isFixed = /fixed|float|double/.test(field.type);
      shape.fields.set(field.id, isFixed ? "bytes" : "numbers");
    }
  }
  return shape;
}

function take(type: protobuf.Type, path: string, shapes: Map<string, Shape>): void {
  let at: protobuf.Type = type;
  const names = path.split(".");
  for (const name of names.slice(0, -1)) at = at.fields[name].resolve().resolvedType as protobuf.Type;
  shapes.get(at.fullName)!.taken.set(at.fields[names.at(-1)!].id, path);
}

class Walk {
  readonly #reader: WireReader;
  readonly #found: Map<string, string>;
  readonly #onField: FieldListener | undefined;

  constructor(reader: WireReader, found: Map<string, string>, onField: FieldListener | undefined) {
    this.#reader = reader;
    this.#found = found;
    this.#onField = onField;
  }

  message(shape: Shape, end: number, depth: number): void {
    const reader = this.#reader;
    if (depth > DEPTH_MAX) throw new RangeError("messages lie too deep within one another");
    if (shape.name === ".google.protobuf.Any") throw new RangeError("it carries an extension");
    if (shape.name === ".google.protobuf.Timestamp") {
      reader.time(end);
      return;
    }
    while (reader.at < end) {
      const { field, kind } = reader.tag(end);
      if (kind !== 2) {
        reader.skip(kind, end);
        continue;
      }
      const below = reader.length(end) + reader.at;
      if (depth === 0) this.#onField?.(field, reader.at, below);
      const within = shape.fields.get(field);
      if (within === undefined || within === "bytes") reader.at = below;
      else if (within === "numbers") { while (reader.at < below) reader.varint(below); }
      else if (within === "text") {
        const path = shape.taken.get(field);
        if (path === undefined) reader.ensureText(below);
        else this.#found.set(path, reader.text(below));
      } else this.message(within, below, depth + 1);
    }
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** A place in a message. */
export class WireReader {
  at: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, start: number) {
    this.at = start;
    this.#bytes = bytes;
  }

  /** A number without sign; those above 2^53 are not exact. */
  varint(end: number): number {
    const bytes = this.#bytes;
    for (let value = 0, scale = 1, length = 1; length <= 10 && this.at < end; length++, scale *= 128) {
      const byte = bytes[this.at++];
      value += (byte & 127) * scale;
      if (byte >= 128) continue;
      if (length === 10 && byte > 1) break;
      return value;
    }
    throw new RangeError("a number is cut off or too long");
  }

  tag(end: number): { field: number; kind: number } {
    const tag = this.varint(end), field = Math.floor(tag / 8);
    if (field < 1 || field > FIELD_NUMBER_MAX) throw new RangeError(`there is no field ${field}`);
    return { field, kind: tag % 8 };
  }

  /** Length of what follows. */
  length(end: number): number {
    const length = this.varint(end);
    if (length > end - this.at) throw new RangeError("a field is cut off");
    return length;
  }

  skip(kind: number, end: number): void {
    if (kind === 0) return void this.varint(end);
    if (kind !== 1 && kind !== 2 && kind !== 5) throw new RangeError(`there is no kind ${kind} of field`);
    const length = kind === 2 ? this.length(end) : kind === 1 ? 8 : 4;
    if (length > end - this.at) throw new RangeError("a field is cut off");
    this.at += length;
  }

  ensureText(end: number): void {
    const bytes = this.#bytes;
    for (let at = this.at; at < end; at++) {
      if (bytes[at] >= 128) return void this.text(end);
    }
    this.at = end;
  }

  text(end: number): string {
    const bytes = this.#bytes.subarray(this.at, end);
    this.at = end;
    try {
      return utf8.decode(bytes);
    } catch {
      throw new RangeError("a text is no UTF-8");
    }
  }

  /** A google.protobuf.Timestamp, as Unix milliseconds with a fraction. */
  time(end: number): number {
    let seconds = 0, nanos = 0;
    while (this.at < end) {
      const { field, kind } = this.tag(end);
      if (kind === 0 && field === 1) seconds = this.varint(end);
      else if (kind === 0 && field === 2) nanos = this.varint(end);
      else this.skip(kind, end);
    }
    // Before 1970 is 2^64 minus something here, and no time of anything that we tell of.
    if (seconds > SECONDS_MAX || nanos > NANOS_MAX) throw new RangeError("a time is out of range");
    return seconds * 1000 + nanos / 1e6;
  }
}
