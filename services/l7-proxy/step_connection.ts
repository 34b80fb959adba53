/**
 * Runs a protocol that is handed the bytes of either direction and says what to write: reads both sides, writes in order, ends both.
 * Requests and answers go side by side, and each side waits for its own writes alone.
 * @module
 */
import type { RedirectedConnection } from "./redirected_connection.ts";
import { OrderedWriter } from "./ordered_writer.ts";
import { closeQuietly, Inflow, type Socket } from "./socket.ts";
import type { Step } from "./step.ts";

/** One connection of such a protocol. */
export interface StepProtocol {
  fromClient(bytes: Uint8Array): Step;
  fromServer(bytes: Uint8Array): Step;
  readonly waitsFor: "head" | "stream" | "idle" | "spliced";
  /** Gives back what is held. */
  end(): void;
}

/** One connection. */
export class StepConnection {
  readonly #connection: RedirectedConnection;
  readonly #protocol: StepProtocol;
  /** Why the rules end it; "": they do not. */
  readonly #closedBy: () => string;
  #server: Promise<Socket> | undefined;
  #fromServer: Promise<string> | undefined;
  /** Once it is connected. */
  #toServer: OrderedWriter | undefined;
  readonly #toClient: OrderedWriter;
  #end!: (why: string) => void;
  readonly #ended: Promise<string> = new Promise((resolve) => this.#end = resolve);

  constructor(connection: RedirectedConnection, protocol: StepProtocol, closedBy: () => string) {
    this.#connection = connection;
    this.#protocol = protocol;
    this.#closedBy = closedBy;
    this.#toClient = new OrderedWriter(connection.client);
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  async run(): Promise<string> {
    const fromClient = new Inflow(this.#connection.client);
    this.#waits();
    const client = this.#read(fromClient, (bytes) => this.#protocol.fromClient(bytes));
    void client.then(async (why) => {
      if (why !== "ended" || this.#server === undefined) {
        return this.#end(why === "ended" ? "client-closed" : why);
      }
      // Answers that are on their way still come.
      try {
        const server = await this.#server;
        // Behind what is being written.
        await this.#toServer!.write([]);
        await server.closeWrite();
      } catch {
        this.#end("reset");
      }
    });
    const why = await this.#ended;
    closeQuietly(this.#connection.client);
    await this.#server?.then(closeQuietly, () => {});
    await Promise.all([client, this.#fromServer]);
    this.#protocol.end();
    return why;
  }

  /** Hands over what comes from one side. Never rejects. @returns "ended" at its end, else why the connection cannot go on */
  async #read(from: Inflow, take: (bytes: Uint8Array) => Step): Promise<string> {
    try {
      for (;;) {
        if (from.size === 0 && !await from.fill()) return "ended";
        const step = take(from.bytes.subarray(from.start, from.end));
        this.#waits();
        const { toServer, toClient } = step;
        if (toServer.length > 0 && toClient.length > 0) {
          await Promise.all([this.#writeServer(toServer), this.#toClient.write(toClient)]);
        } else if (toServer.length > 0) await this.#writeServer(toServer);
        else if (toClient.length > 0) await this.#toClient.write(toClient);
        from.use(from.end);
        if (step.close !== null) return this.#closed(step.close);
      }
    } catch {
      return "reset";
    } finally {
      from.close();
    }
  }

  async #writeServer(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#toServer === undefined) await (this.#server ??= this.#connect());
    await this.#toServer!.write(parts);
  }

  async #connect(): Promise<Socket> {
    try {
      const server = await this.#connection.connect();
      this.#toServer = new OrderedWriter(server);
      this.#fromServer = this.#read(new Inflow(server), (bytes) => this.#protocol.fromServer(bytes));
      void this.#fromServer.then((why) => this.#end(why === "ended" ? "server-closed" : why));
      return server;
    } catch (error) {
      this.#end("server-refused");
      throw error;
    }
  }

  #closed(reason: string): string {
    const byRules = this.#closedBy();
    if (byRules !== "") return byRules;
    this.#connection.fault("not-readable", reason);
    return "not-readable";
  }

  #waits(): void {
    const { waitsFor } = this.#protocol;
    if (this.#connection.waitsFor === waitsFor) this.#connection.moved();
    else this.#connection.waits(waitsFor);
  }
}
