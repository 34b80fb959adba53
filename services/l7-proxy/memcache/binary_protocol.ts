/**
 * The binary protocol.
 *
 *      magic 1 | opcode 1 | key length 2 | extras length 1 | data type 1 | vbucket or status 2 | body length 4 | opaque 4 | cas 8
 *      extras | key | value
 *
 * @module
 */
import { MEMCACHE_DATA_BYTES_MAX, MEMCACHE_KEY_BYTES_MAX, memcacheKey } from "@weir/l7-rules";
import { HeldBytes } from "../held_bytes.ts";
import type { MemcacheProtocol, Out, ProtocolOptions } from "./protocol.ts";
import { Turns } from "./turns.ts";
import { MemcacheFormError } from "./verdict.ts";

/** First byte of every request. */
export const REQUEST_MAGIC = 0x80;
const RESPONSE_MAGIC = 0x81;
const HEADER_BYTES = 24;
const EXTRAS_BYTES_MAX = 20;
const NOOP = 0x0a;
/** "Authentication error": there is none for authorization that clients know. */
const STATUS_DENIED = 0x20;

/** Whether a request has a key, how many bytes of extras, and a value. */
interface Form {
  readonly command: string;
  readonly key: "one" | "none" | "argument" | "mechanism";
  readonly extras: readonly number[];
  readonly value: boolean;
}

const form = (command: string, key: Form["key"], extras: number[], value = false): Form => ({
  command,
  key,
  extras,
  value,
});
const GET = form("get", "one", [0]), GAT = form("gat", "one", [4]);
const STORE = (command: string) => form(command, "one", [8], true);
const COUNT = (command: string) => form(command, "one", [20]);
const JOIN = (command: string) => form(command, "one", [0], true);
const DELETE = form("delete", "one", [0]);
const QUIT = form("quit", "none", [0]), FLUSH = form("flush_all", "none", [0, 4]);

/** By opcode; the quiet ones have the name of those that answer. */
const FORMS: readonly (Form | undefined)[] = [
  ...[GET, STORE("set"), STORE("add"), STORE("replace"), DELETE, COUNT("incr"), COUNT("decr"), QUIT, FLUSH],
  ...[
    GET,
    form("noop", "none", [0]),
    form("version", "none", [0]),
    GET,
    GET,
    JOIN("append"),
    JOIN("prepend"),
  ],
  ...[form("stats", "argument", [0]), STORE("set"), STORE("add"), STORE("replace"), DELETE],
  ...[COUNT("incr"), COUNT("decr"), QUIT, FLUSH, JOIN("append"), JOIN("prepend")],
  ...[form("verbosity", "none", [4]), form("touch", "one", [4]), GAT, GAT],
  undefined, // 0x1f
  ...[form("sasl-list-mechs", "none", [0]), form("sasl-auth", "mechanism", [0], true)],
  ...[form("sasl-step", "mechanism", [0], true), GAT, GAT],
];

/** Binary on one connection. */
export class BinaryProtocol implements MemcacheProtocol {
  closes = "";
  readonly #options: ProtocolOptions;
  /** A request's header, extras and key; an answer's header. */
  readonly #request: HeldBytes;
  readonly #answer: HeldBytes;
  readonly #turns = new Turns();
  #valueLeft = 0;
  #answerLeft = 0;
  #isDropped = false;
  #hasAsked = false;
  #hasQuit = false;

  constructor(options: ProtocolOptions) {
    this.#options = options;
    this.#request = new HeldBytes(options.shared, HEADER_BYTES + EXTRAS_BYTES_MAX + MEMCACHE_KEY_BYTES_MAX);
    this.#answer = new HeldBytes(options.shared, HEADER_BYTES);
  }

  get waitsFor(): "head" | "stream" | "idle" {
    return this.#valueLeft > 0 || this.#turns.size > 0
      ? "stream"
      : this.#request.length > 0
      ? "head"
      : "idle";
  }

  fromClient(bytes: Uint8Array, out: Out): void {
    for (let at = 0; at < bytes.length && this.closes === "" && !this.#hasQuit;) {
      if (this.#valueLeft > 0) {
        const end = Math.min(bytes.length, at + this.#valueLeft);
        this.#valueLeft -= end - at;
        if (!this.#isDropped) out.toServer.push(bytes.subarray(at, end));
        at = end;
        continue;
      }
      const held = this.#request, wanted = startBytes(held.bytes);
      const end = Math.min(bytes.length, at + wanted - held.length);
      held.append(bytes.subarray(at, end));
      at = end;
      if (held.length >= HEADER_BYTES && held.length === startBytes(held.bytes)) {
        this.#decide(held.take(), out);
      }
    }
  }

  fromServer(bytes: Uint8Array, out: Out): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#answerLeft > 0) {
        const end = Math.min(bytes.length, at + this.#answerLeft);
        this.#answerLeft -= end - at;
        out.toClient.push(bytes.subarray(at, end));
        at = end;
        continue;
      }
      const held = this.#answer, end = Math.min(bytes.length, at + HEADER_BYTES - held.length);
      held.append(bytes.subarray(at, end));
      at = end;
      if (held.length === HEADER_BYTES) this.#answered(held.take(), out);
    }
  }

