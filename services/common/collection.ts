/** The routes of one collection: list, get, put, delete and watch of objects of one message. @module */
import type { Context, Hono } from "hono";
import type { Message } from "@weir/proto";
import { BODY_BYTES_MAX, readBody } from "./body.ts";
import {
  concatBytes,
  decodeBody,
  encodeBody,
  encodeVarint,
  type Encoding,
  encodingOfAccept,
  encodingOfContent,
  JSON_TYPE,
  PROTOBUF_TYPE,
} from "./framing.ts";
import { invalidArgument, notFound, ProblemError } from "./problem.ts";
import { encodeEvent, revisionGone, streamResponse, type WatchFilter, watchTable } from "./watch_stream.ts";
import type { WatchedTable } from "./watched_table.ts";

/** Longest name of an object in bytes. */
export const NAME_BYTES_MAX = 512;

/** What a handler is told beside its arguments. */
export interface RequestContext {
  /** Query parameters of the request. */
  query: URLSearchParams;
}

/** Options of `ApiServer.collection()`. */
export interface CollectionOptions<T> {
  /** Path segment: `/v1/<name>`. */
  name: string;
  message: Message<T>;
  /** Listed, got and watched. A collection without a table computes `list` and `get` and cannot be watched. */
  table?: WatchedTable<T>;
  list?: (context: RequestContext) => Promise<T[]> | T[];
  get?: (name: string, context: RequestContext) => Promise<T | undefined> | T | undefined;
  /** Upsert of the whole object; answers what was stored. Absent: 405. The handler writes the table. */
  put?: (name: string, value: T, context: RequestContext) => Promise<T> | T;
  /** Deletes; answers false when there was no such object (404). Absent: 405. */
  delete?: (name: string, context: RequestContext) => Promise<boolean | void> | boolean | void;
  /** Filters by query parameter: `?identity=4242` on list and watch. Repeated parameters: any may match. */
  filters?: Record<string, (argument: string) => WatchFilter<T>>;
  /** Default 8 MiB. */
  bodyBytesMax?: number;
  /** For /openapi.json. */
  description?: string;
}

/** Called for each watch stream that begins and ends. */
export interface WatchObserver {
  begun(collection: string): void;
  ended(collection: string, error: unknown): void;
}

/** Adds the routes of a collection to an app. Used by `ApiServer`. */
export function mountCollection<T>(app: Hono, options: CollectionOptions<T>, observer?: WatchObserver): void {
  const base = `/v1/${options.name}`;
  app.on(
    ["GET", "HEAD"],
    base,
    (c) => c.req.query("watch") === "true" ? watch(c, options, observer) : list(c, options),
  );
  app.on(["GET", "HEAD"], `${base}/*`, async (c) => {
    assertRead(options.table);
    const name = nameOf(c.req.raw, base);
    const value = options.get ? await options.get(name, contextOf(c)) : options.table?.get(name);
    if (value === undefined) throw notFound(options.name, name);
    return answer(c, options.message, value);
  });
  app.put(`${base}/*`, async (c) => {
    if (options.put === undefined) throw notAllowed("PUT", options.name);
    const name = nameOf(c.req.raw, base);
    const bytes = await readBody(c.req.raw, options.bodyBytesMax ?? BODY_BYTES_MAX);
    const value = decodeBody(options.message, bytes, encodingOfContent(c.req.header("content-type")));
    return answer(c, options.message, await options.put(name, value, contextOf(c)));
  });
  app.delete(`${base}/*`, async (c) => {
    if (options.delete === undefined) throw notAllowed("DELETE", options.name);
    const name = nameOf(c.req.raw, base);
    const existed = await options.delete(name, contextOf(c));
    if (existed === false) throw notFound(options.name, name);
    return new Response(null, { status: 204 });
  });
}

/** One message as the answer, in the encoding that the client accepts. */
export function answer<T>(c: Context, message: Message<T>, value: T, status = 200): Response {
  const encoding = encodingOfAccept(c.req.header("accept"));
  return new Response(encodeBody(message, value, encoding), {
    status,
    headers: { "content-type": encoding === "protobuf" ? PROTOBUF_TYPE : JSON_TYPE, "vary": "accept" },
  });
}

/** The handler's view of a request. */
export function contextOf(c: Context): RequestContext {
  return { query: new URL(c.req.url).searchParams };
}

async function list<T>(c: Context, options: CollectionOptions<T>): Promise<Response> {
  assertRead(options.table);
  const revision = options.table?.revision ?? 0;
  const all = options.list ? await options.list(contextOf(c)) : options.table?.list() ?? [];
  const filter = filterOf(c, options);
  const items = filter === undefined ? all : all.filter(filter);
  const encoding = encodingOfAccept(c.req.header("accept"));
  return new Response(encodeList(options.message, items, revision, encoding), {
    headers: {
      "content-type": encoding === "protobuf" ? PROTOBUF_TYPE : JSON_TYPE,
      "weir-revision": String(revision),
      "vary": "accept",
    },
  });
}

