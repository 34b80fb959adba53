/** Writing to a socket from several places. @module */
import { type Socket, writeAll } from "./socket.ts";

/** Writes of several parts each, one write after the other, in the order in which they were asked for. */
export class OrderedWriter {
  readonly #socket: Socket;
  readonly #waiting: (() => void)[] = [];
  #isBusy = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Resolves when all of it is written, and what was asked for before. @throws what write throws */
  async write(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#isBusy) await new Promise<void>((turn) => this.#waiting.push(turn));
    this.#isBusy = true;
    try {
      for (const part of parts) await writeAll(this.#socket, part);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#isBusy = false;
      else next();
    }
  }
}
