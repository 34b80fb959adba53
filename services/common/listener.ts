/**
 * Puts a handler on a unix socket (mode 0660, or 0600 where only root may ask) or on TCP of loopback. TCP beyond loopback is `listenTls()`; nothing
 * listens there unless it was told to.
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import type { Handler } from "./handler.ts";
import { ProblemError, problemResponse } from "./problem.ts";

/** Mode of a socket unless it is told otherwise: the owner and its group, nobody else. */
export const SOCKET_MODE = 0o660;
/** Connections that wait to be accepted; the kernel's own bound is below it. */
const BACKLOG_MAX = 4096;
/** Longest path that the kernel takes for a unix socket, in bytes (sockaddr_un less the final NUL). */
export const SOCKET_PATH_BYTES_MAX = 107;

/** A TCP address of loopback to listen on. */
export interface TcpOptions {
  /** Default 127.0.0.1. */
  hostname?: string;
  port: number;
  /** Bearer token that every request but /livez and /readyz carries. */
  token?: string;
}

/** What listens; `shutdown()` lets running requests end for `graceMs`, then cuts them. */
export interface Listener {
  /** "unix:/run/weir/x.sock" or "https://127.0.0.1:9000". */
  readonly address: string;
  readonly port?: number;
  shutdown(graceMs?: number): Promise<void>;
}

/** How {@link listenUnix} listens. */
export interface UnixOptions {
  /** Of the socket file, default {@link SOCKET_MODE}. */
  mode?: number;
  /**
   * Serve by `node:http` and not by `Deno.serve`, for thousands of streams: each then costs a quarter of the memory, and a
   * third less CPU for each write. Loading it costs the process 11 MB.
   */
  isForMany?: boolean;
}

/**
 * Listens on a unix socket. A socket file that nobody serves any more is replaced.
 * @throws {ProblemError} SOCKET_IN_USE, SOCKET_PATH_TOO_LONG, SOCKET_FAILED
 */
export async function listenUnix(
  handler: Handler,
  path: string,
  { mode = SOCKET_MODE, isForMany = false }: UnixOptions = {},
): Promise<Listener> {
  const bytes = new TextEncoder().encode(path).length;
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new ProblemError("SOCKET_PATH_TOO_LONG", {
      detail: `Cannot listen on ${path}: the path has ${bytes} of at most ${SOCKET_PATH_BYTES_MAX} bytes`,
      found: bytes,
      expected: `at most ${SOCKET_PATH_BYTES_MAX}`,
      action: "Choose a shorter directory for the sockets",
    });
  }
  await removeStaleSocket(path);
  const remove = async () => {
    await Deno.remove(path).catch(() => {});
  };
  let server: Deno.HttpServer;
  try {
    if (isForMany) {
      const server = await listenNode(handler, path);
      Deno.chmodSync(path, mode);
      return {
        address: `unix:${path}`,
        shutdown: async (graceMs = 1000) => {
          await server.stop(graceMs);
          await remove();
        },
      };
    }
    server = Deno.serve({ path, onListen() {}, onError: problemResponse }, (request) => handler(request));
    // At once, before any request is answered: the agent makes the file root's when it has an answer.
    Deno.chmodSync(path, mode);
  } catch (cause) {
    throw new ProblemError("SOCKET_FAILED", { status: 500, detail: `Cannot listen on ${path}`, cause });
  }
  return listenerOf(server, `unix:${path}`, remove);
}

/**
 * Listens on TCP of loopback, in plain text.
 * @throws {ProblemError} TCP_INSECURE: beyond loopback
 */
