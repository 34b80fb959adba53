/**
 * A connection to a port of a pod: the subresource `portforward` of pods over a WebSocket, one connection in each.
 *
 *     each message   | channel (1 byte) | bytes |
 *     channel        0 the connection's bytes, both ways; 1 why there is none, in words
 *     first message  of each channel from there: the port, 2 bytes, little endian
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { ApiServerError } from "./error.ts";
import { resourcePath, RESOURCES } from "./resource.ts";

/** The protocol that the kubelet's side speaks itself: the newer one is SPDY within a WebSocket. */
export const PORT_FORWARD_PROTOCOL = "v4.channel.k8s.io";

const DATA = 0, ERROR = 1;
const PORT_BYTES = 2;
const UNREAD_BYTES_MAX = 16 << 20;
/** What the API server does not take stays in this process, up to so much; then a writer waits. */
const UNSENT_BYTES_MAX = 1 << 20;
/** A writer looks so often whether there is room. */
const ROOM_POLL_MS = 5;
/** One message has no more. */
const MESSAGE_BYTES_MAX = 64 << 10;
const ERROR_CHARS_MAX = 1000;

/** A port of a pod. */
export interface PodPort {
  readonly namespace: string;
  readonly pod: string;
  /** 1 to 65535; of loopback where the pod is. */
  readonly port: number;
  /** Bytes from there that nobody has read yet may be so many; default 16 MiB. */
  readonly unreadBytesMax?: number;
}

/** Path and query of the subresource. */
export function portForwardPath({ namespace, pod, port }: PodPort): string {
  return `${resourcePath(RESOURCES.Pod, { namespace, name: pod, subresource: "portforward" })}?ports=${port}`;
}

/** One connection. The protocol knows no half of one: when either side ends, it is over. */
export class PortSession implements Disposable {
  /** What comes from there. It ends with the connection, or fails: ApiServerError PORT_REFUSED, OUTPUT_TOO_LARGE. */
  readonly bytes: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #unreadBytesMax: number;
  #bytes!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
  #isOver = false;
  readonly #isBegun = [false, false];
  #why = "";

  /** @param socket of {@link PORT_FORWARD_PROTOCOL}; it may still be opening @param action for messages: "reach port 1 of Pod ns/name" */
  constructor(
    readonly socket: WebSocket,
    readonly action: string,
    unreadBytesMax: number = UNREAD_BYTES_MAX,
  ) {
    this.#unreadBytesMax = unreadBytesMax;
    this.bytes = new ReadableStream(
      { start: (controller) => void (this.#bytes = controller), cancel: () => this.close() },
      { highWaterMark: unreadBytesMax, size: ({ byteLength }) => byteLength },
    );
    socket.addEventListener("message", ({ data }) => this.#take(data));
    socket.addEventListener("error", (event) => this.#end((event as ErrorEvent).message));
    socket.addEventListener("close", () => this.#end(this.#why));
  }

  /** Sends bytes; waits where they are not taken. @throws {ApiServerError} CONNECTION_LOST: it is over */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += MESSAGE_BYTES_MAX) {
      const piece = bytes.subarray(at, at + MESSAGE_BYTES_MAX);
      while (!this.#isOver && this.socket.bufferedAmount > UNSENT_BYTES_MAX) await delay(ROOM_POLL_MS);
      if (this.#isOver) throw this.#error("CONNECTION_LOST", "the connection is over");
      const message = new Uint8Array(piece.length + 1);
      message[0] = DATA;
      message.set(piece, 1);
      this.socket.send(message);
    }
  }

  /** Ends it. Repeatable. */
  close(): void {
    this.#end("");
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #take(data: unknown): void {
    if (!(data instanceof ArrayBuffer) || data.byteLength === 0 || this.#isOver) return;
    const [channel] = new Uint8Array(data, 0, 1);
    let bytes = new Uint8Array(data, 1);
    if (channel !== DATA && channel !== ERROR) return;
    if (!this.#isBegun[channel]) {
      // The port that is meant; there is one alone.
      this.#isBegun[channel] = true;
      bytes = bytes.subarray(PORT_BYTES);
    }
    if (bytes.length === 0) return;
    if (channel === ERROR) {
      this.#why = (this.#why + new TextDecoder().decode(bytes)).slice(0, ERROR_CHARS_MAX);
      return this.#end(this.#why);
    }
    if (bytes.length > (this.#bytes.desiredSize ?? 0)) {
      const detail = `more than ${this.#unreadBytesMax} bytes wait to be read`;
      return this.#fail(this.#error("OUTPUT_TOO_LARGE", detail));
    }
    this.#bytes.enqueue(bytes);
  }

  #end(why: string): void {
    if (why !== "") return this.#fail(this.#error("PORT_REFUSED", why.trim()));
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#bytes.close();
    } catch {
      // Who read it has cancelled it.
    }
    this.socket.close();
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#bytes.error(error);
    } catch {
      // Who read it has cancelled it.
    }
    this.socket.close();
  }

  #error(code: string, detail: string): ApiServerError {
    return new ApiServerError(code, { status: 502, detail: `Cannot ${this.action}: ${detail}` });
  }
}
