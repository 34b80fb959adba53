/** Peers that speak HTTP/2 in memory, for tests. Their HPACK is not ours: tables and Huffman as others have them. @module */
import { until } from "@weir/common/testing/until";
import { Buffer } from "node:buffer";
import hpack from "hpack.js";
import type { Waiting } from "../http1/connection.ts";
import { Inflow, type Socket } from "../socket.ts";
import { MemorySocket } from "../testing.ts";
import { Http2Connection } from "./connection.ts";
import { FLAG, FRAME, FRAME_HEAD_BYTES, PREFACE, readUint32, writeUint32 } from "./frame.ts";
import type { HeaderField } from "./header_field.ts";
import type { Http2Exchange, Http2Host } from "./host.ts";
import type { Http2Error } from "./http2_error.ts";
import type { RequestFields } from "./message_fields.ts";

/** Name and value. */
export type Pair = readonly [name: string, value: string];

/** A frame as it was written. */
export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
  /** Of HEADERS with what continues them. */
  readonly fields: readonly Pair[];
}

const NAMES = Object.entries(FRAME).map(([name, type]) => [type, name] as const);
const NAME_OF = new Map<number, string>(NAMES);

/** One frame, whole. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array | string = "",
): Uint8Array {
  const body = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
  const bytes = new Uint8Array(FRAME_HEAD_BYTES + body.length);
  bytes.set([body.length >> 16, body.length >> 8, body.length, type, flags]);
  writeUint32(bytes, 5, stream);
  bytes.set(body, FRAME_HEAD_BYTES);
  return bytes;
}

/** Four bytes. */
export function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeUint32(bytes, 0, value);
  return bytes;
}

/** SETTINGS. */
export function settings(...values: readonly (readonly [number, number])[]): Uint8Array {
  return frame(
    FRAME.SETTINGS,
    0,
    0,
    Uint8Array.from(values.flatMap(([id, value]) => [id >> 8, id & 255, ...uint32(value)])),
  );
}

/** The other end of a socket. */
export class TestPeer {
  readonly #out = hpack.compressor.create({ table: { maxSize: 4096 } });
  readonly #in = hpack.decompressor.create({ table: { maxSize: 4096 } });
  readonly #seen: SeenFrame[] = [];
  #writes = 0;
  #rest: Uint8Array = new Uint8Array(0);
  #isFirst: boolean;

  /** @param expectsPreface it is a server */
  constructor(readonly socket: MemorySocket, expectsPreface: boolean) {
    this.#isFirst = expectsPreface;
  }

