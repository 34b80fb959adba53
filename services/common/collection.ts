/** The routes of one collection: list, get, put, delete and watch of objects of one message. @module */
import type { Context, Hono } from "hono";
import type { Message } from "@weir/proto";
import { type CollectionWatch, WatchRequest } from "@weir/proto/common";
import { BODY_BYTES_MAX, readBody } from "./body.ts";
import type { Clock } from "./clock.ts";
import {
  decodeBody,
  encodeBody,
  type Encoding,
  encodingOfAccept,
  encodingOfContent,
  JSON_TYPE,
  NDJSON_TYPE,
  PROTOBUF_TYPE,
} from "./framing.ts";
import { checkOwnership } from "./access_control.ts";
import { listStream, pageOf } from "./list_page.ts";
import { connectionOf, type Peer, peerOf } from "./peer.ts";
import { invalidArgument, notFound, ProblemError } from "./problem.ts";
import type { PartsOf } from "./shared_parts.ts";
import { type IndexKeys, WatchHub } from "./watch_hub.ts";
import type { WatchFilter, WatchInterest, WatchStream } from "./watch_stream.ts";
import type { Watchable } from "./watchable.ts";

/** Longest name of an object in bytes. */
export const NAME_BYTES_MAX = 512;

/** What a handler is told beside its arguments. */
export interface RequestContext {
  /** Query parameters of the request. */
  query: URLSearchParams;
  /** Who asks; undefined for a local caller, who is trusted. */
  readonly peer?: Peer;
  /** Its address on TCP, "10.0.0.7". */
  readonly remoteAddress?: string;
  /** When the certificate that it showed was issued, Unix milliseconds. */
  readonly issuedUnixMs?: number;
}

/** Judges a request before it is answered; rejects with the problem that is the answer. */
export type Guard = (request: Request) => Promise<void> | void;

/** Options of `ApiServer.collection()`. */
export interface CollectionOptions<T> {
  /** Path segment: `/v1/<name>`. */
  name: string;
  message: Message<T>;
  /** Listed, got and watched. A collection without a table computes `list` and `get` and cannot be watched. */
  table?: Watchable<T>;
  list?: (context: RequestContext) => Promise<T[]> | T[];
  get?: (name: string, context: RequestContext) => Promise<T | undefined> | T | undefined;
  /** Upsert of the whole object; answers what was stored. Absent: 405. The handler writes the table. */
  put?: (name: string, value: T, context: RequestContext) => Promise<T> | T;
  /** Deletes; answers false when there was no such object (404). Absent: 405. */
  delete?: (name: string, context: RequestContext) => Promise<boolean | void> | boolean | void;
  /**
   * Exact filters by query parameter: `?node=a` is every object that has the key "a" here. Watchers are woken by their
   * keys only. Repeated parameters: any may match.
   */
  indexes?: Record<string, IndexKeys<T>>;
  /** What objects have in common: readers by name that take parts get it once. */
  partsOf?: PartsOf<T>;
  /** Other filters by query parameter: `?identity=4242` on list and watch. Repeated parameters: any may match. */
  filters?: Record<string, (argument: string) => WatchFilter<T>>;
  /** Asked before anything of the collection is read or written: list, object, watch, part of a joint watch, put, delete. */
  guard?: Guard;
  /** Default 8 MiB. */
  bodyBytesMax?: number;
  /** For /openapi.json. */
  description?: string;
}

/** Longest list of names that one stream watches. */
export const WATCH_NAMES_MAX = 20_000;

/** What {@link mountCollection} takes from its server. */
export interface MountOptions {
  clock?: Clock;
  observer?: WatchObserver;
}

/** A collection as joint streams see it. */
export interface WatchSource {
  readonly name: string;
  /** The collection's own. */
  readonly guard: Guard;
  /** @throws {ProblemError} REVISION_GONE, NOT_READY, WATCH_NOT_SUPPORTED, INVALID_ARGUMENT */
  // deno-lint-ignore no-explicit-any
  open(watch: CollectionWatch, encoding: Encoding): WatchStream<any>;
}

/** Called for each watch stream that begins and ends. */
export interface WatchObserver {
  begun(collection: string): void;
  ended(collection: string, error: unknown): void;
}