export function listenTcp(handler: Handler, options: TcpOptions): Listener {
  const hostname = options.hostname ?? "127.0.0.1";
  if (!isLoopback(hostname)) {
    throw new ProblemError("TCP_INSECURE", {
      detail: `Cannot listen on ${hostname}:${options.port}: beyond loopback mutual TLS is needed`,
      found: "no TLS",
      expected: "a directory with node.crt, node.key and ca.crt",
      action: "Give --tls-directory, --trust and --access, as the agent does, or listen on 127.0.0.1",
    });
  }
  const guarded = options.token === undefined ? handler : requireToken(handler, options.token);
  const server = Deno.serve(
    { hostname, port: options.port, onListen() {}, onError: problemResponse },
    (request) => guarded(request),
  );
  const port = (server.addr as Deno.NetAddr).port;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return { ...listenerOf(server, `http://${host}:${port}`), port };
}

/** A handler that answers 401 to every request without the token; probes need none. */
function requireToken(handler: Handler, token: string): Handler {
  const expected = digest(token);
  return (request) => {
    const path = new URL(request.url).pathname;
    if (path === "/livez" || path === "/readyz") return handler(request);
    const header = request.headers.get("authorization") ?? "";
    const given = header.startsWith("Bearer ") ? header.slice("Bearer ".length) : "";
    // Digests have one length, so the comparison takes the same time whatever was sent.
    if (timingSafeEqual(digest(given), expected)) return handler(request);
    return problemResponse(
      new ProblemError("UNAUTHENTICATED", {
        status: 401,
        detail: "Cannot answer: the bearer token is missing or wrong",
        expected: "Authorization: Bearer TOKEN",
        action: "Send the token of this service",
      }),
    );
  };
}

/**
 * A handler that passes GET and HEAD on, and questions that are asked by POST, and answers 403 to everything that may change something.
 * @param isQuestion see `ApiServer.isQuestion()`
 */
export function readOnly(handler: Handler, isQuestion: (request: Request) => boolean = () => false): Handler {
  return (request) => {
    if (request.method === "GET" || request.method === "HEAD" || isQuestion(request)) return handler(request);
    return problemResponse(
      new ProblemError("READ_ONLY", {
        status: 403,
        detail: `Cannot ${request.method} here: this socket answers reading requests only`,
        found: request.method,
        expected: "GET, or a question that is asked by POST",
      }),
    );
  };
}

/** True for 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

/** A server of `node:http` on a unix socket, whose callers are local and trusted. */
async function listenNode(handler: Handler, path: string): Promise<{ stop(graceMs: number): Promise<void> }> {
  const [{ createServer }, { serveNodeRequest }] = await Promise.all([
    import("node:http"),
    import("./node_http.ts"),
  ]);
  const server = createServer((incoming, outgoing) =>
    serveNodeRequest(incoming, outgoing, { handler, takesUrls: true })
  );
  // Longer than clients keep theirs (60 s): one that is closed as a request comes would lose it.
  server.keepAliveTimeout = 120_000;
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path, backlog: BACKLOG_MAX }, () => resolve());
  });
  return {
    async stop(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const late = new Promise<void>((resolve) => setTimeout(resolve, graceMs));
      await Promise.race([closed, late]);
      for (const socket of sockets) socket.destroy();
    },
  };
}

function listenerOf(server: Deno.HttpServer, address: string, after?: () => Promise<void>): Listener {
  return {
    address,
    async shutdown(graceMs = 1000) {
      // Watch streams never end by themselves: after the grace the rest is cut by leaving it to the process's end.
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, graceMs));
      await Promise.race([server.shutdown(), late]);
      clearTimeout(timer);
      await after?.();
    },
  };
}

/** Removes the socket of a process that is gone. @throws {ProblemError} SOCKET_IN_USE */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = await Deno.lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket) {
    throw new ProblemError("SOCKET_IN_USE", {
      status: 409,
      detail: `Cannot listen on ${path}: there is something that is not a socket`,
      action: "Remove it, or choose another path",
    });
  }
  const live = await Deno.connect({ transport: "unix", path }).catch(() => undefined);
  if (live !== undefined) {
    live.close();
    throw new ProblemError("SOCKET_IN_USE", {
      status: 409,
      detail: `Cannot listen on ${path}: another process serves it`,
      action: "Stop that process first",
    });
  }
  await Deno.remove(path);
}