  end(): void {
    this.#request.take();
    this.#answer.take();
  }

  #decide(start: Uint8Array, out: Out): void {
    const { form: { command, key: has }, keyBytes, bodyBytes } = headerOf(start);
    const key = start.subarray(start.length - keyBytes);
    this.#valueLeft = bodyBytes - (start.length - HEADER_BYTES);
    const keys = has === "one" ? [memcacheKey(key)] : [];
    const { allowed, text, closes } = this.#options.judge({ command, keys });
    this.#isDropped = !allowed;
    if (allowed) {
      if (command === "noop") this.#turns.add(null);
      this.#hasQuit = command === "quit";
      this.#hasAsked = true;
      out.toServer.push(start);
      return;
    }
    this.closes = closes;
    // Quiet commands keep quiet about what is usual; errors they report.
    const answer = denial(start, text);
    if (!this.#hasAsked || closes !== "") {
      out.toClient.push(answer);
      return;
    }
    this.#turns.add(answer);
    out.toServer.push(packet(REQUEST_MAGIC, NOOP, 0, start.subarray(12, 16)));
  }

  #answered(header: Uint8Array, out: Out): void {
    if (header[0] !== RESPONSE_MAGIC) {
      throw new MemcacheFormError(`an answer that begins with 0x${header[0].toString(16)}, want 0x81`);
    }
    const bodyBytes = new DataView(header.buffer, header.byteOffset).getUint32(8);
    const ours = header[1] === NOOP ? this.#turns.next() : null;
    if (ours === null) {
      this.#answerLeft = bodyBytes;
      out.toClient.push(header);
    } else {
      if (bodyBytes > 0) throw new MemcacheFormError(`an answer to noop with ${bodyBytes} bytes`);
      out.toClient.push(ours);
    }
  }
}

/** Bytes of header, extras and key, of which at least `start` is there. */
function startBytes(start: Uint8Array): number {
  if (start.length > 0 && start[0] !== REQUEST_MAGIC) {
    throw new MemcacheFormError(`a request that begins with 0x${start[0].toString(16)}, want 0x80`);
  }
  if (start.length < HEADER_BYTES) return HEADER_BYTES;
  return HEADER_BYTES + headerOf(start).keyBytes + start[4];
}

/** What memcached would refuse is refused here: it may read on at another place then. */
function headerOf(start: Uint8Array): { form: Form; keyBytes: number; bodyBytes: number } {
  const view = new DataView(start.buffer, start.byteOffset);
  const [opcode, keyBytes, extras, bodyBytes] = [start[1], view.getUint16(2), start[4], view.getUint32(8)];
  const known = FORMS[opcode];
  if (known === undefined) throw new MemcacheFormError(`opcode 0x${opcode.toString(16)} is not known`);
  const { command, key, value } = known, startBytes = keyBytes + extras;
  const hasKey = key === "one" || key === "mechanism";
  if (
    start[5] !== 0 || !known.extras.includes(extras) || keyBytes > MEMCACHE_KEY_BYTES_MAX ||
    (hasKey && keyBytes === 0) || (key === "none" && keyBytes > 0) ||
    (value ? bodyBytes < startBytes : bodyBytes !== startBytes) || bodyBytes > MEMCACHE_DATA_BYTES_MAX
  ) {
    throw new MemcacheFormError(
      `${command} with ${keyBytes} bytes of key, ${extras} of extras and ${bodyBytes} of body is none`,
    );
  }
  return { form: known, keyBytes, bodyBytes };
}

function denial(request: Uint8Array, text: string): Uint8Array {
  return packet(
    RESPONSE_MAGIC,
    request[1],
    STATUS_DENIED,
    request.subarray(12, 16),
    new TextEncoder().encode(text),
  );
}

function packet(
  magic: number,
  opcode: number,
  status: number,
  opaque: Uint8Array,
  body: Uint8Array = new Uint8Array(),
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + body.length), view = new DataView(bytes.buffer);
  bytes[0] = magic;
  bytes[1] = opcode;
  view.setUint16(6, status);
  view.setUint32(8, body.length);
  bytes.set(opaque, 12);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}
