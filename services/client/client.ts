/** The typed client over the resource model. @module */
import type { Init, Message } from "@weir/proto";
import { type Clock, systemClock } from "@weir/common/clock";
import { withDeadline } from "@weir/common/deadline";
import { PROTOBUF_TYPE, readFrames } from "@weir/common/framing";
import { ProblemError } from "@weir/common/problem";
import type { CallOptions } from "./caller.ts";
import { type CollectionCaller, CollectionClient } from "./collection_client.ts";
import { JointWatch } from "./joint_watch.ts";
import { type Query, queryText } from "./query.ts";
import { connectTo } from "./connect.ts";
import type { Target, Transport } from "./transport.ts";

/** Longest time for a call, from its beginning to the end of the answer's body. */
export const CALL_DEADLINE_MS = 10_000;
/** A stream that was silent for so long is cut; a service that lives says something every ten seconds. */
export const STREAM_SILENT_MS = 25_000;

/** Options of {@link WeirClient}. */
export interface ClientOptions {
  /** Deadline of calls that name none, default {@link CALL_DEADLINE_MS}. */
  deadlineMs?: number;
  /** Default {@link STREAM_SILENT_MS}. */
  silentMsMax?: number;
  clock?: Clock;
  /** Watches of whole collections and of names go together over one stream, see joint_watch.ts. Default: each has its own. */
  joint?: boolean;
  /** Headers of every request beside its own, asked for each time. */
  headers?: () => Record<string, string>;
}

/**
 * Client of one service. Requests use protobuf bytes.
 *
 * Every method rejects with {@link ProblemError}: the service's own problem, UNREACHABLE when there is no answer,
 * DEADLINE_EXCEEDED when it did not come in time, STREAM_SILENT when a stream's heartbeats stop.
 */
export class WeirClient implements CollectionCaller {
  readonly clock: Clock;
  /** The one stream of its watches, where it was asked for. */
  readonly joint: JointWatch | undefined;
  readonly #transport: Transport;
  readonly #deadlineMs: number;
  readonly #silentMsMax: number;
  readonly #headers: () => Record<string, string>;

  constructor(target: Target | string, options: ClientOptions = {}) {
    this.#transport = connectTo(target);
    this.clock = options.clock ?? systemClock;
    this.#deadlineMs = options.deadlineMs ?? CALL_DEADLINE_MS;
    this.#silentMsMax = options.silentMsMax ?? STREAM_SILENT_MS;
    this.#headers = options.headers ?? (() => ({}));
    this.joint = options.joint ? new JointWatch(this) : undefined;
  }

  /** Where the service is, for messages. */
  get address(): string {
    return this.#transport.address;
  }

  /** The collection `/v1/<name>`. */
  collection<T>(name: string, message: Message<T>): CollectionClient<T> {
    return new CollectionClient(this, name, message);
  }

  /** Calls an action: one message there, one back. `request` may be left out for actions without a body. */
  async call<Q, A>(
    path: string,
    options: CallOptions & {
      request?: { message: Message<Q>; value: Init<Q> };
      response: Message<A>;
      method?: "POST" | "GET";
    },
  ): Promise<A> {
    const { request, response, query } = options;
    const { bytes } = await this.exchange(path + queryText(query), {
      method: options.method ?? "POST",
      headers: { "accept": PROTOBUF_TYPE, ...(request ? { "content-type": PROTOBUF_TYPE } : {}) },
      body: request ? request.message.encode(request.value) as Uint8Array<ArrayBuffer> : undefined,
    }, options);
    return response.decode(bytes);
  }

  /** A stream of messages that is not a collection, e.g. `/v1/events`. Ends with an error when the stream is cut. */
  async *stream<T>(
    path: string,
    message: Message<T>,
    options: { query?: Query; signal?: AbortSignal } = {},
  ): AsyncGenerator<T> {
    for await (
      const bytes of this.frames(path + queryText({ watch: true, ...options.query }), options.signal)
    ) {
      yield message.decode(bytes);
    }
  }

