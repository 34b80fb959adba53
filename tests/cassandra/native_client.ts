/**
 * A client of the native protocol, version 4, that sends what it is told to and nothing else.
 * @module
 */

import { HEADER_BYTES, Opcode, readHeader } from "../../services/l7-proxy/cassandra/envelope.ts";
import * as wire from "../../services/l7-proxy/cassandra/testing/wire.ts";

/** What came back. */
export interface Answer {
  readonly opcode: number;
  readonly body: Uint8Array;
}

/** One connection; requests may be under way side by side. */
export class NativeClient {
  readonly #conn: Deno.Conn;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #stream = 0;

  private constructor(conn: Deno.Conn) {
    this.#conn = conn;
    void this.#read();
  }

  static async connect(port: number): Promise<NativeClient> {
    const client = new NativeClient(await Deno.connect({ hostname: "127.0.0.1", port }));
    const { opcode } = await client.send((stream) => wire.startup({}, { stream }));
    if (opcode !== Opcode.READY) throw new Error(`STARTUP was answered by opcode ${opcode}`);
    return client;
  }

  query(text: string): Promise<Answer> {
    return this.send((stream) => wire.query(text, { stream }));
  }

  prepare(text: string): Promise<Answer> {
    return this.send((stream) => wire.prepare(text, { stream }));
  }

  /** Sends one envelope, and waits for its answer. */
  send(make: (stream: number) => Uint8Array): Promise<Answer> {
    const stream = this.#stream = (this.#stream + 1) % 30_000;
    const answer = new Promise<Answer>((done) => this.#waiting.set(stream, done));
    void this.#write(make(stream));
    return answer;
  }

  close(): void {
    this.#conn.close();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
  }

  async #read(): Promise<void> {
    let held = new Uint8Array(0);
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const length = await this.#conn.read(buffer).catch(() => null);
      if (length === null) return;
      held = wire.concat(held, buffer.subarray(0, length)) as Uint8Array<ArrayBuffer>;
      for (;;) {
        if (held.length < HEADER_BYTES) break;
        const header = readHeader(held);
        const end = HEADER_BYTES + header.bodyBytes;
        if (held.length < end) break;
        const body = held.slice(HEADER_BYTES, end);
        held = held.slice(end);
        this.#waiting.get(header.stream)?.({
          opcode: header.opcode,
          body: withoutWarnings(header.flags, body),
        });
        this.#waiting.delete(header.stream);
      }
    }
  }
}

function withoutWarnings(flags: number, body: Uint8Array): Uint8Array {
  if ((flags & 0x08) === 0) return body;
  const view = new DataView(body.buffer, body.byteOffset);
  let at = 2;
  for (let count = view.getUint16(0); count > 0; count--) at += 2 + view.getUint16(at);
  return body.subarray(at);
}

/** Tables that a RESULT of a PREPARE is about: those of its variables, and of its rows. Columns are text and int alone. */
export function preparedTables({ opcode, body }: Answer): Set<string> | null {
  if (opcode !== Opcode.RESULT) return null;
  const view = new DataView(body.buffer, body.byteOffset);
  const found = new Set<string>();
  let at = 4;
  const u16 = () => (at += 2, view.getUint16(at - 2));
  const i32 = () => (at += 4, view.getInt32(at - 4));
  const string = () => {
    const length = u16();
    at += length;
    return new TextDecoder().decode(body.subarray(at - length, at));
  };
  const columns = (flags: number, count: number) => {
    if ((flags & 0x04) !== 0) return;
    if ((flags & 0x01) !== 0 && count > 0) found.add(`${string()}.${string()}`);
    else if ((flags & 0x01) !== 0) string(), string();
    for (; count > 0; count--) {
      if ((flags & 0x01) === 0) found.add(`${string()}.${string()}`);
      string();
      u16();
    }
  };
  if (view.getInt32(0) !== 4) return null;
  string();
  const flags = i32();
  const count = i32();
  for (let keys = i32(); keys > 0; keys--) u16();
  columns(flags, count);
  const rowFlags = i32();
  const rows = i32();
  columns(rowFlags, rows);
  return found;
}
