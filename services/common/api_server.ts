/**
 * The HTTP surface that every service has: collections, actions, streams, and the standard routes. It is a plain handler
 * (`fetch`), so tests call it without a socket; `listen()` puts it on one.
 * @module
 */
import { type Context, Hono } from "hono";
import type { Message } from "@weir/proto";
import { JointWatchRequest, WatchEvent, WatchRequest } from "@weir/proto/common";
import { checkOwnership, JOINT_WATCH_PATH } from "./access_control.ts";
import { BODY_BYTES_MAX, readBody } from "./body.ts";
import { type Clock, systemClock } from "./clock.ts";
import {
  answer,
  type CollectionOptions,
  contextOf,
  type Guard,
  mountCollection,
  type RequestContext,
  type WatchObserver,
  type WatchSource,
} from "./collection.ts";
import { decodeBody, encodingOfAccept, encodingOfContent } from "./framing.ts";
import { Health } from "./health.ts";
import { jointWatch } from "./joint_watch.ts";
import { Logger } from "./log.ts";
import { MetricsRegistry } from "./metrics.ts";
import { openApi, type OpenApiRoute } from "./openapi.ts";
import { ProblemError, problemResponse, toProblem } from "./problem.ts";
import { WEIR_VERSION } from "./version.ts";
import { encodeStreamed, streamResponse } from "./message_stream.ts";

/** Options of {@link ApiServer}; all but the name have defaults. */
export interface ApiServerOptions {
  /** Name of the service, e.g. "policy-engine". */
  name: string;
  health?: Health;
  metrics?: MetricsRegistry;
  log?: Logger;
  clock?: Clock;
}

/** What the source of a stream is told. */
export interface StreamContext extends RequestContext {
  /** Aborts when the client is gone. */
  signal: AbortSignal;
}

/** Options of {@link ApiServer.stream}. */
export interface StreamOptions<T> {
  /** Path, e.g. "/v1/events". Streams when `?watch=true`. */
  path: string;
  message: Message<T>;
  /** The batches of messages; ended with `return()`, and `signal` aborts, when the client goes. */
  source: (context: StreamContext) => AsyncGenerator<T[]> | Promise<AsyncGenerator<T[]>>;
  description?: string;
}

/** Options of {@link ApiServer.action}. */
export interface ActionOptions<Q, A> {
  method?: "POST" | "GET";
  /** It changes nothing: sockets for reading answer it too, though it is asked by POST. Default: as the method says. */
  isQuestion?: boolean;
  /** Path, e.g. "/v1/identities:allocate". */
  path: string;
  /** Message of the body; absent for actions without one. */
  request?: Message<Q>;
  response: Message<A>;
  handle: (request: Q, context: RequestContext) => Promise<A> | A;
  /** Asked before the body is read. */
  guard?: Guard;
  bodyBytesMax?: number;
  description?: string;
}

/** The HTTP surface that every service has. */
export class ApiServer {
  readonly name: string;
  readonly app: Hono = new Hono();
  readonly health: Health;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  readonly clock: Clock;
  #routes: OpenApiRoute[] = [];
  /** Paths of the questions that are asked by POST. */
  #questions = new Set<string>();
  #watched = new Map<string, WatchSource>();

  constructor(options: ApiServerOptions) {
    this.name = options.name;
    this.health = options.health ?? new Health();
    this.metrics = options.metrics ?? new MetricsRegistry();
    this.log = options.log ?? Logger.silent();
    this.clock = options.clock ?? systemClock;
    this.#mountStandard();
  }

  /** Serves one request. Never rejects: every failure is a problem document. */
  readonly fetch = async (request: Request): Promise<Response> => await this.app.fetch(request);

  /** Whether a request asks by POST what changes nothing. Whole paths alone are compared. */
  readonly isQuestion = ({ method, url }: Request): boolean =>
    method === "POST" && this.#questions.has(new URL(url).pathname);