/** Adds the routes of a collection to an app. Used by `ApiServer`. */
export function mountCollection<T>(
  app: Hono,
  options: CollectionOptions<T>,
  { clock, observer }: MountOptions = {},
): WatchSource {
  const base = `/v1/${options.name}`;
  const stored = (name: string, c: Context) =>
    options.get ? options.get(name, contextOf(c)) : options.table?.get(name);
  const { table, message, indexes, partsOf } = options;
  const guard: Guard = (request) => options.guard?.(request);
  const hub = table && new WatchHub({ table, message, indexes, partsOf, clock });
  app.on(
    ["GET", "HEAD"],
    base,
    async (c) => {
      await guard(c.req.raw);
      return c.req.query("watch") === "true"
        ? watch(c, options, assertHub(hub, options), observer)
        : await list(c, options);
    },
  );
  app.post(`${base}:watch`, (c) => watchNames(c, options, () => assertHub(hub, options), observer));
  app.on(["GET", "HEAD"], `${base}/*`, async (c) => {
    await guard(c.req.raw);
    assertRead(options.table);
    const name = nameOf(c.req.raw, base);
    const value = await stored(name, c);
    if (value === undefined) throw notFound(options.name, name);
    return answer(c, options.message, value);
  });
  app.put(`${base}/*`, async (c) => {
    if (options.put === undefined) throw notAllowed("PUT", options.name);
    await guard(c.req.raw);
    const name = nameOf(c.req.raw, base);
    const bytes = await readBody(c.req.raw, options.bodyBytesMax ?? BODY_BYTES_MAX);
    const value = decodeBody(options.message, bytes, encodingOfContent(c.req.header("content-type")));
    await checkOwnership(c.req.raw, { given: value, stored: () => stored(name, c) });
    return answer(c, options.message, await options.put(name, value, contextOf(c)));
  });
  app.delete(`${base}/*`, async (c) => {
    if (options.delete === undefined) throw notAllowed("DELETE", options.name);
    await guard(c.req.raw);
    const name = nameOf(c.req.raw, base);
    await checkOwnership(c.req.raw, { stored: () => stored(name, c) });
    const existed = await options.delete(name, contextOf(c));
    if (existed === false) throw notFound(options.name, name);
    return new Response(null, { status: 204 });
  });
  return {
    name: options.name,
    guard,
    open({ byNames, request }, encoding) {
      const watched = assertHub(hub, options);
      const stream = (more: EndingOptions) =>
        byNames ? watched.watchNames({ ...namesOf(options.name, request), ...more }) : watched.watch({
          position: request?.revision ? { revision: request.revision, epoch: request.epoch } : undefined,
          ...more,
        });
      return observed(options.name, observer, encoding, stream);
    },
  };
}

/** One message as the answer, in the encoding that the client accepts. */
export function answer<T>(c: Context, message: Message<T>, value: T, status = 200): Response {
  const encoding = encodingOfAccept(c.req.header("accept"));
  const body = encodeBody(message, value, encoding);
  return new Response(body, {
    status,
    headers: {
      "content-type": contentType(encoding),
      "content-length": String(body.length),
      "vary": "accept",
    },
  });
}

/** The handler's view of a request. */
export function contextOf(c: Context): RequestContext {
  const { raw } = c.req;
  return {
    query: new URL(c.req.url).searchParams,
    peer: peerOf(raw),
    ...connectionOf(raw),
  };
}

async function list<T>(c: Context, options: CollectionOptions<T>): Promise<Response> {
  const { table, message } = options;
  assertRead(table);
  const encoding = encodingOfAccept(c.req.header("accept"));
  const { filter } = interestOf(c, options);
  const headers = new Headers({ "content-type": contentType(encoding), "vary": "accept" });
  let revision = table?.revision ?? 0, items: readonly T[];
  if (table !== undefined && options.list === undefined) {
    const page = pageOf(table, contextOf(c).query, filter);
    ({ revision, items } = page);
    headers.set("weir-epoch", page.epoch);
    if (page.continue !== undefined) headers.set("weir-continue", page.continue);
  } else {
    // What is computed is in memory as a whole, and has no order to go on from: it is one page whatever was asked.
    if (table !== undefined) headers.set("weir-epoch", table.epoch);
    const all = await options.list?.(contextOf(c)) ?? [];
    items = filter === undefined ? all : all.filter(filter);
  }
  headers.set("weir-revision", String(revision));
  return new Response(listStream(message, items, revision, encoding), { headers });
}

function assertHub<T>(hub: WatchHub<T> | undefined, options: CollectionOptions<T>): WatchHub<T> {
  if (hub === undefined) {
    throw new ProblemError("WATCH_NOT_SUPPORTED", {
      status: 405,
      detail: `Cannot watch ${options.name}: it is computed for each request`,
      action: "List it instead",
    });
  }
  assertRead(options.table);
  return hub;
}

