/**
 * One connection that the datapath redirected, from its first byte to its end, whatever protocol it carries: who it is, what judges it, what it
 * waits for, and its way on to the server.
 * @module
 */
import type { Clock } from "@weir/common";
import type { Init } from "@weir/proto";
import { Handle, type L7Kind, type L7Record } from "@weir/proto/l7";
import { ProxyConnection } from "@weir/proto/proxy";
import type { Waiting } from "./http1/connection.ts";
import { ConnectionJudge } from "./connection_judge.ts";
import type { RecordSink } from "./record_sender.ts";
import type { RuleBook } from "./rule_book.ts";
import { closeQuietly, type Socket } from "./socket.ts";

/** How long a connection may wait, by what it waits for, in milliseconds. */
export const WAIT_MS_MAX: Readonly<Record<Waiting | "handle", number>> = {
  /** Until it is known whose the connection is. */
  handle: 10_000,
  /** For the next request: servers and clients end idle connections sooner, by themselves. */
  idle: 3600_000,
  /** From a request's first byte to the end of its head. */
  head: 30_000,
  /** Without a byte in either direction while a request is under way. */
  stream: 300_000,
  spliced: 3600_000,
};

/** What a connection needs of the proxy. */
export interface ConnectionParts {
  readonly number: number;
  readonly client: Socket;
  readonly handle: Handle;
  readonly book: RuleBook;
  readonly records: RecordSink;
  readonly clock: Clock;
  /** Opens the way to the server. */
  readonly open: () => Promise<Socket>;
  /** A request was judged: for counters. */
  readonly onRequest: (verdict: "forwarded" | "denied", kind: L7Kind) => void;
  /** Something that could not be read: for counters. */
  readonly onFault: (code: string, kind: L7Kind) => void;
}

/** One redirected connection. */
export class RedirectedConnection {
  readonly judge: ConnectionJudge;
  readonly clock: Clock;
  readonly sinceMs: number;
  kind: L7Kind = "L7_KIND_UNSPECIFIED";
  requests = 0;
  denied = 0;
  waitsFor: Waiting | "handle" = "handle";
  /** Why it was ended from outside; "" while it was not. */
  endedBy = "";
  /** When something moved, as the last look found it. */
  #movedMs: number;
  /** Something has moved since: every piece says so, and asks no clock. */
  #hasMoved = true;
  #server: Socket | undefined;
  readonly #parts: ConnectionParts;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.clock = parts.clock;
    // Each of its records has it.
    Handle.keep(parts.handle);
    this.judge = new ConnectionJudge(parts.book, parts.handle);
    this.sinceMs = this.#movedMs = parts.clock.monotonicMs();
  }

  get number(): number {
    return this.#parts.number;
  }

  get client(): Socket {
    return this.#parts.client;
  }

  /** Whose shares it takes of what all connections have together. */
  get payer(): string {
    return payerOf(this.#parts.handle);
  }

  get handle(): Handle {
    return this.#parts.handle;
  }

  /** Opens the way to the server; closed with the connection. */
  async connect(): Promise<Socket> {
    const server = await this.#parts.open();
    if (this.endedBy !== "") {
      closeQuietly(server);
      throw new Error(this.endedBy);
    }
    return this.#server = server;
  }

  counted(verdict: "allowed" | "denied" | "closed"): void {
    this.requests++;
    if (verdict !== "allowed") this.denied++;
    this.#parts.onRequest(verdict === "allowed" ? "forwarded" : "denied", this.kind);
  }

  record(record: Init<L7Record>): void {
    this.#parts.records.send({
      ...record,
      timeUnixS: this.clock.nowMs() / 1000,
      connection: this.#parts.handle,
    });
  }

  /** What could not be read or judged, in one sentence: a record for each end that judges. */
  fault(code: string, reason: string): void {
    this.#parts.onFault(code, this.kind);
    for (const place of this.judge.places) {
      this.record({
        direction: place.side,
        type: "REQUEST",
        verdict: "ERROR",
        cookie: "cookie" in place ? place.cookie : 0,
        reason,
        http: this.kind === "HTTP" ? {} : undefined,
        dns: this.kind === "DNS" ? {} : undefined,
      });
    }
  }

  waits(what: Waiting): void {
    this.waitsFor = what;
    this.#hasMoved = true;
  }

  moved(): void {
    // A head is given its whole time from the first byte on, however it trickles.
    if (this.waitsFor !== "head") this.#hasMoved = true;
  }

  /** Ends it if it has waited for too long, counted from the first look that found it waiting. @returns what for, or undefined */
  expire(nowMs: number): string | undefined {
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#movedMs = nowMs;
      return undefined;
    }
    if (nowMs - this.#movedMs <= WAIT_MS_MAX[this.waitsFor]) return undefined;
    this.end(`timeout-${this.waitsFor}`);
    return this.waitsFor;
  }

  /** Ends it from outside. */
  end(why: string): void {
    if (this.endedBy === "") this.endedBy = why;
    closeQuietly(this.#parts.client);
    closeQuietly(this.#server);
  }

  /** As the API shows it. */
  message(): ProxyConnection {
    const monotonicMs = this.clock.monotonicMs(), zeroMs = this.clock.nowMs() - monotonicMs;
    return ProxyConnection.create({
      name: `${this.#parts.number}`,
      connection: this.#parts.handle,
      kind: this.kind,
      sinceUnixS: (zeroMs + this.sinceMs) / 1000,
      movedUnixS: (zeroMs + (this.#hasMoved ? monotonicMs : this.#movedMs)) / 1000,
      waitsFor: this.waitsFor,
      requests: this.requests,
      denied: this.denied,
    });
  }
}

/** The client: its endpoint where it is one of this node, else its address. */
export function payerOf({ egress, clientAddress }: Handle): string {
  return `client ${egress?.endpoint ?? clientAddress}`;
}