  /** Adds a collection: `GET /v1/<name>`, `GET|PUT|DELETE /v1/<name>/<object>`, watch. */
  collection<T>(options: CollectionOptions<T>): void {
    const streams = this.metrics.gauge("weir_watch_streams", "Watch streams open now");
    const lost = this.metrics.counter(
      "weir_watch_lost_total",
      "Watch streams that were cut: their reader was too slow, or their place is gone",
    );
    const observer: WatchObserver = {
      begun: (collection) => streams.set(streams.value({ collection }) + 1, { collection }),
      ended: (collection, error) => {
        streams.set(streams.value({ collection }) - 1, { collection });
        if (error === undefined) return;
        lost.increment({ collection, code: (error as { code?: string }).code ?? "" });
        this.log.warn("Watch stream ended", { collection, error });
      },
    };
    const source = mountCollection(this.app, options, { clock: this.clock, observer });
    const methods = ["get", ...(options.put ? ["put"] : []), ...(options.delete ? ["delete"] : [])];
    this.#routes.push({
      path: `/v1/${options.name}`,
      methods: ["get"],
      response: options.message.name,
      kind: options.table === undefined ? "list" : "watched-list",
      description: options.description,
      parameters: [
        "watch",
        "revision",
        "epoch",
        "limit",
        "continue",
        ...Object.keys(options.indexes ?? {}),
        ...Object.keys(options.filters ?? {}),
      ],
    });
    if (options.table !== undefined) {
      this.#watched.set(options.name, source);
      this.#routes.push({
        path: `/v1/${options.name}:watch`,
        methods: ["post"],
        request: WatchRequest.name,
        response: options.message.name,
        kind: "watch",
        description: "Stream of the objects of some names",
      });
    }
    this.#routes.push({
      path: `/v1/${options.name}/{name}`,
      methods,
      response: options.message.name,
      request: options.message.name,
    });
  }

  /** Adds a route that takes one message and answers one. */
  action<Q, A>(options: ActionOptions<Q, A>): void {
    const method = options.method ?? "POST";
    if (options.isQuestion) this.#questions.add(options.path);
    this.app.on(method, options.path, async (c) => {
      await options.guard?.(c.req.raw);
      let request = undefined as Q;
      if (options.request !== undefined) {
        const bytes = await readBody(c.req.raw, options.bodyBytesMax ?? BODY_BYTES_MAX);
        const encoding = encodingOfContent(c.req.header("content-type"));
        request = bytes.length === 0
          ? options.request.create()
          : decodeBody(options.request, bytes, encoding);
      }
      await checkOwnership(c.req.raw, { given: request ?? {} });
      return answer(c, options.response, await options.handle(request, contextOf(c)));
    });
    this.#routes.push({
      path: options.path,
      methods: [method.toLowerCase()],
      request: options.request?.name,
      response: options.response.name,
      description: options.description,
    });
  }

  /** Adds a route that streams messages, length-delimited or as NDJSON. */
  stream<T>(options: StreamOptions<T>): void {
    this.app.get(options.path, (c) => this.streamAnswer(c, options.message, options.source));
    this.#routes.push({
      path: options.path,
      methods: ["get"],
      response: options.message.name,
      description: options.description ?? "Stream",
      parameters: ["watch"],
      kind: "stream",
    });
  }

  /** The streaming answer of a handler that was mounted on `app` by hand. */
  async streamAnswer<T>(
    c: Context,
    message: Message<T>,
    source: (context: StreamContext) => AsyncGenerator<T[]> | Promise<AsyncGenerator<T[]>>,
  ): Promise<Response> {
    const encoding = encodingOfAccept(c.req.header("accept"));
    const stop = new AbortController();
    const values = await source({ ...contextOf(c), signal: stop.signal });
    async function* batches() {
      for await (const batch of values) yield batch.map((value) => encodeStreamed(value, message, encoding));
    }
    const generator = batches();
    const ending = generator.return.bind(generator);
    generator.return = (value) => {
      stop.abort();
      return ending(value);
    };
    return streamResponse(generator, encoding, (error) => {
      stop.abort();
      if (error !== undefined) this.log.warn("Stream ended", { path: c.req.path, error });
    }, this.clock);
  }

  #mountStandard(): void {
    const requests = this.metrics.counter(
      "weir_http_requests_total",
      "Requests by method, collection and status",
    );
    const seconds = this.metrics.histogram("weir_http_request_seconds", "Time until the answer begins");
    this.app.use("*", async (c, next) => {
      const startMs = performance.now();
      await next();
      const route = c.req.path.split("/").slice(1, 3).join("/");
      requests.increment({ method: c.req.method, route, status: c.res.status });
      seconds.observe((performance.now() - startMs) / 1000, { method: c.req.method });
    });
    this.app.onError((error) => {
      const problem = toProblem(error);
      // Who begins waits for something: no failure, and readers ask again and again.
      const isFailure = problem.status >= 500 && problem.code !== "NOT_READY";
      if (isFailure) this.log.error("Request failed", { code: problem.code, error: problem });
      return problemResponse(problem);
    });
    this.app.notFound((c) =>
      problemResponse(
        new ProblemError("NO_SUCH_ROUTE", {
          status: 404,
          detail: `Cannot ${c.req.method} ${c.req.path}: ${this.name} has no such route`,
          action: "GET /openapi.json lists the routes",
        }),
      )
    );
    this.app.post(JOINT_WATCH_PATH, (c) => jointWatch(c, this.#watched));
    this.#routes.push({
      path: JOINT_WATCH_PATH,
      methods: ["post"],
      request: JointWatchRequest.name,
      response: WatchEvent.name,
      kind: "stream",
      description: "One stream of several collections",
    });
    this.app.get("/livez", () => {
      const { stuck } = this.health;
      return stuck === undefined ? new Response("ok\n") : new Response(`${stuck}\n`, { status: 503 });
    });
    this.app.get("/readyz", (c) => this.#readyz(c));
    this.app.get(
      "/metrics",
      () => new Response(this.metrics.render(), { headers: { "content-type": "text/plain; version=0.0.4" } }),
    );
    this.app.get(
      "/version",
      (c) => c.json({ name: this.name, version: WEIR_VERSION, deno: Deno.version.deno }),
    );
    this.app.get("/openapi.json", (c) => c.json(openApi(this.name, WEIR_VERSION, this.#routes)));
  }

  #readyz(c: Context): Response {
    const status = this.health.ready ? 200 : 503;
    const checks = this.health.list();
    if (c.req.query("verbose") !== undefined && c.req.header("accept")?.includes("json")) {
      return c.json({ ready: this.health.ready, checks }, status);
    }
    const shown = c.req.query("verbose") !== undefined ? checks : checks.filter((check) => !check.ok);
    const lines = shown.map((check) => `[${check.ok ? "+" : "-"}] ${check.name}: ${check.message}`);
    return new Response([...lines, this.health.ready ? "ready" : "not ready"].join("\n") + "\n", { status });
  }
}
