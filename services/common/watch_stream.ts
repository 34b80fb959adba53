/** Answers that go on: watch streams of tables, and streams of messages from any source. @module */
import type { Message } from "@weir/proto";
import { WatchEvent } from "@weir/proto/common";
import { concatBytes, delimit, type Encoding, NDJSON_TYPE, PROTOBUF_TYPE } from "./framing.ts";
import { ProblemError } from "./problem.ts";
import type { Change, WatchedTable } from "./watched_table.ts";

/** A silent stream repeats SYNCED with its revision after this time, so that both ends notice a dead peer. */
export const WATCH_HEARTBEAT_MS = 30_000;
/** Bytes gathered into one chunk before it is handed to the socket. */
export const STREAM_CHUNK_BYTES = 64 * 1024;
/** Events taken from the history at once. */
const EVENTS_AT_ONCE = 256;

const encoder = new TextEncoder();

/** Decides which objects a watcher sees. */
export type WatchFilter<T> = (value: T) => boolean;

/** Options of {@link watchTable}. */
export interface WatchTableOptions<T> {
  /** Begins after this revision; without it the stream begins with every object there is. */
  revision?: number;
  filter?: WatchFilter<T>;
  /** Default {@link WATCH_HEARTBEAT_MS}. */
  heartbeatMs?: number;
  signal?: AbortSignal;
}

/** One event of {@link watchTable}. */
export type TableEvent<T> =
  | { type: "PUT"; revision: number; name: string; value: T }
  | { type: "DELETED"; revision: number; name: string }
  | { type: "SYNCED"; revision: number };

/** REVISION_GONE, status 410: the client lists anew. */
export function revisionGone(table: WatchedTable<unknown>, revision: number): ProblemError {
  return new ProblemError("REVISION_GONE", {
    status: 410,
    detail: `Cannot watch ${table.name} from revision ${revision}: it is no longer held`,
    found: revision,
    expected: `${table.oldestRevision} to ${table.revision}`,
    action: "List anew and watch from the list's revision",
  });
}

/**
 * The changes of a table as batches, in order, each once; then it waits for more. An object that stops matching the
 * filter is DELETED for this watcher.
 * @throws {ProblemError} REVISION_GONE at the beginning, or later when this watcher was too slow
 */
export async function* watchTable<T>(
  table: WatchedTable<T>,
  options: WatchTableOptions<T> = {},
): AsyncGenerator<TableEvent<T>[]> {
  const { filter, signal } = options;
  let at = options.revision ?? table.revision;
  if (options.revision === undefined) {
    const snapshot = table.entries();
    for (let i = 0; i < snapshot.length; i += EVENTS_AT_ONCE) {
      const part = snapshot.slice(i, i + EVENTS_AT_ONCE).filter(([, value]) => filter?.(value) ?? true);
      if (part.length > 0) {
        yield part.map(([name, value]) => ({ type: "PUT" as const, revision: at, name, value }));
      }
    }
  }
  let synced = false;
  while (!signal?.aborted) {
    const end = table.revision;
    const changes = table.changesSince(at, EVENTS_AT_ONCE);
    if (changes === undefined) throw revisionGone(table as WatchedTable<unknown>, at);
    at = changes.length === EVENTS_AT_ONCE ? changes[changes.length - 1].revision : end;
    const events = changes.map((change) => eventOf(change, filter)).filter((event) => event !== undefined);
    if (events.length > 0) yield events;
    if (at !== table.revision) continue;
    if (!synced) yield [{ type: "SYNCED", revision: at }];
    synced = true;
    if (!await waitOrBeat(table, at, options)) yield [{ type: "SYNCED", revision: at }];
  }
}

/** True when something changed (or the watcher is gone), false when it is time for a heartbeat. */
async function waitOrBeat<T>(
  table: WatchedTable<T>,
  at: number,
  options: WatchTableOptions<T>,
): Promise<boolean> {
  const beat = new AbortController();
  const timer = setTimeout(() => beat.abort(), options.heartbeatMs ?? WATCH_HEARTBEAT_MS);
  const abort = () => beat.abort();
  options.signal?.addEventListener("abort", abort);
  await table.waitBeyond(at, beat.signal);
  clearTimeout(timer);
  options.signal?.removeEventListener("abort", abort);
  return table.revision !== at || options.signal?.aborted === true;
}

function eventOf<T>(change: Change<T>, filter?: WatchFilter<T>): TableEvent<T> | undefined {
  const { type, revision, name, value, previous } = change;
  const wasSeen = previous !== undefined && (filter?.(previous) ?? true);
  if (type === "PUT" && (filter?.(value!) ?? true)) return { type, revision, name, value: value! };
  return wasSeen ? { type: "DELETED", revision, name } : undefined;
}

/** One event on the wire. */
export function encodeEvent<T>(event: TableEvent<T>, message: Message<T>, encoding: Encoding): Uint8Array {
  const name = event.type === "SYNCED" ? "" : event.name;
  if (encoding === "protobuf") {
    const object = event.type === "PUT" ? message.encode(event.value as never) : new Uint8Array(0);
    return delimit(WatchEvent.encode({ type: event.type, revision: event.revision, name, object }));
  }
  const line: Record<string, unknown> = { type: event.type, revision: String(event.revision) };
  if (name !== "") line.name = name;
  if (event.type === "PUT") line.object = message.toJson(event.value as never);
  return encoder.encode(JSON.stringify(line) + "\n");
}

/** One message of a stream on the wire. */
export function encodeStreamed<T>(value: T, message: Message<T>, encoding: Encoding): Uint8Array {
  return encoding === "protobuf"
    ? delimit(message.encode(value as never))
    : encoder.encode(JSON.stringify(message.toJson(value as never)) + "\n");
}

/**
 * An answer whose body is `batches`, pulled only as fast as the client reads. When the client goes, or `signal` aborts,
 * the source is ended with `return()`. An error of the source ends the stream abruptly, which the client sees as loss.
 */
export function streamResponse(
  batches: AsyncGenerator<Uint8Array[]>,
  encoding: Encoding,
  onEnd?: (error: unknown) => void,
): Response {
  let ended = false;
  const end = (error: unknown) => {
    if (!ended) onEnd?.(error);
    ended = true;
  };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await batches.next();
        if (done) {
          end(undefined);
          controller.close();
        } else {
          for (let i = 0, from = 0, bytes = 0; i < value.length; i++) {
            bytes += value[i].length;
            if (bytes < STREAM_CHUNK_BYTES && i + 1 < value.length) continue;
            controller.enqueue(concatBytes(value.slice(from, i + 1)));
            from = i + 1;
            bytes = 0;
          }
        }
      } catch (error) {
        end(error);
        controller.error(error);
      }
    },
    async cancel() {
      end(undefined);
      await batches.return(undefined);
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: {
      "content-type": encoding === "protobuf" ? PROTOBUF_TYPE : NDJSON_TYPE,
      "cache-control": "no-store",
    },
  });
}
