/**
 * One connection of TLS: the client's hello is held until its server name was judged; then everything passes as it is.
 *
 *     hello ──judged──▶ answer ──ServerHello──▶ open
 *       ▲                  │
 *       └─HelloRetryRequest┘   the second hello must name the same server
 *
 * It is handed bytes as they come and says what to write; it knows no sockets.
 * @module
 */
import { HeldBytes, HeldBytesError } from "../held_bytes.ts";
import type { Step } from "../step.ts";
import {
  CLIENT_HELLO,
  type ClientHello,
  MESSAGE_HEADER_BYTES,
  readClientHello,
  TlsFormError,
} from "./client_hello.ts";
import { HELLO_BYTES_MAX, HELLO_RECORDS_BYTES_MAX, type TlsShared } from "./limits.ts";
import { RecordReader, RecordType } from "./record_reader.ts";
import { ServerHelloReader } from "./server_hello.ts";

/** What a connection needs. */
export interface TlsConnectionOptions {
  readonly shared: TlsShared;
  /** Judges a hello. @returns why the connection ends; "": it is allowed */
  readonly judge: (hello: ClientHello) => string;
  /** Whether an open connection may go on. @returns why not; "": it may */
  readonly mayGoOn: (hello: ClientHello) => string;
}

/** Fatal alert "access denied" (49), in a record of the version that every client reads. */
const ACCESS_DENIED = new Uint8Array([RecordType.ALERT, 3, 1, 0, 2, 2, 49]);

/** One connection. */
export class TlsConnection {
  readonly #options: TlsConnectionOptions;
  #state: "hello" | "answer" | "open" = "hello";
  readonly #client = new RecordReader("the client");
  readonly #server = new RecordReader("the server");
  /** The hello with its records, and without them. */
  readonly #records: HeldBytes;
  readonly #message: HeldBytes;
  #messageBytes = 0;
  #hello: ClientHello | undefined;
  #answer: ServerHelloReader | undefined;
  #retried = false;
  #closed: string | null = null;

  constructor(options: TlsConnectionOptions) {
    this.#options = options;
    this.#records = new HeldBytes(options.shared, HELLO_RECORDS_BYTES_MAX);
    this.#message = new HeldBytes(options.shared, HELLO_BYTES_MAX);
  }

  get waitsFor(): "head" | "stream" | "spliced" {
    return this.#state === "hello" ? "head" : this.#state === "answer" ? "stream" : "spliced";
  }

  /** Bytes that the client sent. */
  fromClient(bytes: Uint8Array): Step {
    return this.#run((step) => {
      let at = 0;
      while (at < bytes.length && this.#state === "hello" && this.#closed === null) {
        const { end, payload } = this.#client.take(bytes, at);
        this.#records.append(bytes.subarray(at, end));
        at = end;
        if (payload.length > 0) this.#takeHello(payload, step);
      }
      const from = at;
      while (at < bytes.length && this.#state === "answer" && this.#closed === null) {
        at = this.#client.take(bytes, at).end;
        // The key shares of a second hello are asked for; whatever else comes before the answer is encrypted.
        if (this.#client.type === RecordType.HANDSHAKE) {
          throw new TlsFormError("a second ClientHello, unasked");
        }
      }
      if (this.#closed === null && this.#state === "open") this.#goOn();
      if (this.#closed === null && from < bytes.length) step.toServer.push(bytes.subarray(from));
    });
  }

  /** Bytes that the server sent. */
  fromServer(bytes: Uint8Array): Step {
    return this.#run((step) => {
      for (let at = 0; at < bytes.length && this.#state !== "open";) {
        const { end, payload } = this.#server.take(bytes, at);
        at = end;
        if (payload.length > 0) this.#takeAnswer(payload);
      }
      if (this.#state === "open") this.#goOn();
      if (this.#closed === null) step.toClient.push(bytes);
    });
  }

  /** The connection has ended: what it held is given back. */
  end(): void {
    this.#closed ??= "it has ended";
    this.#records.take();
    this.#message.take();
  }

  #run(work: (step: Step) => void): Step {
    const step = { toServer: [], toClient: [], close: this.#closed };
    if (this.#closed !== null) return step;
    try {
      work(step);
    } catch (error) {
      if (!(error instanceof HeldBytesError || error instanceof TlsFormError)) throw error;
      this.#closed = error.message;
      if (this.#state === "hello") return { toServer: [], toClient: [], close: this.#closed };
    }
    return { ...step, close: this.#closed };
  }

  #takeHello(payload: Uint8Array, step: Step): void {
    const { type } = this.#client, message = this.#message;
    // Once, before the second hello, for the sake of old middleboxes (RFC 8446 D.4).
    if (type === RecordType.CHANGE_CIPHER_SPEC && this.#retried && message.length === 0) return;
    if (type !== RecordType.HANDSHAKE) throw new TlsFormError(`record ${type} where a ClientHello should be`);
    message.append(payload);
    if (message.bytes[0] !== CLIENT_HELLO) {
      throw new TlsFormError(`the client begins with message ${message.bytes[0]}, want 1, ClientHello`);
    }
    if (message.length >= MESSAGE_HEADER_BYTES) {
      const [, high, middle, low] = message.bytes;
      this.#messageBytes = MESSAGE_HEADER_BYTES + (high << 16 | middle << 8 | low);
      if (this.#messageBytes > HELLO_BYTES_MAX) {
        throw new TlsFormError(
          `a ClientHello of ${this.#messageBytes} bytes, at most ${HELLO_BYTES_MAX} are held`,
        );
      }
    }
    if (message.length < MESSAGE_HEADER_BYTES || message.length < this.#messageBytes) return;
    if (message.length > this.#messageBytes || !this.#client.atEnd) {
      throw new TlsFormError("a record goes on behind its ClientHello");
    }
    this.#decide(readClientHello(message.take()), step);
  }

  #decide(hello: ClientHello, step: Step): void {
    const before = this.#hello;
    if (before !== undefined && before.serverName.toLowerCase() !== hello.serverName.toLowerCase()) {
      throw new TlsFormError(
        `the second ClientHello names ${JSON.stringify(hello.serverName)}, the first ${
          JSON.stringify(before.serverName)
        }`,
      );
    }
    const why = before === undefined ? this.#options.judge(hello) : this.#options.mayGoOn(hello);
    this.#hello = hello;
    if (why !== "") {
      this.#closed = why;
      step.toClient.push(ACCESS_DENIED);
      return;
    }
    step.toServer.push(this.#records.take());
    this.#state = "answer";
    this.#answer = new ServerHelloReader();
  }

  #takeAnswer(payload: Uint8Array): void {
    const { type } = this.#server;
    // A warning, or the end: the server closes by itself then.
    if (type === RecordType.ALERT) return;
    if (type === RecordType.HANDSHAKE && this.#answer !== undefined) {
      const what = this.#answer.take(payload);
      if (what === undefined) return;
      this.#answer = undefined;
      if (what === "hello") {
        this.#state = "open";
        return;
      }
      if (this.#retried) throw new TlsFormError("the server asks for a third ClientHello");
      this.#retried = true;
      this.#state = "hello";
    } else if (!this.#retried || type === RecordType.APPLICATION_DATA) {
      // The rest of a HelloRetryRequest, and a change of ciphers behind it, are as they should be.
      throw new TlsFormError(`the server begins with a record of type ${type}`);
    }
  }

  /** Rules change while connections live. */
  #goOn(): void {
    if (this.#hello === undefined) return;
    const why = this.#options.mayGoOn(this.#hello);
    if (why !== "") this.#closed = why;
  }
}
