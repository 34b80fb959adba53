/**
 * The two encodings on the wire: protobuf's JSON mapping and protobuf bytes; streams are newline-delimited JSON or
 * messages with a varint length before each.
 *
 *     length-delimited:  | varint n | n bytes | varint n | n bytes | ...
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { ProblemError } from "./problem.ts";

/** Media types. */
export const JSON_TYPE = "application/json";
export const NDJSON_TYPE = "application/x-ndjson";
export const PROTOBUF_TYPE = "application/x-protobuf";

/** Name of one of the two encodings. */
export type Encoding = "json" | "protobuf";

/** Longest frame that a reader of a stream takes, in bytes. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The encoding that an `Accept` header asks for; JSON unless protobuf is named. */
export function encodingOfAccept(accept: string | null | undefined): Encoding {
  return accept?.includes(PROTOBUF_TYPE) ? "protobuf" : "json";
}

/** The encoding of a body; JSON when the header is missing (curl without -H says form data, which is taken as JSON). */
export function encodingOfContent(contentType: string | null | undefined): Encoding {
  return contentType?.includes(PROTOBUF_TYPE) ? "protobuf" : "json";
}

/** One message as a body. */
export function encodeBody<T>(message: Message<T>, value: T, encoding: Encoding): Uint8Array<ArrayBuffer> {
  return encoding === "protobuf"
    ? message.encode(value as never) as Uint8Array<ArrayBuffer>
    : encoder.encode(JSON.stringify(message.toJson(value as never)) + "\n");
}

/**
 * A body as a message.
 * @throws {ProblemError} BODY_INVALID: not JSON, or not this message
 */
export function decodeBody<T>(message: Message<T>, bytes: Uint8Array, encoding: Encoding): T {
  try {
    return encoding === "protobuf"
      ? message.decode(bytes)
      : message.fromJson(JSON.parse(decoder.decode(bytes)));
  } catch (error) {
    const path = (error as { path?: string }).path;
    throw new ProblemError("BODY_INVALID", {
      status: 400,
      detail: `Cannot read the body as ${message.name}: ${(error as Error).message}`,
      expected: message.name,
      action: encoding === "json"
        ? "Send the message in protobuf's JSON mapping with Content-Type application/json"
        : "Send the bytes of the message",
      causes: path ? [{ path, detail: (error as Error).message }] : undefined,
    });
  }
}

/** A varint, as it stands before a frame. `value` may go up to 2^53. */
export function encodeVarint(value: number): Uint8Array {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length - 1; i++) {
    bytes[i] = value % 0x80 | 0x80;
    value = Math.floor(value / 0x80);
  }
  bytes[length - 1] = value;
  return bytes;
}

/** A frame: the varint length, then the bytes. */
export function delimit(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return concatBytes([encodeVarint(bytes.length), bytes]);
}

/** All parts as one array. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/**
 * Reads a stream of frames (`protobuf`) or lines (`json`), each as bytes without its length or newline. A stream that
 * ends within a frame ends without it.
 * @throws {ProblemError} FRAME_TOO_LARGE beyond {@link FRAME_BYTES_MAX}
 */
export async function* readFrames(
  stream: AsyncIterable<Uint8Array>,
  encoding: Encoding,
): AsyncGenerator<Uint8Array> {
  let pending: Uint8Array = new Uint8Array(0);
  let wanted = 0; // a frame needs at least this many bytes: no scanning of the same bytes again and again
  for await (const chunk of stream) {
    pending = pending.length === 0 ? chunk : concatBytes([pending, chunk]);
    if (pending.length < wanted) continue;
    let offset = 0;
    while (offset < pending.length) {
      const found = encoding === "protobuf" ? findDelimited(pending, offset) : findLine(pending, offset);
      if (found.need > FRAME_BYTES_MAX || pending.length - offset > FRAME_BYTES_MAX + chunk.length) {
        throw new ProblemError("FRAME_TOO_LARGE", {
          status: 502,
          detail: `Cannot read the stream: a frame has more than ${FRAME_BYTES_MAX} bytes`,
          expected: `at most ${FRAME_BYTES_MAX}`,
        });
      }
      wanted = found.need;
      if (found.end < 0) break;
      wanted = 0;
      if (found.end > found.start) yield pending.subarray(found.start, found.end);
      offset = found.next;
    }
    pending = pending.subarray(offset);
  }
}

interface Found {
  start: number;
  end: number; // -1: not complete
  next: number;
  need: number; // bytes needed from the frame's beginning
}

function findDelimited(bytes: Uint8Array, offset: number): Found {
  let length = 0, scale = 1;
  for (let i = offset; i < bytes.length && i < offset + 8; i++) {
    length += (bytes[i] & 0x7f) * scale;
    scale *= 0x80;
    if (bytes[i] < 0x80) {
      const start = i + 1, end = start + length;
      return { start, end: end <= bytes.length ? end : -1, next: end, need: end - offset };
    }
  }
  return { start: 0, end: -1, next: 0, need: bytes.length - offset >= 8 ? Infinity : 0 };
}

function findLine(bytes: Uint8Array, offset: number): Found {
  const newline = bytes.indexOf(10, offset);
  return newline < 0
    ? { start: 0, end: -1, next: 0, need: 0 }
    : { start: offset, end: newline, next: newline + 1, need: 0 };
}
