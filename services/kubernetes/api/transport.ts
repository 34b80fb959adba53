/** Sends requests to the API server, each with a deadline. @module */
import { type Clock, systemClock } from "@weir/common/clock";
import { withDeadline } from "@weir/common/deadline";
import { WEIR_VERSION } from "@weir/common/version";
import type { ApiAccess } from "./access.ts";
import { ApiServerError, statusError } from "./error.ts";
import { parsed } from "./json_lines.ts";

/** Options that Deno takes and the DOM's type does not know. */
type DenoInit = RequestInit & { client?: Deno.HttpClient };

/** One request. */
export interface ApiRequest {
  /** What is done, for messages: "list pods". */
  readonly action: string;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly accept?: string;
  readonly contentType?: string;
  readonly body?: unknown;
}

/** Limits of one request. */
export interface ApiRequestLimits {
  deadlineMs: number;
  /** Largest answer. */
  bytesMax: number;
  signal?: AbortSignal;
}

/** Idle connections are kept so long. */
const POOL_IDLE_MS = 60_000;
/** What is read of an answer that says what went wrong. */
const ERROR_BYTES_MAX = 1 << 20;

/** Requests to one API server with one access. */
export class ApiTransport {
  readonly clock: Clock;
  readonly #access: ApiAccess;
  readonly #client: Deno.HttpClient;

  constructor(access: ApiAccess, clock: Clock = systemClock) {
    this.clock = clock;
    this.#access = access;
    this.#client = Deno.createHttpClient({
      caCerts: [...access.authorities],
      poolIdleTimeout: POOL_IDLE_MS,
      // A connection for each stream: of HTTP/2 one that hangs would hold up every request until the kernel gives it up, for Deno
      // asks none for a sign of life.
      http2: false,
      ...(access.certificate === undefined ? {} : {
        cert: access.certificate.certPem,
        key: access.certificate.keyPem,
      }),
    });
  }

  get server(): string {
    return this.#access.server;
  }

  /**
   * One request and the whole of its answer, as JSON.
   * @throws {ApiServerError}
   */
  async json(request: ApiRequest, limits: ApiRequestLimits): Promise<unknown> {
    const { action } = request;
    return await this.#limited(action, limits, async (signal) => {
      const answer = await this.#answer(request, signal);
      const text = await readText(answer, limits.bytesMax, action);
      return text.trim() === "" ? undefined : parsed(text, action);
    });
  }

  /**
   * The answer of a request as text, whatever type it has.
   * @throws {ApiServerError}
   */
  async text(request: ApiRequest, limits: ApiRequestLimits): Promise<string> {
    return await this.#limited(
      request.action,
      limits,
      async (signal) => await readText(await this.#answer(request, signal), limits.bytesMax, request.action),
    );
  }

  /**
   * Begins a stream: its head comes within `deadlineMs`, its body for as long as `signal` lets it.
   * @throws {ApiServerError}
   */
  async stream(
    request: ApiRequest,
    { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>> {
    const { action } = request;
    // Not the deadline's own signal: it would end with the head, and the body with it.
    const answer = await this.#limited(
      action,
      { deadlineMs, bytesMax: 0, signal },
      () => this.#answer(request, signal),
    );
    return piecesOf(answer.body, signal);
  }

  /**
   * What `attach` makes of a WebSocket of this protocol, once that is open. It lasts until it is closed; `signal` ends the wait
   * for it alone. `attach` is called before: Deno gives messages right behind the opening, before who waits for that goes on.
   * @throws {ApiServerError}
   */
  async socket<S>(
    { action, path, protocol }: { action: string; path: string; protocol: string },
    limits: { deadlineMs: number; signal?: AbortSignal },
    attach: (socket: WebSocket) => S,
  ): Promise<S> {
    return await this.#limited(action, { ...limits, bytesMax: 0 }, async (signal) => {
      for (let attempt = 1;; attempt++) {
        const socket = await this.#socket(path, protocol);
        const attached = attach(socket), message = await opened(socket, signal);
        if (message === undefined) return attached;
        if (signal.aborted || attempt > 1) throw new Error(message);
        await this.#whyNoSocket(action, path, signal);
      }
    });
  }

  /** The runtime does not say what the API server answered in place of a WebSocket: the same without one does, and runs nothing. */
  async #whyNoSocket(action: string, path: string, signal: AbortSignal): Promise<void> {
    try {
      const answer = await this.#answer({ action, method: "GET", path, accept: "*/*" }, signal);
      await answer.body?.cancel();
    } catch (error) {
      // All else is well: a token that was too old is another by now.
      if (error instanceof ApiServerError && /upgrade/i.test(error.message)) return;
      throw error;
    }
  }

  async #socket(path: string, protocol: string): Promise<WebSocket> {
    const token = await this.#access.token?.get();
    const socket = new WebSocket(this.server.replace(/^http/, "ws") + path, {
      protocols: [protocol],
      headers: {
        "user-agent": `weir/${WEIR_VERSION}`,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      client: this.#client,
    });
    socket.binaryType = "arraybuffer";
    return socket;
  }

  close(): void {
    this.#client.close();
  }

  async #limited<R>(
    action: string,
    { deadlineMs, signal }: ApiRequestLimits,
    work: (signal: AbortSignal) => Promise<R>,
  ): Promise<R> {
    const late = () =>
      new ApiServerError("DEADLINE_EXCEEDED", {
        status: 504,
        detail: `Cannot ${action}: the API server gave no answer within ${deadlineMs} ms`,
        expected: `an answer within ${deadlineMs} ms`,
      });
    try {
      return await withDeadline({ clock: this.clock, ms: deadlineMs, signal, error: late }, work);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw apiError(action, error, this.server);
    }
  }

  /** The answer to a request that was granted. A token that is refused is read anew, once. */
  async #answer(request: ApiRequest, signal: AbortSignal): Promise<Response> {
    const { token } = this.#access;
    for (let attempt = 1;; attempt++) {
      const answer = await this.#send(request, signal);
      if (answer.ok) return answer;
      if (answer.status === 401 && token !== undefined && attempt === 1) {
        token.refused();
        await answer.body?.cancel().catch(() => {});
        continue;
      }
      const text = await readText(answer, ERROR_BYTES_MAX, request.action);
      let body: unknown;
      try {
        body = JSON.parse(text);
      } catch {
        body = undefined;
      }
      const retryAfter = answer.headers.get("retry-after");
      throw statusError(request.action, { status: answer.status, body, text, retryAfter });
    }
  }

  async #send(
    { method, path, accept, contentType, body }: ApiRequest,
    signal: AbortSignal,
  ): Promise<Response> {
    const token = await this.#access.token?.get();
    const headers: Record<string, string> = {
      "accept": accept ?? "application/json",
      "user-agent": `weir/${WEIR_VERSION}`,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": contentType ?? "application/json" }),
    };
    const init: DenoInit = {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      // A token goes to nobody else.
      redirect: "error",
      client: this.#client,
    };
    return await fetch(this.server + path, init);
  }
}

