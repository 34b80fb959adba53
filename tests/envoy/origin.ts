/** The server behind Envoy: it keeps what arrives, by the connection that it came by, and answers each request with 204. @module */
import { latin1 } from "../../services/l7-proxy/testing.ts";
import { writeAll } from "../../services/l7-proxy/socket.ts";

/** The field in which Envoy says which connection a request came by: address and port of its client. */
export const FROM_FIELD = "x-oracle-from";

/** A request as Envoy wrote it. Texts have one character for each byte. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** Bytes of the body, as far as it has come. */
  readonly body: number;
  readonly isWhole: boolean;
}

const ANSWER = new TextEncoder().encode("HTTP/1.1 204 No Content\r\n\r\n");
/** Of one connection, many times what any test sends. */
const BYTES_MAX = 1 << 20;

/** A server on a port of this machine. */
export class Origin {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.TcpConn>();
  readonly #seen = new Map<string, SeenRequest[]>();
  readonly #done: Promise<void> = this.#accept();
  /** What it could not read, which is no fault of Envoy's but of this file. */
  readonly faults: string[] = [];

  get port(): number {
    return this.#listener.addr.port;
  }

  /** What came by a connection, in the order in which it came. @param from its client's address and port */
  seen(from: string): readonly SeenRequest[] {
    return this.#seen.get(from) ?? [];
  }

  /** What came by a connection whose numbers are used anew is no longer of interest. */
  forget(from: string): void {
    this.#seen.delete(from);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) {
      this.#open.delete(connection);
      connection.close();
    }
    await this.#done;
  }

  async #accept(): Promise<void> {
    const serving: Promise<void>[] = [];
    try {
      for await (const connection of this.#listener) serving.push(this.#serve(connection));
    } catch {
      // It is closed.
    }
    await Promise.all(serving);
  }

  async #serve(connection: Deno.TcpConn): Promise<void> {
    this.#open.add(connection);
    connection.setNoDelay(true);
    const chunk = new Uint8Array(16_384);
    let text = "", at = 0, last: SeenRequest | undefined;
    try {
      for (let count; (count = await connection.read(chunk)) !== null;) {
        text += latin1(chunk.subarray(0, count));
        for (let next; at < text.length && (next = readRequest(text, at)) !== undefined;) {
          const from = next.request.fields.find(([name]) => name === FROM_FIELD)![1];
          const seen = this.#seen.get(from) ?? [];
          this.#seen.set(from, seen);
          if (last !== undefined) seen.splice(seen.indexOf(last), 1, next.request);
          else seen.push(next.request);
          last = next.request;
          if (!last.isWhole) break;
          at = next.end;
          last = undefined;
          await writeAll(connection, ANSWER);
        }
        if (text.length > BYTES_MAX) throw new Error("more than anybody asked");
      }
    } catch (error) {
      // Envoy resets what it gives up.
      if (!(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BadResource)) {
        this.faults.push(`${error}: ${JSON.stringify(text)}`);
      }
    } finally {
      if (this.#open.delete(connection)) connection.close();
    }
  }
}

/** A request that begins at `at`; undefined: its head is not whole. Envoy writes each in one way only. */
function readRequest(text: string, at: number): { request: SeenRequest; end: number } | undefined {
  const headEnd = text.indexOf("\r\n\r\n", at);
  if (headEnd < 0) return undefined;
  const [line, ...rest] = text.slice(at, headEnd).split("\r\n");
  const [, method, target] = /^(\S+) (\S+) HTTP\/1\.1$/.exec(line) ?? [];
  if (method === undefined) throw new Error(`not a request line: ${line}`);
  const fields = rest.map((one) => {
    const colon = one.indexOf(": ");
    return [one.slice(0, colon).toLowerCase(), one.slice(colon + 2)] as const;
  });
  const valueOf = (name: string) => fields.find(([key]) => key === name)?.[1];
  const request = { method, target, fields };
  let end = headEnd + 4;
  if (valueOf("transfer-encoding") === undefined) {
    const length = Number(valueOf("content-length") ?? 0), body = Math.min(length, text.length - end);
    return { request: { ...request, body, isWhole: body === length }, end: end + body };
  }
  for (let body = 0;;) {
    const lineEnd = text.indexOf("\r\n", end), size = parseInt(text.slice(end, lineEnd), 16);
    if (lineEnd < 0) return { request: { ...request, body, isWhole: false }, end };
    const next = lineEnd + 2 + size + 2;
    if (size === 0) {
      return { request: { ...request, body, isWhole: text.length >= next }, end: next };
    }
    body += Math.max(0, Math.min(size, text.length - lineEnd - 2));
    if (text.length < next) return { request: { ...request, body, isWhole: false }, end };
    end = next;
  }
}