function watch<T>(
  c: Context,
  options: CollectionOptions<T>,
  hub: WatchHub<T>,
  observer?: WatchObserver,
): Response {
  const text = c.req.query("revision");
  const revision = text === undefined || text === "" ? undefined : Number(text);
  if (revision !== undefined && (!Number.isSafeInteger(revision) || revision < 0)) {
    throw invalidArgument("Cannot watch: revision is not a whole number", {
      found: text,
      expected: "0 to 2^53-1",
    });
  }
  const position = revision === undefined ? undefined : { revision, epoch: c.req.query("epoch") };
  const interest = interestOf(c, options);
  return watchAnswer(c, options.name, observer, (more) => hub.open({ interest, position, ...more }));
}

async function watchNames<T>(
  c: Context,
  options: CollectionOptions<T>,
  hub: () => WatchHub<T>,
  observer?: WatchObserver,
): Promise<Response> {
  const bytes = await readBody(c.req.raw, options.bodyBytesMax ?? BODY_BYTES_MAX);
  const request = decodeBody(WatchRequest, bytes, encodingOfContent(c.req.header("content-type")));
  const wanted = namesOf(options.name, request);
  // Not before the body is there: what it finds must still be so when the stream begins.
  await options.guard?.(c.req.raw);
  const watched = hub();
  return watchAnswer(c, options.name, observer, (more) => watched.openNames({ ...wanted, ...more }));
}

/** @throws {ProblemError} INVALID_ARGUMENT: too many names */
function namesOf(collection: string, request: WatchRequest = WatchRequest.create()) {
  const { revision, epoch, names, newNames, parts } = request;
  if (names.length + newNames.length > WATCH_NAMES_MAX) {
    throw invalidArgument(`Cannot watch ${collection}: the request has too many names`, {
      found: names.length + newNames.length,
      expected: `at most ${WATCH_NAMES_MAX}`,
    });
  }
  return { names, newNames, position: revision === 0 ? undefined : { revision, epoch }, parts };
}

interface EndingOptions {
  encoding: Encoding;
  onEnd: (error: unknown) => void;
}

/** Opens a stream whose beginning and end the observer hears of. */
function observed<S>(
  name: string,
  observer: WatchObserver | undefined,
  encoding: Encoding,
  open: (options: EndingOptions) => S,
): S {
  const stream = open({ encoding, onEnd: (error) => observer?.ended(name, error) });
  observer?.begun(name);
  return stream;
}

function watchAnswer(
  c: Context,
  name: string,
  observer: WatchObserver | undefined,
  open: (options: EndingOptions) => ReadableStream<Uint8Array>,
): Response {
  const encoding = encodingOfAccept(c.req.header("accept"));
  return streamedAnswer(observed(name, observer, encoding, open), encoding);
}

/** The answer that a watch is. */
export function streamedAnswer(body: ReadableStream<Uint8Array>, encoding: Encoding): Response {
  return new Response(body, {
    headers: {
      "content-type": encoding === "protobuf" ? PROTOBUF_TYPE : NDJSON_TYPE,
      "cache-control": "no-store",
    },
  });
}

function contentType(encoding: Encoding): string {
  return encoding === "protobuf" ? PROTOBUF_TYPE : JSON_TYPE;
}

/** Query parameters that are not filters. */
const CONTROL_PARAMETERS = new Set(["watch", "revision", "epoch", "limit", "continue"]);

/** What the query asks for: any of the values of each parameter, and all parameters. */
function interestOf<T>(c: Context, options: CollectionOptions<T>): WatchInterest<T> {
  const { query } = contextOf(c);
  const all: WatchFilter<T>[] = [];
  let keys: WatchInterest<T>["keys"];
  for (const name of new Set(query.keys())) {
    if (CONTROL_PARAMETERS.has(name)) continue;
    const values = query.getAll(name);
    const keysOf = options.indexes?.[name], make = options.filters?.[name];
    if (keysOf !== undefined) {
      const wanted = new Set(values);
      all.push((value) => [keysOf(value)].flat().some((key) => wanted.has(key)));
      keys ??= { index: name, keys: [...wanted] };
    } else if (make !== undefined) {
      const any = values.map((value) => make(value));
      all.push((value) => any.some((filter) => filter(value)));
    } else {
      throw invalidArgument(`Cannot filter ${options.name} by ${JSON.stringify(name)}`, {
        found: name,
        expected: [...Object.keys(options.indexes ?? {}), ...Object.keys(options.filters ?? {})].join(", ") ||
          "no filter",
      });
    }
  }
  if (all.length === 0) return {};
  return { keys, filter: (value) => all.every((filter) => filter(value)) };
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
