/** The connection to one node's Observer, for as long as the node is known: made, lost, made again with backoff. @module */
import { Backoff, type Clock, errorText, type Logger } from "@weir/common";
import { connectGrpc, type GrpcAddress, type GrpcClientTls, type GrpcConnection } from "@weir/grpc";
import { RESPONSE_BYTES_MAX } from "./node_answer.ts";

/** How a node is reached. */
export interface NodeTarget {
  readonly address: GrpcAddress;
  /** Read anew for each connection: certificates are renewed. */
  readonly tls?: () => GrpcClientTls;
}

/** `connecting`: the first attempt still runs. */
export type LinkState = "connecting" | "connected" | "away" | "gone";

/** What a link is made of. */
export interface LinkParts {
  /** CLUSTER/NODE, as flows name it. */
  readonly name: string;
  /** @throws {ProblemError} no way leads there */
  readonly target: () => NodeTarget;
  readonly onChange: (link: NodeLink) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** One node. */
export class NodeLink {
  readonly name: string;
  state: LinkState = "connecting";
  /** Why it is away. */
  reason = "not connected yet";
  connection: GrpcConnection | undefined;
  readonly #parts: LinkParts;
  readonly #stop = new AbortController();

  constructor(parts: LinkParts) {
    this.name = parts.name;
    this.#parts = parts;
    this.#run();
  }

  /** Where it is, for people; "" where no way leads there. */
  get address(): string {
    try {
      const { address } = this.#parts.target();
      return "path" in address ? `unix://${address.path}` : `${address.hostname}:${address.port}`;
    } catch {
      return "";
    }
  }

  /** Name of the server in its certificate; undefined without TLS. */
  get serverName(): string | undefined {
    try {
      return this.#parts.target().tls?.().serverName;
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#stop.abort();
    this.connection?.close();
    this.connection = undefined;
    this.#set("gone", "no node of the cluster any more");
  }

  async #run(): Promise<void> {
    const { clock, log, target } = this.#parts, { signal } = this.#stop;
    const backoff = new Backoff({ delayMsMin: 250, delayMsMax: 5000 });
    while (!signal.aborted) {
      let reason: string;
      try {
        const { address, tls } = target();
        const connection = await connectGrpc(address, {
          tls: tls?.(),
          limits: { messageBytesMax: RESPONSE_BYTES_MAX },
          clock,
          signal,
        });
        if (signal.aborted) return connection.close();
        this.connection = connection;
        this.#set("connected", "");
        const sinceMs = clock.monotonicMs();
        reason = await connection.closed;
        // One that ends at once every time is asked less and less.
        if (clock.monotonicMs() - sinceMs > 5000) backoff.reset();
      } catch (error) {
        reason = errorText(error);
      }
      this.connection = undefined;
      if (signal.aborted) return;
      if (this.state !== "away" || this.reason !== reason) {
        log.info("Node is away", { node: this.name, reason });
      }
      this.#set("away", reason);
      await clock.sleep(backoff.nextMs(), signal);
    }
  }

  #set(state: LinkState, reason: string): void {
    const isNews = state !== this.state;
    this.state = state;
    this.reason = reason;
    if (isNews) this.#parts.onChange(this);
  }
}
