/**
 * gRPC over HTTP/2. A stream is written as fast as its reader takes it: while the reader stands still nothing more is asked of
 * the handler, so that it costs one batch.
 *
 *     connection ─▶ streams, each: headers ─▶ one message ─▶ method ─▶ batches, one write each ─▶ trailers
 *
 * `Deno.serve` sends no trailers; `node:http2` does.
 * @module
 */
import type * as http2 from "node:http2";
import type { Server, Socket } from "node:net";
import type { Server as TlsServer, TlsOptions, TLSSocket } from "node:tls";
import { X509Certificate } from "node:crypto";
import { type Clock, Logger, MetricsRegistry, ProblemError, systemClock } from "@weir/common";
import { CallMetrics } from "./call_metrics.ts";
import { type ConnectionLimits, Connections } from "./connections.ts";
import { FrameReader, framesOf } from "./frame.ts";
import { FilteredSocket, GoawayFilter, PREFACE_BYTES } from "./goaway_filter.ts";
import type { GrpcCall, GrpcMethods } from "./methods.ts";
import { GRPC_STATUS, GrpcError, grpcErrorOf, grpcMessageText, timeoutMs } from "./status.ts";

/** Limits of a server; each has a default. */
export interface GrpcLimits extends ConnectionLimits {
  /** Calls at once on one connection. */
  readonly callsPerConnectionMax: number;
  /** A request's message, its headers. */
  readonly requestBytesMax: number;
  readonly headerBytesMax: number;
  /** Longest wait for a handshake and for a request's message, and for a reader that takes nothing, in milliseconds. */
  readonly requestMsMax: number;
  readonly stallMsMax: number;
}

/** Defaults: a reader that takes nothing for ten minutes is nobody any more. */
export const GRPC_LIMITS: GrpcLimits = {
  connectionsMax: 512,
  callsPerConnectionMax: 100,
  requestBytesMax: 1 << 18,
  headerBytesMax: 16_384,
  requestMsMax: 10_000,
  stallMsMax: 600_000,
  idleMsMax: 120_000,
};

/** Certificates of a server that speaks TLS 1.3 and wants the caller's too. PEM texts. */
export interface GrpcTls {
  readonly cert: string;
  readonly key: string;
  /** Who signs callers' certificates; undefined: callers need none. */
  readonly clientAuthority?: string;
  /** Looks at a caller's certificate, which the authority has signed. @throws what is wrong with it: the connection is closed */
  readonly check?: (certificate: X509Certificate) => void;
}

/** Options of {@link GrpcServer}. */
export interface GrpcServerOptions {
  readonly methods: GrpcMethods;
  /** Sent with every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly limits?: Partial<GrpcLimits>;
  readonly log?: Logger;
  readonly metrics?: MetricsRegistry;
  readonly clock?: Clock;
}

/** Headers of a call: a library sends some ten. */
const HEADERS_MAX = 64;
/** RST_STREAM with this says that the answer was whole. */
const NO_ERROR = 0;
/** Trailers go out before the stream is closed. */
const CLOSE_MS = 20;

/** Where to listen. */
export type GrpcAddress = { readonly path: string } | { readonly hostname: string; readonly port: number };

/** Serves methods on one or more addresses. */
export class GrpcServer {
  readonly #options: Required<Omit<GrpcServerOptions, "limits">>;
  readonly #limits: GrpcLimits;
  readonly #connections: Connections;
  readonly #servers = new Set<Server>();
  readonly #stopping = new AbortController();

  readonly #callMetrics: CallMetrics;

  constructor(options: GrpcServerOptions) {
    this.#limits = { ...GRPC_LIMITS, ...options.limits };
    this.#options = {
      headers: {},
      log: Logger.silent(),
      metrics: new MetricsRegistry(),
      clock: systemClock,
      ...options,
    };
    this.#callMetrics = new CallMetrics(this.#options.metrics, this.#options.methods);
    const { clock, log, metrics } = this.#options;
    this.#connections = new Connections({ limits: this.#limits, clock, log, metrics });
  }

