/**
 * One connection of memcached's: text or binary, as its first byte says. It is handed bytes as they come and says what to write; it knows no
 * sockets, and no value is held.
 * @module
 */
import { MemcacheCommandError } from "@weir/l7-rules";
import { HeldBytesError } from "../held_bytes.ts";
import type { Step } from "../step.ts";
import { BinaryProtocol, REQUEST_MAGIC } from "./binary_protocol.ts";
import type { MemcacheProtocol, Out, ProtocolOptions } from "./protocol.ts";
import { TextProtocol } from "./text_protocol.ts";
import { MemcacheFormError } from "./verdict.ts";

/** One connection. */
export class MemcacheConnection {
  readonly #options: ProtocolOptions;
  #protocol: MemcacheProtocol | undefined;
  #closed: string | null = null;

  constructor(options: ProtocolOptions) {
    this.#options = options;
  }

  get waitsFor(): "head" | "stream" | "idle" {
    return this.#protocol?.waitsFor ?? "idle";
  }

  /** Bytes that the client sent. */
  fromClient(bytes: Uint8Array): Step {
    return this.#run((out) => {
      this.#protocol ??= protocolOf(bytes, this.#options);
      this.#protocol.fromClient(bytes, out);
    });
  }

  /** Bytes that the server sent. */
  fromServer(bytes: Uint8Array): Step {
    return this.#run((out) => this.#protocol!.fromServer(bytes, out));
  }

  /** The connection has ended: what it held is given back. */
  end(): void {
    this.#closed ??= "it has ended";
    this.#protocol?.end();
  }

  #run(work: (out: Out) => void): Step {
    const out = { toServer: [], toClient: [] };
    if (this.#closed === null) {
      try {
        work(out);
        this.#closed = this.#protocol!.closes || null;
      } catch (error) {
        if (
          !(error instanceof HeldBytesError || error instanceof MemcacheFormError ||
            error instanceof MemcacheCommandError)
        ) throw error;
        this.#closed = error.message;
      }
    }
    return { ...out, close: this.#closed };
  }
}

function protocolOf(bytes: Uint8Array, options: ProtocolOptions): MemcacheProtocol {
  if (bytes[0] === 0x16) throw new MemcacheFormError("TLS on a port with a memcached rule");
  return bytes[0] === REQUEST_MAGIC ? new BinaryProtocol(options) : new TextProtocol(options);
}
