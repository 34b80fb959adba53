/** Peers in memory, for tests. @module */
import { Http1Connection, type Http1Host, type Judgement, type Waiting } from "./http1/connection.ts";
import type { Http1Error } from "./http1/http1_error.ts";
import type { RequestHead } from "./http1/request_head.ts";
import type { Socket } from "./socket.ts";

const encoder = new TextEncoder();

/** Text as bytes, one for each character up to U+00FF. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

/** Bytes as text, one character for each. */
export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** A socket of which a test is the other side. */
export class MemorySocket implements Socket {
  /** What was written to it. */
  written: Uint8Array[] = [];
  closedWrite = false;
  closed = false;
  #incoming: (Uint8Array | null | Error)[] = [];
  #wake: (() => void) | undefined;

  /** Pieces that will be read, one for each read; null: the end, an error: a reset. */
  send(...pieces: (string | Uint8Array | null | Error)[]): this {
    for (const piece of pieces) {
      this.#incoming.push(typeof piece === "string" ? encoder.encode(piece) : piece);
    }
    this.#wake?.();
    return this;
  }

  get text(): string {
    return this.written.map(latin1).join("");
  }

  async read(bytes: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.closed) throw new Deno.errors.BadResource("closed");
      const piece = this.#incoming.shift();
      if (piece === null) {
        this.#incoming.unshift(null);
        return null;
      }
      if (piece instanceof Error) throw piece;
      if (piece !== undefined) {
        bytes.set(piece.subarray(0, bytes.length));
        if (piece.length > bytes.length) this.#incoming.unshift(piece.subarray(bytes.length));
        return Math.min(piece.length, bytes.length);
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    if (this.closed) return Promise.reject(new Deno.errors.BrokenPipe("closed"));
    this.written.push(bytes.slice());
    return Promise.resolve(bytes.length);
  }

  closeWrite(): Promise<void> {
    this.closedWrite = true;
    return Promise.resolve();
  }

  close(): void {
    if (this.closed) throw new Deno.errors.BadResource("closed");
    this.closed = true;
    this.#wake?.();
  }
}

/** What a connection did, as its host saw it. */
export class SeenHost implements Http1Host {
  readonly judged: RequestHead[] = [];
  readonly answers: { head: RequestHead; status: number; isLocal: boolean }[] = [];
  readonly faults: { error: Http1Error; side: string }[] = [];
  readonly server = new MemorySocket();
  connects = 0;
  waiting: Waiting = "idle";

  /** @param rule what becomes of a request; default: allowed */
  constructor(
    readonly rule: (head: RequestHead) => Judgement = () => ({ verdict: "allowed", changes: [] }),
  ) {}

  judge(head: RequestHead): Judgement {
    this.judged.push(head);
    return this.rule(head);
  }
  connect(): Promise<Socket> {
    this.connects++;
    return Promise.resolve(this.server);
  }
  answered(head: RequestHead, { status }: { status: number }, isLocal: boolean): void {
    this.answers.push({ head, status, isLocal });
  }
  fault(error: Http1Error, side: "client" | "server"): void {
    this.faults.push({ error, side });
  }
  waits(what: Waiting): void {
    this.waiting = what;
  }
  moved(): void {}
}

/** Runs a connection with what both sides send, to its end. */
export async function converse(
  client: (string | Uint8Array | null | Error)[],
  server: (string | Uint8Array | null | Error)[] = [],
  rule?: (head: RequestHead) => Judgement,
): Promise<{ end: string; client: MemorySocket; host: SeenHost }> {
  const socket = new MemorySocket().send(...client), host = new SeenHost(rule);
  host.server.send(...server);
  const end = await new Http1Connection(socket, host).run();
  return { end, client: socket, host };
}
