/**
 * Small HTTP servers on this node's health check node ports, one for each service that has one. Whoever can reach the node may
 * ask, so an answer says nothing beyond a name and a number, and everything is bounded: one short request per connection, a
 * deadline for it, a number of connections for all ports together.
 *
 *     load balancer in front ─▶ NODE:30123 ─▶ 200 or 503 {"service":{...},"localEndpoints":2,"serviceProxyHealthy":true}
 *
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import type { HealthCheckStatus } from "@weir/proto/datapath";
import { type Failure, WorkQueue } from "../work_queue.ts";
import { type HealthAnswer, httpAnswer } from "./health_answer.ts";

/** Most ports on which a node answers. */
export const HEALTH_CHECK_PORTS_MAX = 1_024;
/** Most connections at once; those beyond are closed. */
export const HEALTH_CHECK_CONNECTIONS_MAX = 256;
/** Longest time for a request and its answer, milliseconds. */
export const HEALTH_CHECK_DEADLINE_MS = 5_000;
/** Longest request that is read, bytes. */
const REQUEST_BYTES_MAX = 8_192;
const REQUEST_LINE = /^([A-Z]{1,16}) [^ \r\n]{1,4096} HTTP\/1\.[01]\r?\n/;
const END_OF_HEADER = /\r?\n\r?\n/;
const STATUS_TEXT = { 200: "OK", 400: "Bad Request", 503: "Service Unavailable" };

/** What {@link HealthCheckServer} is made of. */
export interface HealthCheckServerParts {
  /** Every port on which this node is to answer. */
  wanted: () => ReadonlyMap<number, HealthAnswer>;
  /** What is to be said on a port now. */
  answer: (port: number) => HealthAnswer | undefined;
  /** Listens on a port of every address of the node; default {@link listenEverywhere}. */
  listen?: (port: number) => Deno.Listener<Deno.Conn>;
  clock: Clock;
  onResult: (key: string, failure: Failure | undefined) => void;
  /** Nothing listens for a service. Again and again, while that is so. */
  onFailed?: (service: HealthAnswer, failure: Failure) => void;
}

/** Listens where it is to, and answers. */
export class HealthCheckServer {
  readonly #parts: HealthCheckServerParts;
  readonly #queue: WorkQueue;
  readonly #listeners = new Map<number, Deno.Listener<Deno.Conn>>();
  readonly #connections = new Set<Deno.Conn>();
  #wanted: ReadonlyMap<number, HealthAnswer> = new Map();
  /** Since the start: requests that were answered, connections that were closed without. */
  readonly totals = { answered: 0, refused: 0 };