  /**
   * Listens; the port that was given.
   * @returns what takes new certificates
   * @throws {ProblemError} GRPC_FAILED
   */
  async listen(address: GrpcAddress, tls?: GrpcTls): Promise<GrpcListening> {
    // Some megabytes, for those who serve gRPC only.
    const [{ createServer: createSessions }, net, { createServer: createTlsServer }] = await Promise.all([
      import("node:http2"),
      import("node:net"),
      import("node:tls"),
    ]);
    const sessions = createSessions({
      settings: {
        maxConcurrentStreams: this.#limits.callsPerConnectionMax,
        maxHeaderListSize: this.#limits.headerBytesMax,
        enablePush: false,
      },
      maxSessionMemory: 8,
      maxHeaderListPairs: HEADERS_MAX,
    } as http2.ServerOptions);
    sessions.on("stream", this.#answer);
    sessions.on("sessionError", () => {});
    let current = tls;
    const callers = new Map<http2.ServerHttp2Session, X509Certificate>();
    const begin = (socket: Socket) => {
      const filtered = new FilteredSocket(socket, new GoawayFilter(PREFACE_BYTES));
      // The session comes within the call.
      sessions.once("session", (session: http2.ServerHttp2Session) => {
        this.#connections.opened(session, filtered, socket);
        if (
          current?.check !== undefined && !this.#admit(session, socket as TLSSocket, current.check, callers)
        ) {
          return;
        }
        this.#connections.add(session);
      });
      sessions.emit("connection", filtered);
    };
    const server = tls === undefined ? net.createServer({ allowHalfOpen: true }, begin) : createTlsServer({
      ...contextOf(tls),
      allowHalfOpen: true,
    } as TlsOptions, begin);
    if (tls !== undefined) {
      server.on("connection", (socket: Socket) => this.#connections.handshake(socket));
      server.on("tlsClientError", () => this.#connections.refused("handshake"));
    }
    const text = "path" in address ? address.path : `${address.hostname}:${address.port}`;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause: Error) =>
        reject(
          new ProblemError("GRPC_FAILED", {
            status: 500,
            detail: `Cannot listen on ${text}: ${cause.message}`,
            action: "Is the address this machine's, and free?",
            cause,
          }),
        ));
      if ("path" in address) server.listen(address.path, resolve);
      else server.listen(address.port, address.hostname, resolve);
    });
    server.on("error", (error: Error) => this.#options.log.error("gRPC listener failed", { error }));
    this.#servers.add(server);
    const bound = server.address();
    return {
      port: typeof bound === "object" && bound !== null ? bound.port : 0,
      renew: (newer) => {
        current = newer;
        (server as TlsServer).setSecureContext(contextOf(newer) as never);
      },
      recheck: () => {
        for (const [session, certificate] of callers) {
          this.#verify(session, () => current?.check?.(certificate));
        }
      },
    };
  }

