/**
 * HTTP for browsers: plain on loopback, TLS elsewhere, where a client may show a certificate of an authority. `node:http`, because
 * it tells of a reader who takes nothing, and has deadlines for headers; `Deno.serve` has neither, nor client certificates.
 * @module
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Server as TlsServer, TlsOptions, TLSSocket } from "node:tls";
import { type Clock, errorText, hostPort, type Logger, ProblemError, serveNodeRequest } from "@weir/common";
import type { PageAddress } from "./listen_address.ts";

/** Connections at once; further ones are closed. */
const CONNECTIONS_MAX = 512;
const HEADERS_MS_MAX = 10_000, REQUEST_MS_MAX = 30_000, IDLE_MS_MAX = 60_000, HEADER_BYTES_MAX = 16_384;

/** What the server shows, and whose certificates it takes. PEM texts. */
export interface WebTls {
  readonly cert: string;
  readonly key: string;
  /** Undefined: no client certificate is asked for. */
  readonly authority?: string;
}

/** Where to listen. */
export interface WebListenOptions {
  readonly address: PageAddress | { readonly path: string };
  /** Of a port. */
  readonly tls?: WebTls;
  readonly log: Logger;
  readonly clock: Clock;
}

/** What listens. */
export interface WebListener {
  /** 0 of a unix socket. */
  readonly port: number;
  /** From now on it shows another certificate; those who are connected stay. */
  renew(tls: WebTls): void;
  shutdown(): Promise<void>;
}

/** Listens. @throws {ProblemError} TCP_FAILED, SOCKET_FAILED */
export async function listenWeb(
  handler: (request: Request, isTrusted: boolean) => Promise<Response>,
  { address, tls, log, clock }: WebListenOptions,
): Promise<WebListener> {
  const sockets = new Set<Socket>();
  const serve = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const isTrusted = tls?.authority !== undefined && (incoming.socket as TLSSocket).authorized === true;
    serveNodeRequest(incoming, outgoing, { handler: (request) => handler(request, isTrusted), begin() {} });
  };
  const server = await serverOf(serve, tls);
  server.headersTimeout = HEADERS_MS_MAX;
  server.requestTimeout = REQUEST_MS_MAX;
  server.keepAliveTimeout = IDLE_MS_MAX;
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      if ("path" in address) server.listen({ path: address.path }, () => resolve());
      else server.listen(address.port, address.hostname, () => resolve());
    });
  } catch (cause) {
    throw notListening(address, cause);
  }
  server.on("error", (error: Error) => log.error("Listener failed", { error }));
  return {
    port: "path" in address ? 0 : (server.address() as { port: number }).port,
    renew: (newer) => (server as unknown as TlsServer).setSecureContext(contextOf(newer)),
    async shutdown() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await Promise.race([closed, clock.sleep(200)]);
      for (const socket of sockets) socket.destroy();
      await Promise.race([closed, clock.sleep(1000)]);
    },
  };
}

function notListening(address: WebListenOptions["address"], cause: unknown): ProblemError {
  if ("path" in address) {
    return new ProblemError("SOCKET_FAILED", {
      status: 500,
      detail: `Cannot listen on ${address.path}: ${errorText(cause)}`,
      cause,
    });
  }
  return new ProblemError("TCP_FAILED", {
    status: 500,
    detail: `Cannot listen on ${hostPort(address.hostname, address.port)}: ${errorText(cause)}`,
    action: "Is the address this machine's, and the port free? Choose another",
    cause,
  });
}

async function serverOf(
  serve: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
  tls: WebTls | undefined,
): Promise<Server> {
  const limits = { maxHeaderSize: HEADER_BYTES_MAX, connectionsCheckingInterval: HEADERS_MS_MAX / 2 };
  if (tls === undefined) {
    const { createServer } = await import("node:http");
    return createServer(limits, serve);
  }
  const { createServer } = await import("node:https");
  return createServer({ ...limits, ...contextOf(tls) }, serve) as unknown as Server;
}

function contextOf({ cert, key, authority }: WebTls): TlsOptions {
  return {
    cert,
    key,
    minVersion: "TLSv1.3",
    // A wrong certificate, or none, is told so in HTTP, where there are words.
    ...(authority === undefined ? {} : { ca: [authority], requestCert: true, rejectUnauthorized: false }),
  };
}
