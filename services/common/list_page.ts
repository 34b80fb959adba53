/**
 * Lists: a page of a table, and its encoding piece by piece, so that no answer is held as a whole.
 *
 *     ?limit=5000  ──▶  weir-continue: TOKEN  ──▶  ?limit=5000&continue=TOKEN  ──▶  ... no weir-continue
 *
 * Each page has its objects as they are when it is taken. All pages of a list carry the revision of the first: who watches
 * from there misses nothing.
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { concatBytes, encodeVarint, type Encoding } from "./framing.ts";
import { invalidArgument, ProblemError } from "./problem.ts";
import { STREAM_CHUNK_BYTES } from "./watch_encoder.ts";
import type { Watchable } from "./watchable.ts";

/** Largest page that may be asked for. */
export const LIST_LIMIT_MAX = 100_000;

/** What a page answers. */
export interface ListPage<T> {
  revision: number;
  epoch: string;
  items: T[];
  /** Token of the next page; undefined at the end. */
  continue?: string;
}

/** A token's meaning: the table's order, the place in it, and the revision of the first page. */
interface Token {
  order: string;
  place: number;
  revision: number;
  epoch: string;
}

/**
 * The page that `?limit=N&continue=TOKEN` asks for; everything without `limit`.
 * @throws {ProblemError} INVALID_ARGUMENT; LIST_EXPIRED (410) when the table was replaced since the first page
 */
export function pageOf<T>(
  table: Watchable<T>,
  query: URLSearchParams,
  filter?: (value: T) => boolean,
): ListPage<T> {
  const limitText = query.get("limit"), text = query.get("continue");
  const limit = limitText === null ? Infinity : Number(limitText);
  if (limitText !== null && !(Number.isInteger(limit) && limit >= 1 && limit <= LIST_LIMIT_MAX)) {
    throw invalidArgument(`Cannot list ${table.name}: limit is out of range`, {
      found: limitText,
      expected: `1 to ${LIST_LIMIT_MAX}`,
    });
  }
  const token = text === null || text === "" ? undefined : parseToken(text);
  if (token !== undefined && token.order !== table.order) {
    throw new ProblemError("LIST_EXPIRED", {
      status: 410,
      detail: `Cannot go on with this list of ${table.name}: the table was read anew since its first page`,
      action: "Begin the list again",
    });
  }
  const { puts, next } = table.page(token?.place ?? 0, limit, filter);
  const { revision, epoch } = token ?? table;
  return {
    revision,
    epoch,
    items: puts.map(({ value }) => value!),
    continue: next === undefined
      ? undefined
      : formatToken({ order: table.order, place: next, revision, epoch }),
  };
}

/**
 * A list message as a stream. Every list message has `revision` as field 1 and `items` as field 2, so one encoder serves
 * them all.
 */
export function listStream<T>(
  message: Message<T>,
  items: readonly T[],
  revision: number,
  encoding: Encoding,
): ReadableStream<Uint8Array> {
  const pieces = encoding === "json"
    ? jsonPieces(message, items, revision)
    : protobufPieces(message, items, revision);
  return new ReadableStream({
    pull(controller) {
      const parts: Uint8Array[] = [];
      let bytes = 0;
      while (bytes < STREAM_CHUNK_BYTES) {
        const { done, value } = pieces.next();
        if (done) {
          if (parts.length > 0) controller.enqueue(concatBytes(parts));
          return controller.close();
        }
        parts.push(value);
        bytes += value.length;
      }
      controller.enqueue(concatBytes(parts));
    },
  }, { highWaterMark: 0 });
}

function* jsonPieces<T>(message: Message<T>, items: readonly T[], revision: number): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  yield encoder.encode(`{"revision":"${revision}","items":[`);
  for (let i = 0; i < items.length; i++) {
    yield encoder.encode((i === 0 ? "" : ",") + JSON.stringify(message.toJson(items[i] as never)));
  }
  yield encoder.encode("]}\n");
}

function* protobufPieces<T>(
  message: Message<T>,
  items: readonly T[],
  revision: number,
): Generator<Uint8Array> {
  yield concatBytes([Uint8Array.of(0x08), encodeVarint(revision)]);
  for (const item of items) {
    const bytes = message.encode(item as never);
    yield concatBytes([Uint8Array.of(0x12), encodeVarint(bytes.length), bytes]);
  }
}

function formatToken(token: Token): string {
  return new TextEncoder().encode(JSON.stringify(token)).toBase64({
    alphabet: "base64url",
    omitPadding: true,
  });
}

function parseToken(text: string): Token {
  try {
    const token = JSON.parse(
      new TextDecoder().decode(Uint8Array.fromBase64(text, { alphabet: "base64url" })),
    );
    const { order, place, revision, epoch } = token;
    if (
      typeof order === "string" && typeof epoch === "string" && Number.isSafeInteger(place) &&
      Number.isSafeInteger(revision) && place >= 0 && revision >= 0
    ) return { order, place, revision, epoch };
  } catch {
    // Not a token of ours.
  }
  throw invalidArgument("Cannot go on with a list: the token is not one", {
    found: text.slice(0, 80),
    expected: "weir-continue of the page before",
  });
}
