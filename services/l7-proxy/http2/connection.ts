/**
 * One connection of HTTP/2 with one to the server, from its preface to its end. Each side has frames, tables and windows of its own; a stream has one
 * number on both. A request is judged when its fields are whole; frames after it go on as they come, as far as the receiver takes them.
 *
 *     client ─▶ FrameReader ─▶ HpackDecoder ─▶ judge ─▶ allowed: HpackEncoder ─▶ Outflow ─▶ server
 *                    │                           └────▶ denied: 403, or grpc-status 7 ───▶ client
 *                    └ DATA ─▶ window of the receiver ─▶ Outflow
 *
 * @module
 */
import type { Waiting } from "../http1/connection.ts";
import { closeQuietly, Inflow, type Socket } from "../socket.ts";
import { Exchanges } from "./exchanges.ts";
import { PREFACE, SETTING } from "./frame.ts";
import { FrameReader } from "./frame_reader.ts";
import type { Http2Host } from "./host.ts";
import { H2_ERROR, Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { Side } from "./side.ts";

/** One connection. */
export class Http2Connection {
  readonly #client: Socket;
  readonly #fromClient: Inflow;
  readonly #host: Http2Host;
  readonly #exchanges: Exchanges;
  #server: Socket | undefined;
  #fromServer: Promise<void> | undefined;
  #isOver = false;
  #waiting: Waiting | undefined;
  #block = 0;
  #end!: (why: string) => void;
  readonly #ended: Promise<string> = new Promise((resolve) => this.#end = resolve);

  /** @param from what came from the client: the preface lies at its start */
  constructor(client: Socket, from: Inflow, host: Http2Host) {
    this.#client = client;
    this.#fromClient = from;
    this.#host = host;
    const clientSide = new Side("client", () => this.#end("reset"));
    // A server that takes no more may still answer: its end is told by what is read.
    this.#exchanges = new Exchanges(host, clientSide, new Side("server", () => {}), {
      connect: () => void this.#connect(),
      close: (why) => this.#end(why),
    });
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  async run(): Promise<string> {
    const { client, server } = this.#exchanges;
    this.#fromClient.use(this.#fromClient.start + PREFACE.length);
    client.isOpen = true;
    client.announce([
      [SETTING.MAX_CONCURRENT_STREAMS, HTTP2_LIMITS.streamCount],
      [SETTING.MAX_HEADER_LIST_SIZE, HTTP2_LIMITS.headerList],
    ]);
    client.out.open(this.#client);
    this.#waits();
    const reading = this.#read("client", this.#fromClient);
    const why = await this.#ended;
    this.#isOver = true;
    server.out.close();
    closeQuietly(this.#server);
    if (why !== "client-closed" && why !== "reset") {
      // A reset would take the last word from the client.
      this.#host.waits("head");
      await client.out.drained().then(() => this.#client.closeWrite()).catch(() =>
        closeQuietly(this.#client)
      );
      client.wake();
      await reading;
    }
    closeQuietly(this.#client);
    client.out.close();
    for (const side of [client, server]) side.wake();
    await Promise.all([reading, this.#fromServer]);
    this.#fromClient.close();
    return why;
  }

  /** Reads one side until it ends; once the connection is over, throws away what comes. */
  async #read(name: "client" | "server", from: Inflow): Promise<void> {
    const side = this.#exchanges[name];
    const reader = new FrameReader(this.#exchanges.handlerOf(name));
    let discarded = 0;
    try {
      for (;;) {
        while (!this.#isOver) {
          const next = this.#frame(name, reader, from);
          if (next < 0) break;
          from.use(next);
          await this.#room();
          if (side.held > HTTP2_LIMITS.held) await side.heldRoom(() => this.#isOver);
        }
        this.#flush();
        if (this.#isOver) {
          discarded += from.size;
          from.use(from.end);
          if (name === "server" || discarded > HTTP2_LIMITS.discarded) return;
        } else this.#waits(reader.block);
        if (!await from.fill()) break;
        if (!this.#isOver) this.#host.moved();
      }
      if (name === "client") this.#end("client-closed");
      else this.#serverGone("server-closed", "the server closed the connection");
    } catch {
      if (name === "client") this.#end("reset");
      else this.#serverGone("server-reset", "the server reset the connection");
    }
  }

  /** @returns where the next frame begins; -1: not all of one is there, or the connection is over */
  #frame(name: "client" | "server", reader: FrameReader, from: Inflow): number {
    try {
      return reader.read(from.bytes, from.start, from.end);
    } catch (error) {
      if (!(error instanceof Http2Error)) throw error;
      this.#giveUp(error, name);
      return -1;
    }
  }

  /** What cannot be read ends the connection: the client is told, and the open requests are answered where the server is the one. */
  #giveUp(error: Http2Error, name: "client" | "server"): void {
    this.#host.fault(error, name);
    if (name === "server") {
      this.#exchanges.fail(error.message);
      this.#exchanges.goaway(H2_ERROR.NO_ERROR, "");
    } else this.#exchanges.goaway(error.errorCode, error.message);
    this.#isOver = true;
    this.#end(error.code);
  }

  #serverGone(why: string, text: string): void {
    if (this.#isOver) return;
    this.#exchanges.fail(text);
    this.#exchanges.goaway(H2_ERROR.NO_ERROR, "");
    this.#isOver = true;
    this.#end(why);
  }

  async #connect(): Promise<void> {
    const { server } = this.#exchanges;
    let socket: Socket;
    try {
      socket = await this.#host.connect();
    } catch (error) {
      server.out.close();
      return this.#serverGone("server-refused", (error as Error).message);
    }
    this.#server = socket;
    if (this.#isOver) return closeQuietly(socket);
    server.out.open(socket);
    const from = new Inflow(socket);
    this.#fromServer = this.#read("server", from).finally(() => from.close());
  }

  /** Waits until neither side has more to be written than should wait. */
  async #room(): Promise<void> {
    const { client, server } = this.#exchanges;
    if (!client.out.isFull && !server.out.isFull) return;
    // Who takes nothing is given the time of a request, not that of an open stream.
    this.#isWaitingFor("stream");
    await client.out.room();
    if (!this.#isOver) await server.out.room().catch(() => {});
  }

  #flush(): void {
    this.#exchanges.client.out.flush();
    this.#exchanges.server.out.flush();
  }

  /** @param block the one that is not whole yet; 0: none */
  #waits(block = 0): void {
    this.#isWaitingFor(block > 0 ? "head" : this.#exchanges.waitsFor, block);
  }

  /** Tells what is waited for where that is something else: time goes on for what trickles. */
  #isWaitingFor(what: Waiting, block = 0): void {
    if (this.#waiting === what && this.#block === block) return;
    this.#waiting = what;
    this.#block = block;
    this.#host.waits(what);
  }
}

/** What a client's first bytes say. */
export async function beginsWithPreface(from: Inflow): Promise<boolean> {
  for (let seen = 0; seen < PREFACE.length; seen++) {
    while (from.size <= seen) if (!await from.fill()) return false;
    if (from.bytes[from.start + seen] !== PREFACE[seen]) return false;
  }
  return true;
}