  constructor(parts: HealthCheckServerParts) {
    this.#parts = parts;
    const { clock, onResult, onFailed } = parts;
    this.#queue = new WorkQueue({
      clock,
      work: (key) => this.#listen(Number(key)),
      onResult: (key, failure) => {
        const service = this.#wanted.get(Number(key));
        if (failure !== undefined && service !== undefined) onFailed?.(service, failure);
        onResult(`health check node port ${key}`, failure);
      },
    });
  }

  /** Number of ports on which it listens. */
  get ports(): number {
    return this.#listeners.size;
  }

  /** Looks again at where it is to listen. */
  look(): void {
    this.#wanted = this.#parts.wanted();
    for (const [port, listener] of this.#listeners) {
      if (this.#wanted.has(port)) continue;
      this.#listeners.delete(port);
      close(listener);
      // One that found no place may now.
      for (const other of this.#wanted.keys()) {
        if (!this.#listeners.has(other)) this.#queue.add(String(other));
      }
    }
    for (const port of this.#wanted.keys()) {
      if (!this.#listeners.has(port)) this.#queue.suggest(String(port));
    }
  }

  /** For people; undefined where nothing is to be said on the port. */
  status(port: number): HealthCheckStatus | undefined {
    const answer = this.#wanted.has(port) ? this.#parts.answer(port) : undefined;
    if (answer === undefined) return undefined;
    const failure = this.#queue.failureOf(String(port));
    return {
      port,
      listening: this.#listeners.has(port),
      localEndpoints: answer.localEndpoints,
      error: failure && {
        kind: "health check",
        error: failure.error.message,
        sinceUnixS: failure.sinceMs / 1000,
        attempts: failure.attempts,
      },
    } as HealthCheckStatus;
  }

  /** Resolves when nothing waits, for tests. */
  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  get isIdle(): boolean {
    return this.#queue.isIdle;
  }

  /** Ends at once: who is asking is closed. */
  async stop(): Promise<void> {
    await this.#queue.stop();
    for (const listener of this.#listeners.values()) close(listener);
    this.#listeners.clear();
    for (const connection of this.#connections) close(connection);
  }

  // deno-lint-ignore require-await -- the queue's work is a promise
  async #listen(port: number): Promise<void> {
    const service = this.#wanted.get(port);
    if (service === undefined || this.#listeners.has(port)) return;
    const what = `Cannot answer health checks of ${service.namespace}/${service.name} on port ${port}`;
    if (this.#listeners.size >= HEALTH_CHECK_PORTS_MAX) {
      throw new ProblemError("HEALTH_CHECK_PORTS_EXHAUSTED", {
        status: 507,
        detail: `${what}: the node answers on ${this.#listeners.size} of ${HEALTH_CHECK_PORTS_MAX} ports`,
        action: "Delete services of type LoadBalancer with externalTrafficPolicy Local",
      });
    }
    let listener: Deno.Listener<Deno.Conn>;
    try {
      listener = (this.#parts.listen ?? listenEverywhere)(port);
    } catch (error) {
      const isTaken = error instanceof Deno.errors.AddrInUse;
      throw new ProblemError(isTaken ? "HEALTH_CHECK_PORT_TAKEN" : "HEALTH_CHECK_PORT_FAILED", {
        status: 503,
        detail: isTaken
          ? `${what}: another process of this node has it`
          : `${what}: ${error instanceof Error ? error.message : String(error)}`,
        expected: "a TCP port that no process of the node listens on",
        action: "End that process, or give the service another healthCheckNodePort",
        cause: error,
      });
    }
    this.#listeners.set(port, listener);
    void this.#accept(port, listener);
  }

  async #accept(port: number, listener: Deno.Listener<Deno.Conn>): Promise<void> {
    try {
      for await (const connection of listener) {
        if (this.#connections.size < HEALTH_CHECK_CONNECTIONS_MAX) void this.#serve(port, connection);
        else {
          this.totals.refused++;
          close(connection);
        }
      }
    } catch {
      // What ends it, ends it: it listens anew.
    }
    if (this.#listeners.get(port) !== listener) return;
    this.#listeners.delete(port);
    close(listener);
    this.#queue.suggest(String(port));
  }

  async #serve(port: number, connection: Deno.Conn): Promise<void> {
    this.#connections.add(connection);
    const deadline = new AbortController();
    void this.#parts.clock.sleep(HEALTH_CHECK_DEADLINE_MS, deadline.signal).then(() => close(connection));
    try {
      const method = await readMethod(connection);
      const answer = this.#parts.answer(port);
      if (method === undefined || answer === undefined) {
        this.totals.refused++;
        if (method === undefined) await write(connection, textOf({ status: 400, headers: [], body: "" }));
        return;
      }
      await write(connection, textOf(httpAnswer(answer), method === "HEAD"));
      this.totals.answered++;
    } catch {
      // Who asked went away, or said nothing for too long.
      this.totals.refused++;
    } finally {
      deadline.abort();
      this.#connections.delete(connection);
      close(connection);
    }
  }
}

/** Listens on every address of both families; where there is no IPv6, of IPv4. @throws {Error} also AddrInUse */
export function listenEverywhere(port: number): Deno.Listener<Deno.Conn> {
  try {
    return Deno.listen({ hostname: "::", port });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw error;
    return Deno.listen({ hostname: "0.0.0.0", port });
  }
}

/** The request's method; undefined: it is no request of HTTP/1. */
async function readMethod(connection: Deno.Conn): Promise<string | undefined> {
  const buffer = new Uint8Array(REQUEST_BYTES_MAX);
  for (let length = 0; length < buffer.length;) {
    const read = await connection.read(buffer.subarray(length));
    if (read === null) return undefined;
    length += read;
    const text = new TextDecoder("latin1").decode(buffer.subarray(0, length));
    if (END_OF_HEADER.test(text)) return REQUEST_LINE.exec(text)?.[1];
  }
  return undefined;
}

function textOf(
  { status, headers, body }: { status: keyof typeof STATUS_TEXT; headers: string[]; body: string },
  headOnly = false,
): string {
  return [
    `HTTP/1.1 ${status} ${STATUS_TEXT[status]}`,
    ...headers,
    `Content-Length: ${body.length}`,
    "Connection: close",
    "",
    headOnly ? "" : body,
  ].join("\r\n");
}

async function write(connection: Deno.Conn, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  await connection.closeWrite();
}

function close(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // It is closed.
  }
}
