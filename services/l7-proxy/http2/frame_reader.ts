/**
 * Frames of one side from its bytes: what a frame may be, where it may stand, and the blocks of fields, which may come in several.
 * What they mean for a stream is for who is told.
 * @module
 */
import { FLAG, FRAME, FRAME_HEAD_BYTES, readUint32, SETTING, WINDOW_MAX } from "./frame.ts";
import type { HeaderList } from "./header_field.ts";
import { HpackDecoder } from "./hpack_decoder.ts";
import { Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";

/** Who is told. Bytes are valid during the call. */
export interface FrameHandler {
  headers(stream: number, list: HeaderList, endStream: boolean): void;
  /** @param flowBytes what the frame takes from windows: its padding too */
  data(stream: number, bytes: Uint8Array, flowBytes: number, endStream: boolean): void;
  reset(stream: number, errorCode: number): void;
  settings(settings: ReadonlyMap<number, number>): void;
  settingsAck(): void;
  ping(payload: Uint8Array): void;
  goaway(last: number, errorCode: number): void;
  window(stream: number, increment: number): void;
  /** A frame that says nothing here: of a kind that nobody knows, PRIORITY, an answer to PING. */
  nothing(): void;
}

/** The block that more frames belong to. */
interface Block {
  readonly stream: number;
  readonly endStream: boolean;
  parts: Uint8Array[];
  bytes: number;
  frames: number;
}

/** Reads one side. */
export class FrameReader {
  readonly decoder = new HpackDecoder();
  #isFirst = true;
  #block: Block | undefined;
  #blocks = 0;
  readonly #handler: FrameHandler;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Number of the block of which more frames must come; 0: there is none. */
  get block(): number {
    return this.#block === undefined ? 0 : this.#blocks;
  }

  /**
   * Reads the frame that begins at `start`.
   * @returns where the next begins, or -1: it is not there whole
   * @throws {Http2Error}
   */
  read(bytes: Uint8Array, start: number, end: number): number {
    if (this.#isFirst && end > start + 3 && bytes[start + 3] !== FRAME.SETTINGS) {
      throw new Http2Error("not-http2", printable(bytes.subarray(start, end)));
    }
    if (end - start < FRAME_HEAD_BYTES) return -1;
    const length = bytes[start] << 16 | bytes[start + 1] << 8 | bytes[start + 2];
    const type = bytes[start + 3],
      flags = bytes[start + 4],
      stream = readUint32(bytes, start + 5) & WINDOW_MAX;
    if (length > HTTP2_LIMITS.frame) {
      throw new Http2Error(this.#isFirst ? "not-http2" : "bad-frame-size", `${length} bytes`);
    }
    if (this.#isFirst && (flags & FLAG.ACK) !== 0) throw new Http2Error("not-http2", "an answer to SETTINGS");
    this.#isFirst = false;
    const from = start + FRAME_HEAD_BYTES, to = from + length;
    if (to > end) return -1;
    const block = this.#block;
    if (block !== undefined && (type !== FRAME.CONTINUATION || stream !== block.stream)) {
      throw new Http2Error("bad-frame", `type ${type} inside the fields of stream ${block.stream}`);
    }
    this.#frame(type, flags, stream, bytes.subarray(from, to));
    return to;
  }

  #frame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const handler = this.#handler, { length } = payload;
    switch (type) {
      case FRAME.DATA: {
        needsStream(type, stream);
        const bytes = (flags & FLAG.PADDED) === 0 ? payload : withoutPadding(payload, 0);
        return handler.data(stream, bytes, length, (flags & FLAG.END_STREAM) !== 0);
      }
      case FRAME.HEADERS: {
        needsStream(type, stream);
        const skipped = (flags & FLAG.PRIORITY) === 0 ? 0 : 5;
        let bytes = (flags & FLAG.PADDED) === 0 ? payload : withoutPadding(payload, skipped);
        if (bytes.length < skipped) throw new Http2Error("bad-frame-size", `HEADERS of ${length} bytes`);
        bytes = bytes.subarray(skipped);
        this.#blocks++;
        this.#block = { stream, endStream: (flags & FLAG.END_STREAM) !== 0, parts: [], bytes: 0, frames: -1 };
        return this.#fields(bytes, flags);
      }
      case FRAME.CONTINUATION:
        if (this.#block === undefined) throw new Http2Error("bad-frame", "CONTINUATION without HEADERS");
        return this.#fields(payload, flags);
      case FRAME.PRIORITY:
        needsStream(type, stream);
        if (length !== 5) throw new Http2Error("bad-frame-size", `PRIORITY of ${length} bytes`);
        return handler.nothing();
      case FRAME.RST_STREAM:
        needsStream(type, stream);
        if (length !== 4) throw new Http2Error("bad-frame-size", `RST_STREAM of ${length} bytes`);
        return handler.reset(stream, readUint32(payload, 0));
      case FRAME.SETTINGS:
        needsNoStream(type, stream);
        if ((flags & FLAG.ACK) !== 0) {
          if (length !== 0) {
            throw new Http2Error("bad-frame-size", `an answer to SETTINGS of ${length} bytes`);
          }
          return handler.settingsAck();
        }
        return handler.settings(readSettings(payload));
      case FRAME.PUSH_PROMISE:
        throw new Http2Error("push");
      case FRAME.PING:
        needsNoStream(type, stream);
        if (length !== 8) throw new Http2Error("bad-frame-size", `PING of ${length} bytes`);
        return (flags & FLAG.ACK) !== 0 ? handler.nothing() : handler.ping(payload);
      case FRAME.GOAWAY:
        needsNoStream(type, stream);
        if (length < 8) throw new Http2Error("bad-frame-size", `GOAWAY of ${length} bytes`);
        return handler.goaway(readUint32(payload, 0) & WINDOW_MAX, readUint32(payload, 4));
      case FRAME.WINDOW_UPDATE: {
        if (length !== 4) throw new Http2Error("bad-frame-size", `WINDOW_UPDATE of ${length} bytes`);
        const increment = readUint32(payload, 0) & WINDOW_MAX;
        if (increment === 0) throw new Http2Error("zero-increment", `stream ${stream}`);
        return handler.window(stream, increment);
      }
      default:
        return handler.nothing();
    }
  }

  #fields(bytes: Uint8Array, flags: number): void {
    const block = this.#block!;
    block.frames++;
    block.bytes += bytes.length;
    if (block.frames > HTTP2_LIMITS.continuationCount) {
      throw new Http2Error("continuation-flood", `more than ${HTTP2_LIMITS.continuationCount}`);
    }
    if (block.bytes > HTTP2_LIMITS.headerBlock) {
      throw new Http2Error("header-block-too-long", `more than ${HTTP2_LIMITS.headerBlock} bytes`);
    }
    if ((flags & FLAG.END_HEADERS) === 0) {
      block.parts.push(bytes.slice());
      return;
    }
    this.#block = undefined;
    const list = this.decoder.decode(
      block.parts.length === 0 ? bytes : joined([...block.parts, bytes], block.bytes),
    );
    this.#handler.headers(block.stream, list, block.endStream);
  }
}

function needsStream(type: number, stream: number): void {
  if (stream === 0) throw new Http2Error("bad-stream-id", `frame of type ${type} for stream 0`);
}

function needsNoStream(type: number, stream: number): void {
  if (stream !== 0) throw new Http2Error("bad-stream-id", `frame of type ${type} for stream ${stream}`);
}

/** @param least bytes that must be left */
function withoutPadding(payload: Uint8Array, least: number): Uint8Array {
  const padding = payload[0];
  if (payload.length === 0 || padding + 1 + least > payload.length) throw new Http2Error("bad-padding");
  return payload.subarray(1, payload.length - padding);
}

function readSettings(payload: Uint8Array): Map<number, number> {
  if (payload.length % 6 !== 0) throw new Http2Error("bad-frame-size", `SETTINGS of ${payload.length} bytes`);
  const settings = new Map<number, number>();
  for (let at = 0; at < payload.length; at += 6) {
    const id = payload[at] << 8 | payload[at + 1], value = readUint32(payload, at + 2);
    if (id === SETTING.ENABLE_PUSH && value > 1) throw new Http2Error("bad-settings", `ENABLE_PUSH ${value}`);
    if (id === SETTING.INITIAL_WINDOW_SIZE && value > WINDOW_MAX) {
      throw new Http2Error("window-overflow", `INITIAL_WINDOW_SIZE ${value}`);
    }
    if (id === SETTING.MAX_FRAME_SIZE && (value < HTTP2_LIMITS.frame || value > 2 ** 24 - 1)) {
      throw new Http2Error("bad-settings", `MAX_FRAME_SIZE ${value}`);
    }
    settings.set(id, value);
  }
  return settings;
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function printable(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes.subarray(0, 32).map((byte) => byte > 31 && byte < 127 ? byte : 46));
}
