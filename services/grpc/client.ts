/**
 * One connection to a server of gRPC, and calls on it: one request, one answer or a stream of them. A stream is read as fast as
 * its messages are taken: who takes nothing lets the server stand still.
 *
 *     connect ─▶ settings of the other side ─▶ identity (TLS) ─▶ calls, and pings while there are some ─▶ closed: why
 *
 * A peer that takes pings and answers none is gone: a process that hangs keeps its connections open. It is counted by turns of our
 * own loop, so that a machine that stood still itself blames nobody.
 * @module
 */
import type * as http2 from "node:http2";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { X509Certificate } from "node:crypto";
import { type Clock, errorText, hostPort, systemClock } from "@weir/common";
import type { Init, Message } from "@weir/proto";
import { FrameReader, framesOf } from "./frame.ts";
import { FilteredSocket, GoawayFilter } from "./goaway_filter.ts";
import type { GrpcAddress } from "./server.ts";
import { GRPC_STATUS, GrpcError, type GrpcStatus } from "./status.ts";

/** What a client shows, and whom it believes. PEM texts. */
export interface GrpcClientTls {
  /** Both or neither: a client without a certificate. */
  readonly cert?: string;
  readonly key?: string;
  /** Who signed the server's; default: those that the system believes. */
  readonly authority?: string;
  /** Name that the server's certificate must have; default: the address. */
  readonly serverName?: string;
  /** Any certificate will do: whoever is in between reads along. */
  readonly isInsecure?: boolean;
  /** Looks at the server's certificate, which the authority has signed. @throws what is wrong with it */
  readonly check?: (certificate: X509Certificate) => void;
}

/** Limits of a connection; each has a default. Milliseconds. */
export interface GrpcClientLimits {
  /** Until the other side has said its settings. */
  connectMsMax: number;
  /** Between pings: with calls and without. */
  pingMs: number;
  idlePingMs: number;
  /** Turns of `turnMs` that a ping may stay without answer. */
  silentTurnsMax: number;
  turnMs: number;
  messageBytesMax: number;
}

/** Defaults: a peer that hangs is known for it 1.5 s after a call began. */
export const GRPC_CLIENT_LIMITS: GrpcClientLimits = {
  connectMsMax: 5000,
  pingMs: 2000,
  idlePingMs: 10_000,
  silentTurnsMax: 3,
  turnMs: 500,
  messageBytesMax: 4 << 20,
};

/** Options of {@link connectGrpc}. */
export interface GrpcClientOptions {
  readonly tls?: GrpcClientTls;
  readonly limits?: Partial<GrpcClientLimits>;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

/** Options of one call. */
export interface GrpcCallOptions {
  readonly signal?: AbortSignal;
  /** The whole call; the server is told too. */
  readonly deadlineMs?: number;
  /** Longest wait for the next message. */
  readonly quietMsMax?: number;
}

/** @throws {GrpcError} UNAVAILABLE, with the reason; UNAUTHENTICATED where the server is another one */
export async function connectGrpc(
  address: GrpcAddress,
  options: GrpcClientOptions = {},
): Promise<GrpcConnection> {
  const limits = { ...GRPC_CLIENT_LIMITS, ...options.limits }, clock = options.clock ?? systemClock;
  const text = "path" in address ? address.path : hostPort(address.hostname, address.port);
  const [{ connect }, socket] = await Promise.all([import("node:http2"), openSocket(address, options.tls)]);
  const { tls } = options;
  const stopping = new AbortController();
  const filtered = new FilteredSocket(socket, new GoawayFilter(0, () => stopping.abort()));
  const session = connect(tls === undefined ? "http://localhost" : `https://${text}`, {
    maxSessionMemory: 32,
    maxHeaderListPairs: 128,
    settings: { enablePush: false },
    createConnection: () => filtered,
  } as http2.SecureClientSessionOptions);
  const ended = new AbortController();
  let recheck: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new GrpcError("UNAVAILABLE", `cannot connect to ${text}: ${why}`));
      session.once("remoteSettings", () => resolve());
      session.on("error", (error: Error) => fail(errorText(error)));
      session.once("close", () => fail("it was closed"));
      options.signal?.addEventListener("abort", () => fail("given up"), { signal: ended.signal });
      if (options.signal?.aborted) fail("given up");
      clock.sleep(limits.connectMsMax, ended.signal).then(() => fail("no answer"));
    });
    recheck = tls?.check && serverCheck(socket as TLSSocket, tls.check, text);
    recheck?.();
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    ended.abort();
  }
  const connection = new GrpcConnection(session, { socket, limits, clock, recheck });
  const stop = () => connection.close("the server stops");
  if (stopping.signal.aborted) stop();
  else stopping.signal.addEventListener("abort", stop);
  return connection;
}

