/**
 * A small API server on loopback that does what a real one does only when something is wrong: tests say what it answers
 * instead, request by request. Without a word it keeps objects, lists them in pages and lets them be watched.
 * @module
 */
import type { KubernetesObject } from "../api/object.ts";
import { keyOf } from "../api/object.ts";
import { apiVersionOf, type Resource } from "../api/resource.ts";

/** What is answered in place of the usual; undefined: the usual. */
export type Intercept = (
  request: Request,
  url: URL,
) => Response | undefined | Promise<Response | undefined>;

interface Watcher {
  send(type: string, object: unknown): void;
  close(): void;
}

/** One kind of objects. Dispose of it with `await using`. */
export class FakeApiServer implements AsyncDisposable {
  version = 100;
  objects = new Map<string, KubernetesObject>();
  intercept: Intercept | undefined;
  /** Path and query of every request. */
  readonly requests: string[] = [];
  readonly watchers = new Set<Watcher>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor(readonly resource: Resource) {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) => this.#answer(request),
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** Lists so far, those for a look at the version apart. */
  get lists(): number {
    return this.requests.filter((one) =>
      !one.includes("watch=") && !one.includes("limit=1&") && !/limit=1$/.test(one)
    )
      .length;
  }

  put(name: string, more: Partial<KubernetesObject> = {}): void {
    const key = `default/${name}`, isNew = !this.objects.has(key);
    const object: KubernetesObject = {
      apiVersion: apiVersionOf(this.resource),
      kind: this.resource.kind,
      ...more,
      metadata: {
        name,
        namespace: "default",
        uid: `uid-${name}`,
        ...more.metadata,
        resourceVersion: `${++this.version}`,
      },
    };
    this.objects.set(key, object);
    for (const watcher of this.watchers) watcher.send(isNew ? "ADDED" : "MODIFIED", object);
  }

  delete(name: string): void {
    const object = this.objects.get(`default/${name}`)!;
    this.objects.delete(`default/${name}`);
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: `${++this.version}` } };
    for (const watcher of this.watchers) watcher.send("DELETED", last);
  }

  bookmark(): void {
    for (const watcher of this.watchers) {
      watcher.send("BOOKMARK", { metadata: { resourceVersion: `${this.version}` } });
    }
  }

  /** Ends the streams as the end of their time does. */
  endWatches(): void {
    for (const watcher of [...this.watchers]) watcher.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.endWatches();
    await this.#server.shutdown();
  }

  async #answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    this.requests.push(url.pathname + url.search);
    const instead = await this.intercept?.(request, url);
    if (instead !== undefined) return instead;
    return url.searchParams.get("watch") === "true" ? this.#watch() : this.#list(url);
  }

  #list(url: URL): Response {
    const limit = Number(url.searchParams.get("limit") ?? 500),
      from = Number(url.searchParams.get("continue") ?? 0);
    const all = [...this.objects.values()].sort((a, b) => keyOf(a) < keyOf(b) ? -1 : 1);
    const next = from + limit < all.length ? `${from + limit}` : "";
    return Response.json({
      kind: `${this.resource.kind}List`,
      metadata: { resourceVersion: `${this.version}`, continue: next },
      items: all.slice(from, from + limit),
    });
  }

  #watch(): Response {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const watcher: Watcher = {
      send: (type, object) =>
        void writer.write(new TextEncoder().encode(JSON.stringify({ type, object }) + "\n")).catch(() => {}),
      close: () => {
        this.watchers.delete(watcher);
        void writer.close().catch(() => {});
      },
    };
    this.watchers.add(watcher);
    writer.closed.catch(() => this.watchers.delete(watcher));
    return new Response(readable);
  }
}

/** The answer that a `Status` is. */
export function statusAnswer(code: number, reason: string, message = reason): Response {
  return Response.json({ kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message }, {
    status: code,
  });
}

/** A body whose pieces come as a test sends them; it ends when `end` is called, and not before. */
export function heldBody(...pieces: string[]): { body: ReadableStream<Uint8Array>; end: () => void } {
  let end = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
      end = () => {
        try {
          controller.close();
        } catch {
          // The client is gone.
        }
      };
    },
  });
  return { body, end };
}
