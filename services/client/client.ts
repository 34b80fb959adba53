/** The typed client over the resource model. @module */
import type { Init, Message } from "@weir/proto";
import { WatchEvent } from "@weir/proto/common";
import { ProblemError, PROTOBUF_TYPE, readFrames } from "@weir/common";
import { connectTo, type Target, type Transport } from "./transport.ts";

/** What narrows a list or watch, e.g. `{identity: ["4242", "4243"]}`: any value of a key, every key. */
export type Query = Record<string, string | number | boolean | readonly (string | number)[]>;

/** One event of a watch. */
export type ClientEvent<T> =
  | { type: "PUT"; revision: number; name: string; value: T }
  | { type: "DELETED"; revision: number; name: string }
  | { type: "SYNCED"; revision: number };

/** What a list answers. */
export interface ListResult<T> {
  revision: number;
  items: T[];
}

/** Options of a watch. */
export interface WatchOptions {
  /** Only changes after this revision; without it everything there is comes first. */
  revision?: number;
  query?: Query;
  signal?: AbortSignal;
}

/**
 * Client of one service. Requests use protobuf bytes.
 *
 * Every method rejects with {@link ProblemError}: the service's own problem, or UNREACHABLE when there is no answer.
 */
export class WeirClient {
  readonly #transport: Transport;

  constructor(target: Target | string) {
    this.#transport = connectTo(target);
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
    options: {
      request?: { message: Message<Q>; value: Init<Q> };
      response: Message<A>;
      method?: "POST" | "GET";
      query?: Query;
      signal?: AbortSignal;
    },
  ): Promise<A> {
    const { request, response, query, signal } = options;
    const answer = await this.send(path + queryText(query), {
      method: options.method ?? "POST",
      headers: { "accept": PROTOBUF_TYPE, ...(request ? { "content-type": PROTOBUF_TYPE } : {}) },
      body: request ? request.message.encode(request.value) as Uint8Array<ArrayBuffer> : undefined,
      signal,
    });
    return response.decode(await answer.bytes());
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
  async *frames(path: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const answer = await this.send(path, { headers: { accept: PROTOBUF_TYPE }, signal });
    if (answer.body === null) return;
    try {
      yield* readFrames(answer.body, "protobuf");
    } catch (cause) {
      if (signal?.aborted) return;
      if (cause instanceof ProblemError) throw cause;
      throw new ProblemError("STREAM_LOST", {
        status: 502,
        detail: `Cannot go on with ${path} of ${this.address}: the stream was cut`,
        action: "Begin anew from a list",
        cause,
      });
    }
  }

  /** Any request; an answer that is not 2xx is thrown as its problem. */
  async send(path: string, init: RequestInit = {}): Promise<Response> {
    let answer: Response;
    try {
      answer = await this.#transport.fetch(path, init);
    } catch (cause) {
      throw new ProblemError("UNREACHABLE", {
        status: 503,
        detail: `Cannot reach ${this.address}`,
        action: "See whether the service runs: weir status",
        cause,
      });
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
    try {
      const answer = await this.#transport.fetch("/readyz?verbose", { signal });
      return { ready: answer.ok, text: await answer.text() };
    } catch (error) {
      return { ready: false, text: `Cannot reach ${this.address}: ${(error as Error).message}\n` };
    }
  }

  /** A document as JSON, e.g. `/version`. */
  async json(path: string): Promise<unknown> {
    return await (await this.send(path, { headers: { accept: "application/json" } })).json();
  }

  /** Frees the connections. Streams that are open end. */
  close(): void {
    this.#transport.close();
  }
}

/** One collection of a service. */
export class CollectionClient<T> {
  constructor(readonly client: WeirClient, readonly name: string, readonly message: Message<T>) {}

  /** All objects that match, and the revision to watch from. */
  async list(query?: Query): Promise<ListResult<T>> {
    const answer = await this.client.send(`/v1/${this.name}${queryText(query)}`, {
      headers: { accept: PROTOBUF_TYPE },
    });
    const revision = Number(answer.headers.get("weir-revision") ?? 0);
    return { revision, items: decodeList(await answer.bytes()).map((bytes) => this.message.decode(bytes)) };
  }

  /** The object, or undefined when there is none. */
  async get(name: string): Promise<T | undefined> {
    try {
      const answer = await this.client.send(this.#path(name), { headers: { accept: PROTOBUF_TYPE } });
      return this.message.decode(await answer.bytes());
    } catch (error) {
      if (error instanceof ProblemError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  /** Upsert of the whole object; answers what was stored. Repeatable. */
  async put(name: string, value: Init<T>): Promise<T> {
    const answer = await this.client.send(this.#path(name), {
      method: "PUT",
      headers: { "accept": PROTOBUF_TYPE, "content-type": PROTOBUF_TYPE },
      body: this.message.encode(value) as Uint8Array<ArrayBuffer>,
    });
    return this.message.decode(await answer.bytes());
  }

  /** Deletes; false when there was no such object. Repeatable. */
  async delete(name: string): Promise<boolean> {
    try {
      const answer = await this.client.send(this.#path(name), { method: "DELETE" });
      await answer.body?.cancel();
      return true;
    } catch (error) {
      if (error instanceof ProblemError && error.code === "NOT_FOUND") return false;
      throw error;
    }
  }

  /**
   * One stream of changes, in order, until it is cut or `signal` aborts. Throws REVISION_GONE when `revision` is no
   * longer held; {@link Reflector} does the listing anew.
   */
  async *watch(options: WatchOptions = {}): AsyncGenerator<ClientEvent<T>> {
    const query: Query = { watch: true, ...options.query };
    if (options.revision !== undefined) query.revision = options.revision;
    for await (const bytes of this.client.frames(`/v1/${this.name}${queryText(query)}`, options.signal)) {
      const { type, revision, name, object } = WatchEvent.decode(bytes);
      if (type === "PUT") yield { type, revision, name, value: this.message.decode(object) };
      else if (type === "DELETED") yield { type, revision, name };
      else if (type === "SYNCED") yield { type, revision };
    }
  }

  #path(name: string): string {
    return `/v1/${this.name}/${encodeURIComponent(name)}`;
  }
}

/** "?a=1&b=2&b=3", or "" for an empty query. */
export function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(key, String(one));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

/** The items (field 2) of any list message, as bytes. */
function decodeList(bytes: Uint8Array): Uint8Array[] {
  const items: Uint8Array[] = [];
  let offset = 0;
  const varint = () => {
    let value = 0, scale = 1;
    while (offset < bytes.length) {
      const byte = bytes[offset++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    throw new ProblemError("BODY_INVALID", { status: 502, detail: "Cannot read the list: it is truncated" });
  };
  while (offset < bytes.length) {
    const tag = varint();
    if ((tag & 7) === 0) varint();
    else if ((tag & 7) === 2) {
      const length = varint();
      if (offset + length > bytes.length) offset = bytes.length + 1, varint();
      if (tag >>> 3 === 2) items.push(bytes.subarray(offset, offset + length));
      offset += length;
    } else {
      throw new ProblemError("BODY_INVALID", {
        status: 502,
        detail: "Cannot read the list: it is not a list message",
      });
    }
  }
  return items;
}
