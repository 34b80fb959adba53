/**
 * A server that answers from a recording, and a client that asks by it: what both sides of a connection send is known before, so neither reads a message and the
 * processor's time is the proxy's. Greetings come first, one after the other; then requests of one length, each answered by the answer with its number.
 * @module
 */

/** What both sides send. Requests have one length, answers have one. */
export interface Exchange {
  readonly greetings: readonly { readonly request: Uint8Array; readonly answer: Uint8Array }[];
  /** Sent in turns: the next one with the same number when the one before is answered. */
  readonly requests: readonly Uint8Array[];
  readonly answers: readonly Uint8Array[];
}

/** Writes a recording to a folder, for {@link readExchange} of another process. */
export function writeExchange(folder: string, { greetings, requests, answers }: Exchange): void {
  const parts = [...greetings.flatMap(({ request, answer }) => [request, answer]), ...requests, ...answers];
  Deno.writeTextFileSync(
    `${folder}/exchange.json`,
    JSON.stringify({
      greetings: greetings.length,
      requests: requests.length,
      lengths: parts.map((it) => it.length),
    }),
  );
  Deno.writeFileSync(`${folder}/exchange.bin`, joined(parts));
}

/** What {@link writeExchange} wrote. */
export function readExchange(folder: string): Exchange {
  const { greetings, requests, lengths } = JSON.parse(Deno.readTextFileSync(`${folder}/exchange.json`));
  const bytes = Deno.readFileSync(`${folder}/exchange.bin`);
  let at = 0;
  const parts: Uint8Array[] = lengths.map((length: number) => bytes.subarray(at, at += length));
  const first = 2 * greetings;
  return {
    greetings: Array.from({ length: greetings }, (_, at) => ({
      request: parts[2 * at],
      answer: parts[2 * at + 1],
    })),
    requests: parts.slice(first, first + requests),
    answers: parts.slice(first + requests),
  };
}

/** Answers one client until it goes. */
export async function answerFrom(
  { greetings, requests, answers }: Exchange,
  socket: Deno.Conn,
): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (const { request, answer } of greetings) {
    if (!await take(socket, buffer, request.length)) return;
    await put(socket, answer);
  }
  const requestBytes = requests[0].length, all = joined(answers), answerBytes = answers[0].length;
  let rest = 0, next = 0;
  for (;;) {
    const count = await socket.read(buffer);
    if (count === null) return;
    rest += count;
    for (let whole = Math.floor(rest / requestBytes); whole > 0;) {
      const now = Math.min(whole, answers.length - next);
      await put(socket, all.subarray(next * answerBytes, (next + now) * answerBytes));
      next = (next + now) % answers.length;
      whole -= now;
      rest -= now * requestBytes;
    }
  }
}

/** A client's connection. */
export class ExchangeClient {
  readonly #exchange: Exchange;
  readonly #socket: Deno.TcpConn;
  readonly #buffer = new Uint8Array(256 * 1024);
  readonly #all: Uint8Array;

  private constructor(exchange: Exchange, socket: Deno.TcpConn) {
    this.#exchange = exchange;
    this.#socket = socket;
    this.#all = joined(exchange.requests);
  }

  static async connect(exchange: Exchange, port: number): Promise<ExchangeClient> {
    const socket = await Deno.connect({ hostname: "127.0.0.1", port });
    socket.setNoDelay(true);
    const client = new ExchangeClient(exchange, socket);
    for (const { request, answer } of exchange.greetings) {
      await put(socket, request);
      if (!await take(socket, client.#buffer, answer.length)) throw new Error("Cannot greet: it hung up");
    }
    return client;
  }

  /** Has all requests of the recording under way at all times, `count` in all, a multiple of their number. */
  async ask(count: number): Promise<void> {
    const { requests, answers } = this.#exchange, depth = requests.length;
    const requestBytes = requests[0].length, answerBytes = answers[0].length;
    let sent = Math.min(depth, count), next = 0, done = 0, rest = 0;
    await put(this.#socket, this.#all.subarray(0, sent * requestBytes));
    while (done < count) {
      const read = await this.#socket.read(this.#buffer);
      if (read === null) throw new Error(`Cannot ask: it hung up after ${done} answers`);
      rest += read;
      const whole = Math.floor(rest / answerBytes);
      rest -= whole * answerBytes;
      done += whole;
      for (let more = Math.min(whole, count - sent); more > 0;) {
        const now = Math.min(more, depth - next);
        await put(this.#socket, this.#all.subarray(next * requestBytes, (next + now) * requestBytes));
        next = (next + now) % depth;
        sent += now;
        more -= now;
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

async function take(socket: Deno.Conn, buffer: Uint8Array, length: number): Promise<boolean> {
  for (let left = length; left > 0;) {
    const count = await socket.read(buffer.subarray(0, Math.min(left, buffer.length)));
    if (count === null) return false;
    left -= count;
  }
  return true;
}

async function put(socket: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await socket.write(at === 0 ? bytes : bytes.subarray(at));
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

if (import.meta.main) {
  const exchange = readExchange(Deno.args[0]);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(listener.addr.port);
  for await (const socket of listener) {
    socket.setNoDelay(true);
    void answerFrom(exchange, socket).catch(() => {}).finally(() => socket.close());
  }
}