  /** The frames of a streaming answer as bytes. */
  async *frames(path: string, signal?: AbortSignal, init: RequestInit = {}): AsyncGenerator<Uint8Array> {
    const stop = new AbortController();
    const abort = () => stop.abort(signal!.reason);
    if (signal?.aborted) return;
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const headers = { accept: PROTOBUF_TYPE, ...init.headers as Record<string, string> };
      const answer = await withDeadline(
        { ...this.#deadline(path, this.#deadlineMs), signal: stop.signal },
        (late) => {
          // The body goes on after the deadline for its beginning, so only the stream's own signal ends it later.
          late.addEventListener("abort", () => stop.abort(late.reason), { once: true });
          return this.send(path, { ...init, headers, signal: stop.signal });
        },
      );
      if (answer.body !== null) yield* readFrames(this.#watched(answer.body, path, stop), "protobuf");
    } catch (cause) {
      if (signal?.aborted) return;
      if (cause instanceof ProblemError) throw cause;
      if (stop.signal.reason instanceof ProblemError) throw stop.signal.reason;
      throw new ProblemError("STREAM_LOST", {
        status: 502,
        detail: `Cannot go on with ${path} of ${this.address}: the stream was cut`,
        action: "Begin anew from a list",
        cause,
      });
    } finally {
      signal?.removeEventListener("abort", abort);
      stop.abort();
    }
  }

  /** A request and its whole answer within one deadline. */
  async exchange(
    path: string,
    init: RequestInit,
    options: Pick<CallOptions, "deadlineMs" | "signal"> = {},
  ): Promise<{ headers: Headers; bytes: Uint8Array<ArrayBuffer> }> {
    const deadline = this.#deadline(path, options.deadlineMs ?? this.#deadlineMs);
    try {
      return await withDeadline({ ...deadline, signal: options.signal }, async (signal) => {
        const answer = await this.send(path, { ...init, signal });
        return { headers: answer.headers, bytes: await answer.bytes() };
      });
    } catch (cause) {
      if (cause instanceof ProblemError) throw cause;
      throw this.#unreachable(cause);
    }
  }

  /** Any request, without a deadline of its own; an answer that is not 2xx is thrown as its problem. */
  async send(path: string, init: RequestInit = {}): Promise<Response> {
    let answer: Response;
    try {
      const headers = { ...this.#headers(), ...init.headers as Record<string, string> };
      answer = await this.#transport.fetch(path, { ...init, headers });
    } catch (cause) {
      if (cause instanceof ProblemError) throw cause;
      throw this.#unreachable(cause);
    }
    if (answer.ok) return answer;
    const text = await answer.text().catch(() => "");
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch {
      document = { detail: text.slice(0, 400) || `HTTP status ${answer.status}` };
    }
    throw ProblemError.fromProblem(document, answer.status);
  }

  /** Whether the service is ready, and its own words on what it waits for. */
  async readiness(signal?: AbortSignal): Promise<{ ready: boolean; text: string }> {
    const path = "/readyz?verbose";
    try {
      return await withDeadline({ ...this.#deadline(path, this.#deadlineMs), signal }, async (signal) => {
        const answer = await this.#transport.fetch(path, { signal });
        return { ready: answer.ok, text: await answer.text() };
      });
    } catch (error) {
      return { ready: false, text: `Cannot reach ${this.address}: ${(error as Error).message}\n` };
    }
  }

  /** A document as JSON, e.g. `/version`. */
  async json(path: string, options: Pick<CallOptions, "deadlineMs" | "signal"> = {}): Promise<unknown> {
    const { bytes } = await this.exchange(path, { headers: { accept: "application/json" } }, options);
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  /** Frees the connections. Streams that are open end. */
  close(): void {
    this.#transport.close();
  }

  #deadline(path: string, ms: number) {
    const error = () =>
      new ProblemError("DEADLINE_EXCEEDED", {
        status: 504,
        detail: `Cannot reach ${this.address}: ${path.split("?")[0]} had no whole answer within ${ms} ms`,
        found: "no answer",
        expected: `an answer within ${ms} ms`,
        action: "See whether the service hangs, or the network to it: weir status",
      });
    return { clock: this.clock, ms, error };
  }

  #unreachable(cause: unknown): ProblemError {
    return new ProblemError("UNREACHABLE", {
      status: 503,
      detail: `Cannot reach ${this.address}`,
      action: "See whether the service runs: weir status",
      cause,
    });
  }

  /** The same bytes; aborts `stop` when none come for too long while the reader waits for some. */
  async *#watched(body: ReadableStream<Uint8Array>, path: string, stop: AbortController) {
    const { clock } = this;
    const reader = body.getReader();
    let waitingSinceMs: number | undefined;
    // Ends a read that waits. A race of each read with one promise would keep every chunk until the stream ends: 64 KiB for an event.
    stop.signal.addEventListener("abort", () => void reader.cancel().catch(() => {}), { once: true });
    const watch = async () => {
      while (!stop.signal.aborted) {
        const sinceMs = waitingSinceMs ?? clock.monotonicMs();
        await clock.sleep(Math.max(1, sinceMs + this.#silentMsMax - clock.monotonicMs()), stop.signal);
        if (stop.signal.aborted || waitingSinceMs === undefined) continue;
        if (clock.monotonicMs() - waitingSinceMs >= this.#silentMsMax) stop.abort(this.#silent(path));
      }
    };
    void watch();
    try {
      while (true) {
        waitingSinceMs = clock.monotonicMs();
        const { done, value } = await reader.read();
        waitingSinceMs = undefined;
        stop.signal.throwIfAborted();
        if (done) return;
        yield value;
      }
    } finally {
      waitingSinceMs = undefined;
      reader.cancel().catch(() => {});
    }
  }

  #silent(path: string): ProblemError {
    return new ProblemError("STREAM_SILENT", {
      status: 504,
      detail: `Cannot go on with ${
        path.split("?")[0]
      } of ${this.address}: nothing was heard for ${this.#silentMsMax} ms`,
      found: "silence",
      expected: "a heartbeat every 10 s",
      action: "See whether the service hangs, or the network to it: weir status",
    });
  }
}