/** Waits until the socket is open, or answers what it said in place of that. */
function opened(socket: WebSocket, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const abort = () => {
      socket.close();
      resolve("");
    };
    signal.addEventListener("abort", abort, { once: true });
    const end = (message: string | undefined) => {
      signal.removeEventListener("abort", abort);
      resolve(message);
    };
    socket.addEventListener("open", () => end(undefined), { once: true });
    socket.addEventListener("error", (event) => end((event as ErrorEvent).message), { once: true });
    if (signal.aborted) abort();
  });
}

/** Any error of a request as ours. */
function apiError(action: string, error: unknown, server: string): Error {
  if (error instanceof ApiServerError) return error;
  if (error instanceof Error && "code" in error && "problem" in error) return error;
  return new ApiServerError("API_SERVER_UNREACHABLE", {
    status: 503,
    detail: `Cannot ${action}: ${server} cannot be reached: ${innermost(error)}`,
  });
}

/** What it came from, in the runtime's words, without the request's address. */
function innermost(error: unknown): string {
  let found = error;
  for (let depth = 0; depth < 8 && found instanceof Error && found.cause instanceof Error; depth++) {
    found = found.cause;
  }
  const text = found instanceof Error ? found.message : String(found);
  return text.replace(/^error sending request for url \([^)]*\): /, "");
}

/**
 * The pieces of a body until `signal` aborts, which then throws its reason: Deno (2.9.6) lets a read of an HTTP/2 stream
 * wait on for ever now and then, although the request's own signal has aborted.
 */
async function* piecesOf(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    while (true) {
      const { done, value } = await Promise.race([reader.read(), aborted.promise]);
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    reader.cancel().catch(() => {});
  }
}

async function readText(answer: Response, bytesMax: number, action: string): Promise<string> {
  const parts: string[] = [];
  const decoder = new TextDecoder();
  let bytes = 0;
  for await (const piece of answer.body ?? []) {
    bytes += piece.length;
    if (bytes > bytesMax) {
      throw new ApiServerError("ANSWER_TOO_LARGE", {
        status: 502,
        detail: `Cannot ${action}: the answer has more than ${bytesMax} bytes`,
        expected: `at most ${bytesMax} bytes`,
      });
    }
    parts.push(decoder.decode(piece, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}