/** Every list message has `revision` as field 1 and `items` as field 2, so one encoder serves them all. */
function encodeList<T>(
  message: Message<T>,
  items: T[],
  revision: number,
  encoding: Encoding,
): Uint8Array<ArrayBuffer> {
  if (encoding === "json") {
    const document = {
      revision: String(revision),
      items: items.map((item) => message.toJson(item as never)),
    };
    return new TextEncoder().encode(JSON.stringify(document) + "\n");
  }
  const parts: Uint8Array[] = [Uint8Array.of(0x08), encodeVarint(revision)];
  for (const item of items) {
    const bytes = message.encode(item as never);
    parts.push(Uint8Array.of(0x12), encodeVarint(bytes.length), bytes);
  }
  return concatBytes(parts);
}

function watch<T>(c: Context, options: CollectionOptions<T>, observer?: WatchObserver): Response {
  const { table, message } = options;
  if (table === undefined) {
    throw new ProblemError("WATCH_NOT_SUPPORTED", {
      status: 405,
      detail: `Cannot watch ${options.name}: it is computed for each request`,
      action: "List it instead",
    });
  }
  assertRead(table);
  const text = c.req.query("revision");
  const revision = text === undefined || text === "" ? undefined : Number(text);
  if (revision !== undefined && (!Number.isSafeInteger(revision) || revision < 0)) {
    throw invalidArgument("Cannot watch: revision is not a whole number", {
      found: text,
      expected: "0 to 2^53-1",
    });
  }
  if (revision !== undefined && table.changesSince(revision, 1) === undefined) {
    throw revisionGone(table as WatchedTable<unknown>, revision);
  }
  const encoding = encodingOfAccept(c.req.header("accept"));
  const filter = filterOf(c, options);
  const stop = new AbortController();
  const events = watchTable(table, { revision, filter, signal: stop.signal });
  observer?.begun(options.name);
  async function* batches() {
    for await (const batch of events) yield batch.map((event) => encodeEvent(event, message, encoding));
  }
  const source = batches();
  const ending = source.return.bind(source);
  source.return = (value) => {
    stop.abort(); // wakes a generator that waits for the next change: return() alone would wait with it
    return ending(value);
  };
  return streamResponse(source, encoding, (error) => {
    stop.abort();
    observer?.ended(options.name, error);
  });
}

function filterOf<T>(c: Context, options: CollectionOptions<T>): WatchFilter<T> | undefined {
  const query = contextOf(c).query;
  const all: WatchFilter<T>[] = [];
  for (const key of new Set(query.keys())) {
    if (key === "watch" || key === "revision") continue;
    const make = options.filters?.[key];
    if (make === undefined) {
      throw invalidArgument(`Cannot filter ${options.name} by ${JSON.stringify(key)}`, {
        found: key,
        expected: Object.keys(options.filters ?? {}).join(", ") || "no filter",
      });
    }
    const any = query.getAll(key).map((argument) => make(argument));
    all.push((value) => any.some((filter) => filter(value)));
  }
  return all.length === 0 ? undefined : (value) => all.every((filter) => filter(value));
}

/** The object's name from the raw path: decoded exactly once, so that `%2F` in a name survives. */
function nameOf(request: Request, base: string): string {
  const path = new URL(request.url).pathname;
  let name: string;
  try {
    name = decodeURIComponent(path.slice(path.indexOf(base) + base.length + 1));
  } catch {
    throw invalidArgument("Cannot read the name: its percent-encoding is broken", { found: path });
  }
  const bytes = new TextEncoder().encode(name).length;
  // deno-lint-ignore no-control-regex
  if (bytes === 0 || bytes > NAME_BYTES_MAX || /[\x00-\x1f\x7f]/.test(name)) {
    throw invalidArgument(`Cannot take this name: it has ${bytes} bytes`, {
      found: name.slice(0, 80),
      expected: `1 to ${NAME_BYTES_MAX} bytes without control characters`,
    });
  }
  return name;
}

/** @throws {ProblemError} NOT_READY while the table was not read from its database */
function assertRead(table: { name: string; pending: boolean } | undefined): void {
  if (!table?.pending) return;
  throw new ProblemError("NOT_READY", {
    status: 503,
    detail: `Cannot show ${table.name} yet: they were not read from the database`,
    action: "Try again; /readyz?verbose says what is waited for",
  });
}

function notAllowed(method: string, collection: string): ProblemError {
  return new ProblemError("METHOD_NOT_ALLOWED", {
    status: 405,
    detail: `Cannot ${method} in ${collection}: this collection does not take it`,
    found: method,
    expected: "GET",
  });
}
