/**
 * Our handlers (Request in, Response out) on a server of `node:http`: bodies stream both ways only as fast as the other
 * side takes them, and what the handler streams ends when the client is gone.
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Handler } from "./handler.ts";
import { ProblemError, problemResponse } from "./problem.ts";
import { watchBehind } from "./pulled_body.ts";
import { SocketSink } from "./socket_sink.ts";

/** Longest time that a client may leave an answer unread, in milliseconds. */
export const WRITE_STALL_MS_MAX = 60_000;

/** What no handler asks for: each header costs a microsecond or two. */
const UNREAD_HEADERS = new Set(["user-agent", "accept-encoding", "accept-language", "connection"]);

/** One for all: making an error takes its stack. */
const GONE = new DOMException("The client is gone", "AbortError");

/**
 * Serves one exchange. Never rejects.
 * @param options `begin` is given the request before the handler is; what it throws is the answer. `takesUrls`: a target may
 * be a whole URL (RFC 9112, section 3.2.2), as Deno's client has it on unix sockets
 */
export async function serveNodeRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: {
    handler: Handler;
    begin?: (request: Request) => void;
    takesUrls?: boolean;
    writeStallMsMax?: number;
  },
): Promise<void> {
  const gone = new AbortController();
  // Every exchange ends with "close": one that is complete concerns nobody any more.
  const leave = () => outgoing.writableFinished || gone.abort(GONE);
  outgoing.on("close", leave);
  outgoing.on("error", leave);
  incoming.on("error", leave);
  let answer: Response;
  try {
    const request = toRequest(incoming, gone.signal, options.takesUrls === true);
    try {
      options.begin?.(request);
    } catch (error) {
      await request.body?.cancel().catch(() => {});
      throw error;
    }
    answer = await options.handler(request);
  } catch (error) {
    answer = problemResponse(error);
  }
  try {
    await send(answer, outgoing, gone.signal, options.writeStallMsMax ?? WRITE_STALL_MS_MAX);
  } catch {
    // The answer has begun and cannot be completed: cutting the connection tells the client so.
    outgoing.destroy();
  }
}

function toRequest(incoming: IncomingMessage, signal: AbortSignal, takesUrls: boolean): Request {
  const method = incoming.method ?? "GET", target = incoming.url ?? "";
  const url = takesUrls ? target.replace(/^http:\/\/[^/]*/i, "") : target;
  try {
    if (!url.startsWith("/")) throw new TypeError("the target is not a path");
    const headers: [string, string][] = [], raw = incoming.rawHeaders;
    for (let i = 0; i + 1 < raw.length; i += 2) {
      if (!UNREAD_HEADERS.has(raw[i].toLowerCase())) headers.push([raw[i], raw[i + 1]]);
    }
    const body = method === "GET" || method === "HEAD" ? undefined : bodyOf(incoming);
    return new Request(`https://localhost${url}`, { method, headers, body, signal });
  } catch (cause) {
    throw new ProblemError("REQUEST_INVALID", {
      detail: "Cannot read the request's first line or headers",
      cause,
    });
  }
}

/** The request's body, read from the socket only when the handler asks for more. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array<ArrayBuffer>> {
  const chunks = incoming[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
    cancel() {
      // Not destroyed: the answer that says why still has to go out on this connection.
      incoming.pause();
    },
  }, { highWaterMark: 0 });
}

async function send(
  answer: Response,
  outgoing: ServerResponse,
  gone: AbortSignal,
  stallMsMax: number,
): Promise<void> {
  const { req, socket } = outgoing;
  const watch = socket !== null && req?.method !== "HEAD" && req?.httpVersion === "1.1"
    ? watchBehind(answer.body)
    : undefined;
  if (answer.headers.has("content-length")) return await sendWhole(answer, outgoing, gone);
  const reader = watch === undefined ? answer.body?.getReader() : undefined;
  const stop = () => watch === undefined ? reader?.cancel().catch(() => {}) : watch.cancel();
  if (gone.aborted) {
    await stop();
    return;
  }
  // An unread rest of the request would be taken for the next one.
  if (!(req?.complete ?? true)) outgoing.setHeader("connection", "close");
  for (const [name, value] of answer.headers) outgoing.setHeader(name, value);
  if (watch !== undefined) {
    outgoing.setHeader("transfer-encoding", "chunked");
    outgoing.writeHead(answer.status);
    outgoing.flushHeaders();
    new SocketSink(outgoing, socket!).carry(watch);
    return;
  }
  gone.addEventListener("abort", stop, { once: true });
  outgoing.writeHead(answer.status);
  if (reader === undefined) {
    outgoing.end();
    return;
  }
  outgoing.flushHeaders();
  while (!gone.aborted) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!outgoing.write(value)) await drained(outgoing, gone, stallMsMax);
  }
  if (!gone.aborted) outgoing.end();
}

/** An answer that is in memory already: head and body with one write. */
async function sendWhole(answer: Response, outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (gone.aborted) return;
  if (!(outgoing.req?.complete ?? true)) outgoing.setHeader("connection", "close");
  for (const [name, value] of answer.headers) outgoing.setHeader(name, value);
  outgoing.writeHead(answer.status);
  outgoing.end(bytes);
}

/** Resolves when the client took what was written; rejects when it takes nothing for `stallMsMax`. */
function drained(outgoing: ServerResponse, gone: AbortSignal, stallMsMax: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error) => {
      clearTimeout(timer);
      outgoing.off("drain", done);
      gone.removeEventListener("abort", aborted);
      error === undefined ? resolve() : reject(error);
    };
    const aborted = () => done();
    const timer = setTimeout(() => done(new Error("The client reads nothing")), stallMsMax);
    outgoing.once("drain", done);
    gone.addEventListener("abort", aborted, { once: true });
  });
}
