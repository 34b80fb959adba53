/**
 * What is to be written to one side. Frames of one turn go out together; who makes more than can be written waits for {@link Outflow.room}.
 * @module
 */
import { type Socket, writeAll } from "../socket.ts";
import { FLAG, FRAME, FRAME_HEAD_BYTES, writeUint32 } from "./frame.ts";
import { HTTP2_LIMITS } from "./limits.ts";

const SMALL_BYTES = 1024, LARGE_BYTES = 2 * HTTP2_LIMITS.outflow;
/** Large buffers that are kept for the next who needs one. */
const FREE_BUFFERS_MAX = 64;
const free: Uint8Array<ArrayBuffer>[] = [];

/** Bytes on their way to a socket, which may come later. */
export class Outflow {
  #socket: Socket | undefined;
  #buffer = new Uint8Array(SMALL_BYTES);
  #length = 0;
  #writing: Promise<void> | undefined;
  /** Bytes that a write has taken and is not through with. */
  #underWay = 0;
  #error: unknown;
  readonly #onError: (error: unknown) => void;

  /** @param onError called once, when a write fails */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Bytes that are not written yet. */
  get size(): number {
    return this.#length + this.#underWay;
  }

  /** More than should wait. */
  get isFull(): boolean {
    return this.size > HTTP2_LIMITS.outflow;
  }

  /** Writes to `socket` from now on. */
  open(socket: Socket): void {
    this.#socket = socket;
    this.flush();
  }

  append(bytes: Uint8Array): void {
    const at = this.#take(bytes.length);
    this.#buffer.set(bytes, at);
  }

  /** One frame, whole. */
  frame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const at = this.#head(payload.length, type, flags, stream);
    this.#buffer.set(payload, at);
  }

  /** A block of fields, in as many frames as it needs. */
  block(stream: number, block: Uint8Array, endStream: boolean): void {
    const flags = endStream ? FLAG.END_STREAM : 0;
    for (let at = 0, type: number = FRAME.HEADERS;; type = FRAME.CONTINUATION) {
      const end = Math.min(at + HTTP2_LIMITS.frame, block.length);
      const own = (type === FRAME.HEADERS ? flags : 0) | (end === block.length ? FLAG.END_HEADERS : 0);
      this.frame(type, own, stream, block.subarray(at, end));
      at = end;
      if (at === block.length) return;
    }
  }

  /** A frame whose payload is one number of 32 bits: RST_STREAM, WINDOW_UPDATE. */
  number(type: number, stream: number, number: number): void {
    const at = this.#head(4, type, 0, stream);
    writeUint32(this.#buffer, at, number);
  }

  /** SETTINGS: number and value of each. */
  settings(settings: readonly (readonly [number, number])[]): void {
    let at = this.#head(6 * settings.length, FRAME.SETTINGS, 0, 0);
    for (const [id, value] of settings) {
      this.#buffer[at++] = id >> 8;
      this.#buffer[at++] = id;
      writeUint32(this.#buffer, at, value);
      at += 4;
    }
  }

  /** GOAWAY. @param last the last stream that was looked at @param text why, ASCII */
  goaway(last: number, errorCode: number, text: string): void {
    const at = this.#head(8 + text.length, FRAME.GOAWAY, 0, 0);
    writeUint32(this.#buffer, at, last);
    writeUint32(this.#buffer, at + 4, errorCode);
    for (let i = 0; i < text.length; i++) this.#buffer[at + 8 + i] = text.charCodeAt(i);
  }

  /** Begins to write what is there. */
  flush(): void {
    if (this.#writing !== undefined || this.#length === 0) return;
    if (this.#error !== undefined) {
      this.#length = 0;
      return;
    }
    if (this.#socket !== undefined) this.#writing = this.#write(this.#socket);
  }

  /** Waits until no more than should waits. @throws what a write threw */
  async room(): Promise<void> {
    this.flush();
    while (this.isFull) await this.#turn();
  }

  /** Waits until everything is written. @throws what a write threw */
  async drained(): Promise<void> {
    this.flush();
    while (this.size > 0) await this.#turn();
  }

  /** The way is closed: what waits for it goes on, and fails. */
  close(): void {
    this.#error ??= new Deno.errors.BrokenPipe("closed");
    this.#length = 0;
    this.#wake?.();
  }

  #wake: (() => void) | undefined;

  async #turn(): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    // Without a socket yet, somebody will open or close it.
    await (this.#writing ?? new Promise<void>((resolve) => this.#wake = resolve));
    if (this.#error !== undefined) throw this.#error;
  }

  async #write(socket: Socket): Promise<void> {
    this.#wake?.();
    let spare: Uint8Array<ArrayBuffer> | undefined;
    try {
      while (this.#length > 0 && this.#error === undefined) {
        const bytes = this.#buffer.subarray(0, this.#length), taken = this.#buffer;
        this.#underWay = this.#length;
        this.#buffer = spare ?? new Uint8Array(SMALL_BYTES);
        this.#length = 0;
        await writeAll(socket, bytes);
        this.#underWay = 0;
        spare = taken;
      }
    } catch (error) {
      if (this.#error === undefined) {
        this.#error = error;
        this.#onError(error);
      }
    }
    this.#underWay = 0;
    if (this.#length === 0) this.#release();
    if (spare !== undefined && spare !== this.#buffer) release(spare);
    this.#writing = undefined;
  }

  /** Room for a frame, its head written. @returns where its payload goes */
  #head(length: number, type: number, flags: number, stream: number): number {
    const at = this.#take(FRAME_HEAD_BYTES + length), buffer = this.#buffer;
    buffer[at] = length >> 16;
    buffer[at + 1] = length >> 8;
    buffer[at + 2] = length;
    buffer[at + 3] = type;
    buffer[at + 4] = flags;
    writeUint32(buffer, at + 5, stream);
    return at + FRAME_HEAD_BYTES;
  }

  #take(count: number): number {
    const at = this.#length, length = at + count;
    if (length > this.#buffer.length) {
      const room = length <= LARGE_BYTES ? LARGE_BYTES : 2 * length;
      const larger = room === LARGE_BYTES ? free.pop() ?? new Uint8Array(room) : new Uint8Array(room);
      larger.set(this.#buffer.subarray(0, at));
      release(this.#buffer);
      this.#buffer = larger;
    }
    this.#length = length;
    return at;
  }

  #release(): void {
    if (this.#buffer.length === SMALL_BYTES) return;
    release(this.#buffer);
    this.#buffer = new Uint8Array(SMALL_BYTES);
  }
}

function release(buffer: Uint8Array<ArrayBuffer>): void {
  if (buffer.length === LARGE_BYTES && free.length < FREE_BUFFERS_MAX) free.push(buffer);
}
