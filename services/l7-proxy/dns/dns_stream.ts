/**
 * DNS over one TCP connection: many questions at once, answers in the order in which they come. Who does not read what was written is not read
 * from any further.
 * @module
 */
import { HeldBytesError } from "../held_bytes.ts";
import type { RedirectedConnection } from "../redirected_connection.ts";
import { closeQuietly, Inflow, type Socket, writeAll } from "../socket.ts";
import { DnsFlow } from "./dns_flow.ts";
import type { DnsShared } from "./dns_shared.ts";
import { framed, FrameReader } from "./frame_reader.ts";
import { WAITING_BYTES_MAX } from "./limits.ts";

/** One side to which messages are written in order. */
class Outflow {
  waitingBytes = 0;
  #last: Promise<void> = Promise.resolve();

  /** @param onError a write failed: nothing more can be written */
  constructor(readonly socket: () => Promise<Socket>, readonly onError: (error: unknown) => void) {}

  write(bytes: Uint8Array): void {
    this.waitingBytes += bytes.length;
    this.#last = this.#last.then(async () => {
      try {
        await writeAll(await this.socket(), bytes);
      } catch (error) {
        this.onError(error);
      } finally {
        this.waitingBytes -= bytes.length;
      }
    });
  }

  /** Waits until there is room for more. */
  async room(): Promise<void> {
    while (this.waitingBytes > WAITING_BYTES_MAX) await this.#last;
  }

  /** Waits until everything was written. */
  done(): Promise<void> {
    return this.#last;
  }
}

/** One connection. */
export class DnsStream {
  readonly #connection: RedirectedConnection;
  readonly #shared: DnsShared;
  readonly #flow: DnsFlow;
  readonly #toClient: Outflow;
  readonly #toServer: Outflow;
  #server: Promise<Socket> | undefined;
  #fromServer: Promise<string> | undefined;
  #isClientDone = false;
  /** Why the server says no more; "": it may. */
  #serverDone = "";
  #end!: (why: string) => void;
  readonly #ended: Promise<string> = new Promise((resolve) => this.#end = resolve);

  constructor(connection: RedirectedConnection, shared: DnsShared) {
    this.#connection = connection;
    this.#shared = shared;
    this.#toClient = new Outflow(() => Promise.resolve(connection.client), () => this.#end("reset"));
    this.#toServer = new Outflow(() => this.#server ??= this.#connect(), () => this.#end("reset"));
    this.#flow = new DnsFlow({
      handle: connection.handle,
      judge: connection.judge,
      counted: (verdict) => connection.counted(verdict),
      record: (record) => connection.record(record),
      fault: (code, reason) => connection.fault(code, reason),
      toServer: (message) => this.#toServer.write(framed(message)),
      toClient: (message) => {
        this.#toClient.write(framed(message));
        this.#moved();
      },
    }, shared);
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  async run(): Promise<string> {
    const client = this.#read(this.#connection.client, "head", (message) => {
      if (!this.#flow.fromClient(message)) this.#end("not-readable");
    });
    void client.then((why) => this.#clientEnded(why));
    const why = await this.#ended;
    this.#flow.end();
    closeQuietly(this.#connection.client);
    await this.#server?.then(closeQuietly, () => {});
    await Promise.all([client, this.#fromServer]);
    return why;
  }

  /** The client asks no more; what it asked is still answered. */
  async #clientEnded(why: string): Promise<void> {
    if (why !== "ended") return this.#end(why);
    this.#isClientDone = true;
    if (this.#flow.questions === 0) return await this.#endAfterAnswers("client-closed");
    await this.#toServer.done();
    await this.#server?.then((server) => server.closeWrite()).catch(() => this.#end("reset"));
  }

  /** Hands over what comes from one side. Never rejects. @returns "ended" at its end, else why the connection cannot go on */
  async #read(
    socket: Socket,
    within: "head" | "stream",
    take: (message: Uint8Array) => void,
  ): Promise<string> {
    const from = new Inflow(socket), reader = new FrameReader(this.#shared);
    try {
      this.#connection.waits("idle");
      for (;;) {
        if (from.size === 0 && !await from.fill()) return reader.isWithin ? "cut" : "ended";
        reader.push(from.bytes.subarray(from.start, from.end), take);
        from.use(from.end);
        if (reader.isWithin) {
          if (this.#connection.waitsFor !== within) this.#connection.waits(within);
        } else this.#moved();
        await Promise.all([this.#toServer.room(), this.#toClient.room()]);
      }
    } catch (error) {
      if (!(error instanceof HeldBytesError)) return "reset";
      this.#connection.fault("not-readable", error.message);
      return "not-readable";
    } finally {
      reader.end();
      from.close();
    }
  }

  #moved(): void {
    const waitsFor = this.#flow.questions > 0 ? "stream" : "idle";
    if (this.#connection.waitsFor !== waitsFor) this.#connection.waits(waitsFor);
    else this.#connection.moved();
    if (this.#isClientDone && this.#flow.questions === 0) void this.#endAfterAnswers("client-closed");
    if (this.#serverDone !== "" && this.#flow.held === 0) void this.#endAfterAnswers(this.#serverDone);
  }

  async #endAfterAnswers(why: string): Promise<void> {
    await this.#toClient.done();
    this.#end(why);
  }

  async #connect(): Promise<Socket> {
    try {
      const server = await this.#connection.connect();
      this.#fromServer = this.#read(server, "stream", (message) => this.#flow.fromServer(message));
      void this.#fromServer.then((why) => {
        this.#serverDone = why === "ended" ? "server-closed" : why;
        this.#moved();
      });
      return server;
    } catch (error) {
      this.#end("server-refused");
      throw error;
    }
  }
}