  /** A block of fields as this side's table makes it. */
  block(fields: readonly Pair[]): Uint8Array {
    this.#out.write(fields.map(([name, value]) => ({ name, value, huffman: true, incremental: true })));
    const parts: Uint8Array[] = [];
    for (let part; (part = this.#out.read()) !== null;) parts.push(part);
    return new Uint8Array(Buffer.concat(parts as Buffer[]));
  }

  /** HEADERS. */
  headers(stream: number, fields: readonly Pair[], endStream = true): Uint8Array {
    return frame(
      FRAME.HEADERS,
      FLAG.END_HEADERS | (endStream ? FLAG.END_STREAM : 0),
      stream,
      this.block(fields),
    );
  }

  /** A request. */
  request(stream: number, path: string, endStream = true, ...more: readonly Pair[]): Uint8Array {
    const method = more.some(([name]) => name === "content-type") ? "POST" : "GET";
    return this.headers(stream, [
      [":method", method],
      [":scheme", "http"],
      [":path", path],
      [":authority", "a"],
      ...more,
    ], endStream);
  }

  /** DATA. */
  data(stream: number, payload: Uint8Array | string, endStream = false): Uint8Array {
    return frame(FRAME.DATA, endStream ? FLAG.END_STREAM : 0, stream, payload);
  }

  send(...pieces: (Uint8Array | null | Error)[]): void {
    this.socket.send(...pieces);
  }

  /** Everything that was written to this side. */
  get frames(): readonly SeenFrame[] {
    const { written } = this.socket;
    for (; this.#writes < written.length; this.#writes++) {
      this.#rest = new Uint8Array(Buffer.concat([this.#rest, written[this.#writes]]));
    }
    if (this.#isFirst && this.#rest.length >= PREFACE.length) {
      this.#isFirst = false;
      this.#rest = this.#rest.subarray(PREFACE.length);
    }
    let block: Uint8Array[] = [], head: SeenFrame | undefined;
    for (let at = 0;;) {
      const rest = this.#rest.subarray(at), length = rest[0] << 16 | rest[1] << 8 | rest[2];
      if (rest.length < FRAME_HEAD_BYTES || rest.length < FRAME_HEAD_BYTES + length) return this.#seen;
      const type = rest[3], flags = rest[4], stream = readUint32(rest, 5);
      const payload = rest.slice(FRAME_HEAD_BYTES, FRAME_HEAD_BYTES + length);
      at += FRAME_HEAD_BYTES + length;
      const seen = { type, flags, stream, payload, fields: [] };
      if (type === FRAME.HEADERS || type === FRAME.CONTINUATION) {
        head ??= seen;
        block.push(payload);
        if ((flags & FLAG.END_HEADERS) === 0) continue;
        this.#seen.push({ ...head, fields: this.#fields(block) });
        block = [];
        head = undefined;
      } else this.#seen.push(seen);
      this.#rest = this.#rest.subarray(at);
      at = 0;
    }
  }

  /** Each frame as a word and its number, SETTINGS, PING and WINDOW_UPDATE left out: "HEADERS 1", "DATA 1 end". */
  get said(): string[] {
    const quiet: number[] = [FRAME.SETTINGS, FRAME.WINDOW_UPDATE, FRAME.PING];
    return this.frames.filter(({ type }) => !quiet.includes(type)).map(({ type, flags, stream, payload }) => {
      if (type === FRAME.GOAWAY) return `GOAWAY ${readUint32(payload, 4)}`;
      const code = type === FRAME.RST_STREAM ? ` ${readUint32(payload, 0)}` : "";
      const ends = (type === FRAME.DATA || type === FRAME.HEADERS) && (flags & FLAG.END_STREAM) !== 0;
      return `${NAME_OF.get(type)} ${stream}${code}${ends ? " end" : ""}`;
    });
  }

  /** Fields of a stream's HEADERS, one after the other. */
  fieldsOf(stream: number): Pair[] {
    return this.frames.filter((one) => one.stream === stream).flatMap(({ fields }) => fields);
  }

  /** Bytes of a stream's DATA. */
  bytesOf(stream: number): number {
    return this.frames.filter((one) => one.stream === stream && one.type === FRAME.DATA)
      .reduce((sum, { payload }) => sum + payload.length, 0);
  }

  /** Text of a stream's DATA. */
  textOf(stream: number): string {
    return this.frames.filter((one) => one.stream === stream && one.type === FRAME.DATA)
      .map(({ payload }) => new TextDecoder().decode(payload)).join("");
  }

  /** Waits until a frame was written. */
  async saw(what: string): Promise<void> {
    await until(`${what}, of ${this.said}`, () => this.said.some((one) => one.startsWith(what)), 5);
  }

  #fields(parts: Uint8Array[]): Pair[] {
    this.#in.write(Buffer.concat(parts as Buffer[]));
    this.#in.execute();
    const fields: Pair[] = [];
    for (let field; (field = this.#in.read()) !== null;) fields.push([field.name, field.value]);
    return fields;
  }
}

/** What a connection did, as its host saw it. */
export class SeenHttp2Host implements Http2Host {
  readonly judged: RequestFields[] = [];
  readonly answers: { path: string; status: number; grpcStatus: number | undefined }[] = [];
  readonly faults: { error: Http2Error; side: string }[] = [];
  readonly server = new MemorySocket();
  connects = 0;
  timeMs = 0;
  waiting: Waiting = "idle";
  /** When the connection to the server is there. */
  connected: Promise<Socket> = Promise.resolve(this.server);

  /** @param rule what becomes of a request; default: denied where its path begins with /private */
  constructor(readonly rule: (request: RequestFields) => Partial<Http2Exchange> = () => ({})) {}

  judge(request: RequestFields): Http2Exchange {
    this.judged.push(request);
    const { path } = request.target, denied = path.startsWith("/private");
    return {
      verdict: denied ? "denied" : "allowed",
      changes: [],
      why: denied ? "Denied by policy p: no rule allows it" : "",
      ...this.rule(request),
      answered: (status: number, _fields: readonly HeaderField[], grpcStatus?: number) =>
        void this.answers.push({ path, status, grpcStatus }),
    };
  }
  connect(): Promise<Socket> {
    this.connects++;
    return this.connected;
  }
  fault(error: Http2Error, side: "client" | "server"): void {
    this.faults.push({ error, side });
  }
  waits(what: Waiting): void {
    this.waiting = what;
  }
  moved(): void {}
  nowMs(): number {
    return this.timeMs;
  }
}

/** A connection between a client and a server of a test. */
export class Conversation {
  readonly client = new TestPeer(new MemorySocket(), false);
  readonly server: TestPeer;
  readonly host: SeenHttp2Host;
  /** Why it ended. */
  readonly ended: Promise<string>;

  constructor(
    rule?: (request: RequestFields) => Partial<Http2Exchange>,
    ...first: readonly (readonly [number, number])[]
  ) {
    this.host = new SeenHttp2Host(rule);
    this.server = new TestPeer(this.host.server, true);
    const { socket } = this.client, from = new Inflow(socket);
    socket.send(PREFACE);
    this.ended = from.fill().then(() => new Http2Connection(socket, from, this.host).run());
    socket.send(settings(...first));
  }

  /** A request that goes through, and its answer's head. */
  async opened(stream: number, path = "/public", endStream = true, ...more: readonly Pair[]): Promise<void> {
    this.client.send(this.client.request(stream, path, endStream, ...more));
    await this.server.saw(`HEADERS ${stream}`);
  }

  /** Hangs up. @returns why it ended */
  async over(): Promise<string> {
    this.client.send(null);
    return await this.ended;
  }
}