async function openSocket(address: GrpcAddress, tls: GrpcClientTls | undefined): Promise<Socket> {
  if (tls === undefined || "path" in address) {
    const { connect } = await import("node:net");
    return "path" in address ? connect(address.path) : connect(address.port, address.hostname);
  }
  const { connect } = await import("node:tls"), { isIP } = await import("node:net");
  const name = tls.serverName ?? (isIP(address.hostname) === 0 ? address.hostname : undefined);
  return connect({
    host: address.hostname,
    port: address.port,
    ALPNProtocols: ["h2"],
    ...(tls.cert === undefined ? {} : { cert: tls.cert, key: tls.key }),
    ...(tls.authority === undefined ? {} : { ca: [tls.authority] }),
    ...(name === undefined ? {} : { servername: name }),
    minVersion: "TLSv1.3",
    rejectUnauthorized: tls.isInsecure !== true,
  });
}

function serverCheck(
  socket: TLSSocket,
  check: (certificate: X509Certificate) => void,
  text: string,
): () => void {
  const { raw } = socket.getPeerCertificate(true);
  return () => {
    try {
      if (raw === undefined) throw new Error("it shows no certificate");
      check(new X509Certificate(raw));
    } catch (cause) {
      throw new GrpcError("UNAUTHENTICATED", `${text} is not who is meant: ${errorText(cause)}`, { cause });
    }
  };
}

/** One connection. Made by {@link connectGrpc}; it does not come back once it is closed. */
export class GrpcConnection {
  /** Resolves with why it ended. */
  readonly closed: Promise<string>;
  readonly #session: http2.ClientHttp2Session;
  readonly #socket: Socket;
  readonly #limits: GrpcClientLimits;
  readonly #clock: Clock;
  readonly #recheck: (() => void) | undefined;
  readonly #end = new AbortController();
  #why = "";
  #calls = 0;
  /** Ends the wait between two pings. */
  #wake = new AbortController();

