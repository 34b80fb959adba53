/**
 * The bytes of one table's changes for its watchers: each is encoded once for all whom it concerns, and the pages of a beginning
 * once for all who begin with everything.
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { ByteCache } from "./byte_cache.ts";
import type { Change } from "./change_history.ts";
import type { Clock } from "./clock.ts";
import type { Encoding } from "./framing.ts";
import { concatInChunk } from "./http_chunk.ts";
import type { PartsOf, PartWriter } from "./shared_parts.ts";
import { encodeChange } from "./watch_event.ts";
import { NAME_INDEX, type WatchInterest, type WatchPages, type WatchStream } from "./watch_stream.ts";
import type { Watchable } from "./watchable.ts";

/**
 * Bytes gathered into one chunk before it is handed to the socket: a write costs the same whatever is in it. With the event
 * that goes beyond it a chunk is most often below a socket's high-water mark (64 KiB), so that the next follows at once.
 */
export const STREAM_CHUNK_BYTES = 60 * 1024;
/** Encoded events that one table keeps for its watchers, in bytes. */
const FRAMES_BYTES_MAX = 8 * 1024 * 1024;
/**
 * Encoded pages of a snapshot while readers begin with it, in bytes. All of a table of 500,000 small objects: readers who
 * begin one after the other go through all of it, and a cache of a part would have let go of each page before the next comes.
 */
const PAGES_BYTES_MAX = 64 * 1024 * 1024;
/** A snapshot serves while so few changes came since, and an eighth of its objects. */
const CHANGES_SINCE_MAX = 1024;

/** The objects of one moment, encoded page by page for all who begin with everything. */
interface Snapshot<T> {
  readonly revision: number;
  readonly puts: readonly Change<T>[];
}

/** What is encoded, and how. */
export interface WatchEncoderParts<T> {
  readonly table: Watchable<T>;
  readonly message: Message<T>;
  readonly partsOf?: PartsOf<T>;
  readonly clock: Clock;
}

/** Encodes one table. */
export class WatchEncoder<T> {
  readonly #parts: WatchEncoderParts<T>;
  #snapshot: Snapshot<T> | undefined;
  #snapshotUsedMs = 0;
  readonly #frames = new ByteCache<Change<T>, { bytes: Uint8Array; encoding: Encoding }>(FRAMES_BYTES_MAX);
  readonly #pages = new ByteCache<string, { bytes: Uint8Array; next: number }>(PAGES_BYTES_MAX);

  constructor(parts: WatchEncoderParts<T>) {
    this.#parts = parts;
  }

  /** Forgets everything: the table was made anew. */
  clear(): void {
    this.#snapshot = undefined;
    for (const cache of [this.#frames, this.#pages]) cache.clear();
  }

  /** Forgets a beginning that nobody has begun with for so long, in milliseconds. */
  forgetUnused(ms: number): void {
    if (this.#parts.clock.monotonicMs() - this.#snapshotUsedMs > ms) this.forgetBeginning();
  }

  /** Nobody is there who would begin. */
  forgetBeginning(): void {
    this.#snapshot = undefined;
    this.#pages.clear();
  }

  /** A beginning with every object. A snapshot of a moment ago serves while the changes since are few. */
  everything(interest: WatchInterest<T>, encoding: Encoding): { first: WatchPages; revision: number } {
    const { keys, filter } = interest;
    if (keys?.index === NAME_INDEX) throw new Error("Names are watched by watchNames()");
    const { table } = this.#parts;
    const before = this.#snapshot;
    const isFresh = before !== undefined && table.holds({ revision: before.revision }) &&
      table.countSince(before.revision) <= CHANGES_SINCE_MAX + before.puts.length / 8;
    const snapshot = isFresh ? before : { revision: table.revision, puts: table.puts() };
    this.#snapshot = snapshot;
    this.#snapshotUsedMs = this.#parts.clock.monotonicMs();
    const first = keys === undefined && filter === undefined
      ? this.#sharedPages(snapshot, encoding)
      : this.pages(snapshot.puts.filter(({ value }) => filter?.(value!) ?? true), encoding);
    return { first, revision: snapshot.revision };
  }

  #sharedPages(snapshot: Snapshot<T>, encoding: Encoding): WatchPages {
    let at = 0;
    return {
      next: () => {
        if (at >= snapshot.puts.length) return undefined;
        const key = `${encoding} ${snapshot.revision} ${at}`;
        const known = this.#pages.get(key) ?? this.#encodePage(snapshot.puts, at, encoding);
        this.#pages.set(key, known);
        this.#snapshotUsedMs = this.#parts.clock.monotonicMs();
        at = known.next;
        return known.bytes;
      },
    };
  }

  /** Changes page by page, for the reader of one stream. */
  pages(changes: readonly Change<T>[], encoding: Encoding, parts?: PartWriter): WatchPages {
    let at = 0;
    return {
      next: () => {
        if (at >= changes.length) return undefined;
        const { bytes, next } = this.#encodePage(changes, at, encoding, parts);
        at = next;
        return bytes;
      },
    };
  }

  #encodePage(
    changes: readonly Change<T>[],
    from: number,
    encoding: Encoding,
    parts?: PartWriter,
  ): { bytes: Uint8Array; next: number } {
    const frames: Uint8Array[] = [];
    let bytes = 0, next = from;
    while (next < changes.length && bytes < STREAM_CHUNK_BYTES) {
      const change = changes[next++];
      const known = this.#frames.get(change);
      const frame = this.#partedFrame(change, parts) ??
        (known?.encoding === encoding ? known.bytes : encodeChange(change, this.#parts.message, encoding));
      frames.push(frame);
      bytes += frame.length;
    }
    return { bytes: concatInChunk(frames), next };
  }

  /** What a stream sees of a change; undefined: nothing. */
  frameFor(change: Change<T>, stream: WatchStream<T>): Uint8Array | undefined {
    const { type, revision, name, value, previous, previousUnknown } = change;
    const { encoding, parts, interest: { filter } } = stream;
    if (filter === undefined || (type === "PUT" && filter(value!))) {
      return this.#partedFrame(change, parts) ?? this.#frame(change, encoding);
    }
    const wasSeen = previous === undefined ? previousUnknown === true : filter(previous);
    if (!wasSeen) return undefined;
    return type === "DELETED"
      ? this.#frame(change, encoding)
      : encodeChange({ type: "DELETED", revision, name }, this.#parts.message, encoding);
  }

  /** A PUT in parts for the reader of one stream; undefined where it is one piece, or the reader takes none. */
  #partedFrame(change: Change<T>, parts: PartWriter | undefined): Uint8Array | undefined {
    const parted = parts && change.type === "PUT" ? this.#parts.partsOf?.(change.value!) : undefined;
    return parted && parts!.encodePut(change, parted);
  }

  /** One change, encoded once for all who see it. */
  #frame(change: Change<T>, encoding: Encoding): Uint8Array {
    const known = this.#frames.get(change);
    if (known?.encoding === encoding) return known.bytes;
    const bytes = encodeChange(change, this.#parts.message, encoding);
    // People read JSON, nodes protobuf: the second of two encodings at once is not worth a place.
    this.#frames.set(change, { bytes, encoding });
    return bytes;
  }
}
