/**
 * Our handlers (Request in, Response out) on a server of `node:http`: bodies stream both ways only as fast as the other
 * side takes them, and what the handler streams ends when the client is gone.
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Handler } from "./listener.ts";
import { ProblemError, problemResponse } from "./problem.ts";

/** Longest time that a client may leave an answer unread, in milliseconds. */
export const WRITE_STALL_MS_MAX = 60_000;

/**
 * Serves one exchange. Never rejects.
 * @param begin is given the request before the handler is; what it throws is the answer
 */
export async function serveNodeRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: { handler: Handler; begin: (request: Request) => void; writeStallMsMax?: number },
): Promise<void> {
  const gone = new AbortController();
  outgoing.on("close", () => gone.abort());
  outgoing.on("error", () => gone.abort());
  incoming.on("error", () => gone.abort());
  let answer: Response;
  try {
    const request = toRequest(incoming, gone.signal);
    try {
      options.begin(request);
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

function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request {
  const method = incoming.method ?? "GET", url = incoming.url ?? "";
  try {
    if (!url.startsWith("/")) throw new TypeError("the target is not a path");
    const headers = new Headers();
    for (let i = 0; i + 1 < incoming.rawHeaders.length; i += 2) {
      headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1]);
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
  const reader = answer.body?.getReader();
  if (gone.aborted) {
    await reader?.cancel().catch(() => {});
    return;
  }
  const stop = () => reader?.cancel().catch(() => {});
  gone.addEventListener("abort", stop, { once: true });
  // An unread rest of the request would be taken for the next one.
  if (!(outgoing.req?.complete ?? true)) outgoing.setHeader("connection", "close");
  for (const [name, value] of answer.headers) outgoing.setHeader(name, value);
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