  constructor(
    session: http2.ClientHttp2Session,
    parts: { socket: Socket; limits: GrpcClientLimits; clock: Clock; recheck?: () => void },
  ) {
    this.#socket = parts.socket;
    this.#recheck = parts.recheck;
    this.#session = session;
    this.#limits = parts.limits;
    this.#clock = parts.clock;
    this.closed = new Promise((resolve) => {
      session.on("error", (error: Error) => this.#why ||= errorText(error));
      session.on("close", () => {
        this.#end.abort();
        resolve(this.#why ||= "the server closed the connection");
      });
    });
    this.#watch();
  }

  /** Ends it by its socket, without GOAWAY: servers on Deno may die of one (`goaway_filter.ts`). */
  close(why = "closed here"): void {
    this.#why ||= why;
    this.#socket.destroy();
  }

  /** Looks again at the server's certificate, and closes where it is not believed any more. */
  recheck(): void {
    try {
      this.#recheck?.();
    } catch (error) {
      this.close(errorText(error));
    }
  }

  /** A call with one answer. @throws {GrpcError} */
  async unary<Req, Res>(
    path: string,
    [request, response]: readonly [Message<Req>, Message<Res>],
    value: Init<Req>,
    options: GrpcCallOptions = {},
  ): Promise<Res> {
    const messages: Uint8Array[] = [];
    for await (const batch of this.stream(path, request.encode(value), options)) {
      messages.push(...batch);
      if (messages.length > 1) {
        throw new GrpcError("INTERNAL", "the server gives many answers instead of one");
      }
    }
    if (messages.length === 0) throw new GrpcError("INTERNAL", "the server gives no answer");
    try {
      return response.decode(messages[0]);
    } catch (cause) {
      throw new GrpcError("INTERNAL", "the server's answer cannot be read", { cause });
    }
  }

  /**
   * A call with many answers: the messages as they come, those of one read together. Leaving the loop ends the call.
   * @throws {GrpcError} as the server ends it; UNAVAILABLE where the connection breaks, DEADLINE_EXCEEDED
   */
  async *stream(
    path: string,
    request: Uint8Array,
    { signal, deadlineMs, quietMsMax }: GrpcCallOptions = {},
  ): AsyncGenerator<Uint8Array[]> {
    if (this.#session.closed || this.#session.destroyed) {
      throw new GrpcError("UNAVAILABLE", this.#why || "the connection is closed");
    }
    const stream = this.#session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...(deadlineMs === undefined ? {} : { "grpc-timeout": `${Math.ceil(deadlineMs)}m` }),
    });
    const call = new Call(stream), over = new AbortController();
    this.#calls++;
    this.#wake.abort();
    const cancel = () => call.fail(new GrpcError("CANCELLED", "given up here"));
    signal?.addEventListener("abort", cancel, { signal: over.signal });
    if (signal?.aborted) cancel();
    this.#end.signal.addEventListener("abort", () => call.fail(new GrpcError("UNAVAILABLE", this.#why)), {
      signal: over.signal,
    });
    const late = (ms: number, what: string, until: AbortSignal) =>
      this.#clock.sleep(ms, until).then(() => {
        if (!until.aborted) call.fail(new GrpcError("DEADLINE_EXCEEDED", `${what} within ${ms / 1000} s`));
      });
    if (deadlineMs !== undefined) late(deadlineMs, "no end", over.signal);
    try {
      stream.end(framesOf([request]));
      const reader = new FrameReader(this.#limits.messageBytesMax);
      for (;;) {
        const waiting = new AbortController();
        if (quietMsMax !== undefined) late(quietMsMax, "nothing came", waiting.signal);
        const chunk = await call.read();
        waiting.abort();
        if (chunk === undefined) break;
        const messages = pushed(reader, chunk);
        if (messages.length > 0) yield messages;
      }
      ensureWhole(reader);
    } finally {
      this.#calls--;
      over.abort();
      call.end();
    }
  }

  async #watch(): Promise<void> {
    const { pingMs, idlePingMs, silentTurnsMax, turnMs } = this.#limits;
    while (!this.#end.signal.aborted) {
      const answered = new AbortController();
      try {
        this.#session.ping((error) => error === null && answered.abort());
      } catch {
        return this.close("the connection is closed");
      }
      for (let turn = 0; turn < silentTurnsMax && !answered.signal.aborted; turn++) {
        await this.#clock.sleep(turnMs, AbortSignal.any([answered.signal, this.#end.signal]));
        if (this.#end.signal.aborted) return;
      }
      if (!answered.signal.aborted) return this.close("it does not answer");
      this.#wake = new AbortController();
      const waits = AbortSignal.any([this.#wake.signal, this.#end.signal]);
      await this.#clock.sleep(this.#calls > 0 ? pingMs : idlePingMs, waits);
      // Many calls in one moment are one ping.
      if (waits.aborted) await this.#clock.sleep(turnMs / 2, this.#end.signal);
    }
  }
}

/** One call's body, read on demand, and how it ended. */
class Call {
  readonly #stream: http2.ClientHttp2Stream;
  readonly #chunks: Uint8Array[] = [];
  #failure: GrpcError | undefined;
  #isOver = false;
  /** What the headers or trailers say of the end. */
  #said: http2.IncomingHttpHeaders | undefined;
  #tell = () => {};

  constructor(stream: http2.ClientHttp2Stream) {
    this.#stream = stream;
    stream.on("response", (headers) => {
      if (headers["grpc-status"] !== undefined) this.#said = headers;
      else if (headers[":status"] !== 200 || !`${headers["content-type"]}`.startsWith("application/grpc")) {
        this.fail(new GrpcError("UNAVAILABLE", `no server of gRPC: it answers HTTP ${headers[":status"]}`));
      }
    });
    stream.on("trailers", (headers) => this.#said = headers);
    stream.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      stream.pause();
      this.#tell();
    });
    stream.on("error", (error: Error) => this.fail(new GrpcError("UNAVAILABLE", errorText(error))));
    stream.on("close", () => {
      this.#isOver = true;
      this.#tell();
    });
    stream.pause();
  }

  /** The next part of the body; undefined after its good end. @throws {GrpcError} after another one */
  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) return chunk;
      if (this.#isOver) return this.#ended();
      const told = new Promise<void>((resolve) => this.#tell = resolve);
      this.#stream.resume();
      await told;
    }
  }

  fail(error: GrpcError): void {
    this.#failure ??= error;
    this.#tell();
  }

  end(): void {
    this.#tell = () => {};
    // 8: CANCEL. Of a call that is over it is nothing.
    if (!this.#stream.closed && !this.#stream.destroyed) this.#stream.close(8);
  }

  #ended(): undefined {
    const code = Number(this.#said?.["grpc-status"]);
    if (code === 0) return undefined;
    if (this.#said === undefined) throw new GrpcError("UNAVAILABLE", "the call broke off");
    const [status = "UNKNOWN"] = Object.entries(GRPC_STATUS).find(([, number]) => number === code) ?? [];
    throw new GrpcError(status as GrpcStatus, textOf(this.#said["grpc-message"]));
  }
}

function pushed(reader: FrameReader, chunk: Uint8Array): Uint8Array[] {
  try {
    return reader.push(chunk);
  } catch (cause) {
    throw new GrpcError("INTERNAL", `the server's stream cannot be read: ${errorText(cause)}`, { cause });
  }
}

function ensureWhole(reader: FrameReader): void {
  try {
    reader.end();
  } catch (cause) {
    throw new GrpcError("INTERNAL", "the server's stream ends inside a message", { cause });
  }
}

/** grpc-message as text for people: decoded, short, without control characters. */
function textOf(header: string | string[] | undefined): string {
  let text = `${header ?? ""}`.slice(0, 3072);
  try {
    text = decodeURIComponent(text);
  } catch {
    // As it came.
  }
  return text.replace(/\p{C}+/gu, " ").slice(0, 1024);
}
