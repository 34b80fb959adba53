/**
 * The program that runs in a pod of Weir and asks its services, whose sockets are there: requests come on stdin, a line of JSON
 * each, what is answered goes to stdout in lines too, as it comes. It ends with its input, and imports nothing.
 *
 * @module
 */

/** A request. */
export interface RelayRequest {
  readonly id: number;
  readonly socket: string;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Record<string, string>;
  /** In base64. */
  readonly body: string;
}

/** Whoever asked waits no longer. */
export interface RelayCancel {
  readonly id: number;
  readonly isCancelled: true;
}

/** A part of an answer, or why there is none: first the head, then pieces of the body, then the last. */
export type RelayAnswer =
  | { readonly id: number; readonly status: number; readonly headers: Record<string, string> }
  /** In base64. */
  | { readonly id: number; readonly piece: string }
  /** The end; "" where nothing went wrong. */
  | { readonly id: number; readonly error: string };

/** Whoever asked has given up before, if nothing begins for so long. */
const BEGIN_MS_MAX = 60_000;
const SERVED = ["/run/weir/"];

const clients = new Map<string, Deno.HttpClient>();
const running = new Map<number, AbortController>();

function clientOf(path: string): Deno.HttpClient {
  if (!SERVED.some((prefix) => path.startsWith(prefix))) throw new Error(`${path} is no socket of Weir`);
  let client = clients.get(path);
  if (client === undefined) {
    clients.set(path, client = Deno.createHttpClient({ proxy: { transport: "unix", path } }));
  }
  return client;
}

function say(answer: RelayAnswer): void {
  console.log(JSON.stringify(answer));
}

async function answer({ id, socket, method, path, headers, body }: RelayRequest): Promise<void> {
  const stop = new AbortController();
  running.set(id, stop);
  const late = setTimeout(() => stop.abort(new Error("no answer begins")), BEGIN_MS_MAX);
  try {
    const came = await fetch(
      `http://localhost:2${path}`,
      {
        method,
        headers,
        ...(body === "" ? {} : { body: Uint8Array.fromBase64(body) }),
        signal: stop.signal,
        client: clientOf(socket),
      } as RequestInit,
    );
    clearTimeout(late);
    say({ id, status: came.status, headers: Object.fromEntries(came.headers) });
    for await (const piece of came.body ?? []) say({ id, piece: piece.toBase64() });
    say({ id, error: "" });
  } catch (error) {
    if (!stop.signal.aborted || running.has(id)) say({ id, error: (error as Error).message || "it failed" });
  } finally {
    clearTimeout(late);
    running.delete(id);
  }
}

function take(line: string): void {
  const asked = JSON.parse(line) as RelayRequest | RelayCancel;
  if (!("isCancelled" in asked)) return void answer(asked);
  const stop = running.get(asked.id);
  running.delete(asked.id);
  stop?.abort();
}

async function main(): Promise<void> {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) take(line);
  }
  Deno.exit(0);
}

if (import.meta.main) await main();