  /** Whether a caller may come in, by its certificate. */
  #admit(
    session: http2.ServerHttp2Session,
    socket: TLSSocket,
    check: (certificate: X509Certificate) => void,
    callers: Map<http2.ServerHttp2Session, X509Certificate>,
  ): boolean {
    session.on("error", () => {});
    return this.#verify(session, () => {
      const { raw } = socket.getPeerCertificate(true);
      if (raw === undefined) throw new Error("it shows no certificate");
      const certificate = new X509Certificate(raw);
      check(certificate);
      callers.set(session, certificate);
      session.on("close", () => callers.delete(session));
    });
  }

  #verify(session: http2.ServerHttp2Session, check: () => void): boolean {
    try {
      check();
      return true;
    } catch (error) {
      this.#connections.refused("certificate");
      this.#options.log.debug("gRPC caller refused", { error });
      this.#connections.end(session);
      return false;
    }
  }

  /** Ends every call with UNAVAILABLE and closes. */
  async stop(graceMs = 300): Promise<void> {
    this.#stopping.abort();
    const closed = [...this.#servers].map((server) =>
      new Promise<void>((resolve) => server.close(() => resolve()))
    );
    const { clock } = this.#options, grace = clock.sleep(graceMs).then(() => true);
    for (let isOver = false; !isOver;) {
      this.#connections.close(false);
      const all = Promise.all(closed).then(() => true);
      isOver = await Promise.race([all, grace, clock.sleep(CLOSE_MS).then(() => false)]);
    }
    this.#connections.close(true);
  }

  #answer = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void => {
    const { session } = stream;
    // Its connection was ended for a frame that came behind it.
    if (session === undefined) return void stream.destroy();
    const ended = this.#connections.call(session), gone = new AbortController();
    stream.on("close", () => {
      ended();
      gone.abort();
    });
    stream.on("error", () => gone.abort());
    stream.on("aborted", () => gone.abort());
    this.#run(stream, headers, gone).catch((error) => {
      this.#options.log.debug("gRPC call failed", { error });
      stream.destroy();
    });
  };

  async #run(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    gone: AbortController,
  ): Promise<void> {
    const path = `${headers[":path"]}`, method = this.#options.methods[path];
    const limit = timeoutMs(headers["grpc-timeout"] as string | undefined);
    let late = false;
    const timer = limit === undefined ? undefined : setTimeout(() => {
      late = true;
      gone.abort();
    }, Math.min(limit, 2 ** 31 - 1));
    const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
    const counted = this.#callMetrics.start(path);
    let failure: GrpcError | undefined;
    try {
      if (this.#isClogged(stream)) {
        await this.#taken(stream, signal);
        if (stream.destroyed) return;
      }
      if (!`${headers["content-type"]}`.startsWith("application/grpc")) {
        stream.respond({ ":status": 415 }, { endStream: true });
        return;
      }
      stream.respond(
        { ":status": 200, "content-type": "application/grpc", ...this.#options.headers },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => {
        stream.sendTrailers({
          "grpc-status": `${failure === undefined ? 0 : GRPC_STATUS[failure.status]}`,
          ...(failure === undefined ? {} : { "grpc-message": grpcMessageText(failure.message) }),
        });
        // Whoever has not ended its request would keep the call open for ever.
        if (!stream.readableEnded) setTimeout(() => stream.close(NO_ERROR), CLOSE_MS);
      });
      if (method === undefined || !Object.hasOwn(this.#options.methods, path)) {
        throw new GrpcError("UNIMPLEMENTED", `there is no method ${path}`);
      }
      const request = await this.#readRequest(stream, signal);
      counted.received();
      const call: GrpcCall = { signal, header: (name) => headers[name]?.toString() };
      for await (const batch of method.open(request, call)) {
        if (signal.aborted) break;
        if (batch.length === 0) continue;
        counted.sent(batch.length);
        stream.write(framesOf(batch));
        await this.#taken(stream, signal);
      }
      if (late) throw new GrpcError("DEADLINE_EXCEEDED", "the caller's deadline has passed");
      if (this.#stopping.signal.aborted) throw new GrpcError("UNAVAILABLE", "the server stops");
    } catch (error) {
      failure = grpcErrorOf(error);
      if (failure.status === "INTERNAL") this.#options.log.warn("gRPC call failed", { path, error });
    } finally {
      clearTimeout(timer);
      counted.ended(failure?.status ?? "OK");
    }
    if (stream.destroyed) return;
    stream.end();
    // The last of it may never be taken.
    const closed = new AbortController();
    stream.on("close", () => closed.abort());
    await this.#options.clock.sleep(this.#limits.stallMsMax, closed.signal);
    if (!closed.signal.aborted) this.#stalled(stream);
  }

  #stalled(stream: http2.ServerHttp2Stream): void {
    this.#connections.refused("stalled");
    stream.destroy();
  }

  /** The one message of a request. */
  #readRequest(stream: http2.ServerHttp2Stream, signal: AbortSignal): Promise<Uint8Array> {
    const reader = new FrameReader(this.#limits.requestBytesMax);
    const messages: Uint8Array[] = [];
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => finish(new GrpcError("DEADLINE_EXCEEDED", "no request came")),
        this.#limits.requestMsMax,
      );
      const finish = (error?: unknown) => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        if (error !== undefined) reject(error);
        else if (messages.length === 1) resolve(messages[0]);
        else reject(new GrpcError("UNIMPLEMENTED", "a request has one message here"));
      };
      const onAbort = () => finish(new GrpcError("CANCELLED", "the caller is gone"));
      signal.addEventListener("abort", onAbort);
      stream.on("data", (chunk: Uint8Array) => {
        try {
          messages.push(...reader.push(chunk));
          if (messages.length > 1) finish();
        } catch (error) {
          finish(error);
        }
      });
      stream.on("end", () => {
        try {
          reader.end();
          finish();
        } catch (error) {
          finish(error);
        }
      });
    });
  }

  /**
   * Until the reader has taken what was written, of this call and of its connection: a window says what the reader would take, and
   * `node:http2` writes all of that to a socket that stands still.
   */
  async #taken(stream: http2.ServerHttp2Stream, signal: AbortSignal): Promise<void> {
    const isClogged = this.#isClogged(stream);
    if (signal.aborted || (!stream.writableNeedDrain && !isClogged)) return;
    const waiting = new AbortController();
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { signal: waiting.signal })
    );
    const drained = Promise.all([
      stream.writableNeedDrain && new Promise<void>((resolve) => stream.once("drain", resolve)),
      isClogged && this.#connections.drained(stream.session!),
    ]);
    const stalled = this.#options.clock.sleep(this.#limits.stallMsMax, waiting.signal)
      .then(() => waiting.signal.aborted ? "" : "stalled");
    const ended = await Promise.race([drained, aborted, stalled]);
    waiting.abort();
    if (ended === "stalled") this.#stalled(stream);
  }

  #isClogged({ session }: http2.ServerHttp2Stream): boolean {
    return session !== undefined && this.#connections.isClogged(session);
  }
}

/** What {@link GrpcServer.listen} gives. */
export interface GrpcListening {
  readonly port: number;
  /** New certificates for the next connections. */
  renew(tls: GrpcTls): void;
  /** Looks again at the certificates of those who are connected. */
  recheck(): void;
}

function contextOf({ cert, key, clientAuthority }: GrpcTls): Record<string, unknown> {
  return {
    cert,
    key,
    minVersion: "TLSv1.3",
    ALPNProtocols: ["h2"],
    ...(clientAuthority === undefined
      ? {}
      : { ca: [clientAuthority], requestCert: true, rejectUnauthorized: true }),
  };
}
