/**
 * All watchers of one table. A change is encoded once and its bytes are given to everyone whom it concerns; nobody else is
 * woken. Watchers that are in step cost a place in an index, those that are behind a position.
 *
 *     change ──▶ keys before and after ──▶ watchers of these keys ─┐
 *           └──▶ watchers of everything ───────────────────────────┴─▶ one turn later, or when many were just woken up to
 *                                                                     a second later: bytes to each that is pulled
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { ByteCache } from "./byte_cache.ts";
import type { Change, KeysOf } from "./change_history.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Encoding } from "./framing.ts";
import { concatInChunk } from "./http_chunk.ts";
import { type PartsOf, PartWriter } from "./shared_parts.ts";
import { STREAM_CHUNK_BYTES, WatchEncoder } from "./watch_encoder.ts";
import { encodeSynced } from "./watch_event.ts";
import { streamOf } from "./pulled_body.ts";
import { WatchBody } from "./watch_body.ts";
import type { TableObserver, Watchable } from "./watchable.ts";
import {
  NAME_INDEX,
  revisionGone,
  streamStalled,
  type WatchInterest,
  type WatchPages,
  WatchStream,
} from "./watch_stream.ts";

/** A silent stream hears SYNCED with its position after this time, so that both ends notice a dead peer. */
export const WATCH_HEARTBEAT_MS = 10_000;
/** A stream whose reader took nothing for so long is cut. */
export const STREAM_STALLED_MS = 30_000;
/** Encoded chunks that one table keeps for its watchers, in bytes. */
const CACHE_BYTES_MAX = 8 * 1024 * 1024;
const EVENTS_AT_ONCE = 1024;
/**
 * Rest after a flush: three times what it took, so that a quarter of the process's time goes to flushes whatever changes;
 * at least so much per stream that it woke (a write costs 6 us on a unix socket, more over TLS), and at most a second. So
 * 10,000 watchers get up to two to three writes a second each. A write costs the same whatever is in it. A change after a
 * rest goes out at once.
 */
const FLUSH_REST_PER_FLUSH = 3;
const FLUSH_REST_MS_PER_STREAM = 0.03;
const FLUSH_REST_MS_MAX = 1000;
const TICK_MS = 2000;

/** Keys of an object in an index. */
export type IndexKeys<T> = (value: T) => string | readonly string[];

/** Options of {@link WatchHub}. */
export interface WatchHubOptions<T> {
  table: Watchable<T>;
  message: Message<T>;
  /** Keys that watchers may name, beside the object's name. */
  indexes?: Record<string, IndexKeys<T>>;
  /** What objects have in common, for streams that take parts. */
  partsOf?: PartsOf<T>;
  clock?: Clock;
}

/** What {@link WatchHub.watch} takes. */
export interface WatchOptions<T> {
  interest?: WatchInterest<T>;
  position?: { revision: number; epoch?: string };
  encoding: Encoding;
  onEnd?: (error: unknown) => void;
}

/** What {@link WatchHub.watchNames} takes. */
export interface NamesOptions {
  names: readonly string[];
  newNames: readonly string[];
  position?: { revision: number; epoch?: string };
  encoding: Encoding;
  /** The reader takes parts. */
  parts?: boolean;
  onEnd?: (error: unknown) => void;
}

/** All watchers of one table. */
export class WatchHub<T> implements TableObserver<T> {
  readonly table: Watchable<T>;
  readonly #clock: Clock;
  readonly #partsOf: PartsOf<T> | undefined;
  readonly #keysOf: Record<string, KeysOf<T>> = { [NAME_INDEX]: (change) => [change.name] };
  #all = new Set<WatchStream<T>>();
  #byKey = new Map<string, Map<string, Set<WatchStream<T>>>>();
  #behindCount = 0;
  /** Every stream. */
  #streams = new Set<WatchStream<T>>();
  /** Streams that the next flush looks at, each once. */
  #woken: WatchStream<T>[] = [];
  #allSince: number | undefined;
  #flushing = false;
  #restUntilMs = -Infinity;
  /** The newest position of the streams in step. */
  #at: { revision: number; epoch: string };
  readonly #encoder: WatchEncoder<T>;
  readonly #chunks = new ByteCache<string, { bytes: Uint8Array; to: number | undefined }>(CACHE_BYTES_MAX);
  /** What the newest stream without a filter was given: a flush gives most of them the same. */
  #lastChunk:
    | { from: number; at: number; encoding: Encoding; bytes: Uint8Array; to: number | undefined }
    | undefined;
  #synced: { revision: number; epoch: string; bytes: Partial<Record<Encoding, Uint8Array>> } | undefined;
  #ticking: AbortController | undefined;

  constructor(options: WatchHubOptions<T>) {
    this.table = options.table;
    this.#clock = options.clock ?? systemClock;
    this.#partsOf = options.partsOf;
    this.#encoder = new WatchEncoder({ ...options, clock: this.#clock });
    for (const [name, keys] of Object.entries(options.indexes ?? {})) {
      this.#keysOf[name] = ({ value, previous }) => [
        ...(value === undefined ? [] : [keys(value)].flat()),
        ...(previous === undefined ? [] : [keys(previous)].flat()),
      ];
    }
    this.#at = { revision: this.table.revision, epoch: this.table.epoch };
    this.table.observe(this);
  }

  /** Streams that are open. */
  get size(): number {
    return this.#streams.size;
  }
  get behind(): boolean {
    return this.#behindCount > 0 || this.#allSince !== undefined;
  }

  /** {@link watch} as a body. */
  open(options: WatchOptions<T>): ReadableStream<Uint8Array> {
    return streamOf(new WatchBody([{ stream: this.watch(options) }]));
  }

  /** {@link watchNames} as a body. */
  openNames(options: NamesOptions): ReadableStream<Uint8Array> {
    return streamOf(new WatchBody([{ stream: this.watchNames(options) }]));
  }

  /**
   * A stream of everything that concerns `interest`, or of what changed after `position`.
   * @throws {ProblemError} REVISION_GONE
   */
  watch(options: WatchOptions<T>): WatchStream<T> {
    const { interest = {}, position, encoding } = options;
    if (position !== undefined) {
      this.#assertHeld(position);
      // Whether the watcher saw an object that a log tells of cannot be said where the object before is not known.
      const isFiltered = interest.keys !== undefined || interest.filter !== undefined;
      if (
        isFiltered && this.table.changesSince(position.revision, Infinity)!.some((c) => c.previousUnknown)
      ) {
        throw revisionGone(this.table, position);
      }
    }
    const beginning = position === undefined ? this.#encoder.everything(interest, encoding) : position;
    return this.#stream(interest, beginning, options);
  }

  /**
   * A stream of the objects of these names: `newNames` whole first, and what changed of `names` after `position` (all of
   * them whole without one).
   * @throws {ProblemError} REVISION_GONE
   */
  watchNames(options: NamesOptions): WatchStream<T> {
    const { names, newNames, position, encoding } = options;
    if (position !== undefined) this.#assertHeld(position);
    const fresh = new Set(position === undefined ? [...names, ...newNames] : newNames);
    const old = names.filter((name) => !fresh.has(name));
    const interest = { keys: { index: NAME_INDEX, keys: [...old, ...fresh] } };
    this.#index(NAME_INDEX);
    const resumed = position === undefined
      ? []
      : this.table.changesByKeys(position.revision, NAME_INDEX, old, Infinity)!;
    const puts = [...fresh].map((name) => this.table.putOf(name)).filter((put) => put !== undefined);
    const isParted = options.parts && encoding === "protobuf" && this.#partsOf !== undefined;
    const parts = isParted ? new PartWriter() : undefined;
    const first = this.#encoder.pages([...puts, ...resumed], encoding, parts);
    return this.#stream(interest, { first, revision: this.table.revision }, { ...options, parts });
  }

  // -- of the table

  changed(change: Change<T>): void {
    if (this.#at.revision < change.revision) this.#at = { ...this.#at, revision: change.revision };
    if (this.#streams.size === 0) return;
    if (this.#all.size > 0) this.#allSince ??= change.revision - 1;
    for (const [index, byKey] of this.#byKey) {
      for (const key of this.#keysOf[index](change)) {
        for (const stream of byKey.get(key) ?? []) this.#wake(stream, change.revision - 1);
      }
    }
    this.#flushSoon();
  }

  manyChanged(since: number): void {
    this.#at = { ...this.#at, revision: this.table.revision };
    if (this.#all.size > 0) this.#allSince ??= since;
    for (const stream of this.#streams) {
      if (stream.interest.keys !== undefined) this.#wake(stream, since);
    }
    this.#flushSoon();
  }

  reset(): void {
    this.#wakeAll();
    const { revision, epoch } = this.#at;
    this.#at = { revision: this.table.revision, epoch: this.table.epoch };
    this.#synced = this.#lastChunk = undefined;
    this.#chunks.clear();
    this.#encoder.clear();
    for (const stream of [...this.#streams]) {
      const position = { revision: stream.position ?? revision, epoch };
      stream.inStepAt = 0;
      if (this.table.holds(position)) this.#wake(stream, position.revision);
      else stream.body?.failPart(stream, revisionGone(this.table, position));
    }
    this.#flushSoon();
  }

  announced(): void {
    this.#at = { ...this.#at, epoch: this.table.epoch };
    for (const stream of this.#streams) {
      stream.syncDue = true;
      this.#flushNext(stream);
    }
    this.#flushSoon();
  }

  // -- of the streams

  /** The next changes for a stream: bytes (none when no change concerns it) and its position then, undefined in step. */
  chunkAfter(stream: WatchStream<T>, position: number): { bytes?: Uint8Array; to: number | undefined } {
    const { interest, encoding } = stream;
    const isShared = interest.keys === undefined && interest.filter === undefined;
    const last = this.#lastChunk, { revision } = this.#at;
    if (isShared && last?.from === position && last.encoding === encoding && last.at === revision) {
      return last;
    }
    const key = `${encoding} ${position}`;
    const known = isShared ? this.#chunks.get(key) : undefined;
    if (known !== undefined) {
      return { bytes: known.bytes, to: known.to === revision ? undefined : known.to };
    }
    const changes = interest.keys === undefined
      ? this.table.changesSince(position, EVENTS_AT_ONCE)
      : this.table.changesByKeys(position, interest.keys.index, interest.keys.keys, EVENTS_AT_ONCE);
    if (changes === undefined) throw revisionGone(this.table, { revision: position });
    const frames: Uint8Array[] = [];
    let bytes = 0, taken = 0;
    while (taken < changes.length && bytes < STREAM_CHUNK_BYTES) {
      const frame = this.#encoder.frameFor(changes[taken++], stream);
      if (frame === undefined) continue;
      frames.push(frame);
      bytes += frame.length;
    }
    const isLast = taken === changes.length && changes.length < EVENTS_AT_ONCE;
    const to = isLast ? undefined : changes[taken - 1].revision;
    if (frames.length === 0) return { to };
    const chunk = frames.length === 1 ? frames[0] : concatInChunk(frames);
    if (isShared) this.#lastChunk = { from: position, at: revision, encoding, bytes: chunk, to };
    if (isShared && frames.length > 1) {
      this.#chunks.set(key, { bytes: chunk, to: to ?? changes[taken - 1].revision });
    }
    return { bytes: chunk, to };
  }

  /** SYNCED at the table's revision, the same bytes for all. */
  synced(encoding: Encoding): Uint8Array {
    const { revision, epoch } = this.table;
    if (this.#synced?.revision !== revision || this.#synced.epoch !== epoch) {
      this.#synced = { revision, epoch, bytes: {} };
    }
    return this.#synced.bytes[encoding] ??= encodeSynced(revision, epoch, encoding);
  }

  /** Where a stream that is not woken yet goes on; undefined when nothing waits for it. */
  pendingFor(stream: WatchStream<T>): number | undefined {
    if (this.#allSince === undefined || !this.#all.has(stream)) return undefined;
    if (stream.inStepAt >= this.#at.revision) return undefined;
    this.#wake(stream, this.#allSince);
    return stream.position;
  }

  inStep(stream: WatchStream<T>): void {
    stream.inStepAt = this.#at.revision;
    if (!stream.isBehind) return;
    stream.isBehind = false;
    if (--this.#behindCount === 0) this.table.trim();
  }

  sent(stream: WatchStream<T>): void {
    stream.sentMs = this.#clock.monotonicMs();
  }

  left(stream: WatchStream<T>): void {
    this.#streams.delete(stream);
    this.#all.delete(stream);
    const { keys } = stream.interest;
    for (const key of keys?.keys ?? []) {
      const byKey = this.#byKey.get(keys!.index)!, streams = byKey.get(key);
      if (streams?.delete(stream) && streams.size === 0) byKey.delete(key);
    }
    this.inStep(stream);
    if (this.#streams.size > 0) return;
    this.#ticking?.abort();
    this.#ticking = undefined;
    this.#encoder.forgetBeginning();
  }

  #stream(
    interest: WatchInterest<T>,
    beginning: { first?: WatchPages; revision: number },
    options: { encoding: Encoding; parts?: PartWriter; onEnd?: (error: unknown) => void },
  ): WatchStream<T> {
    const stream = new WatchStream(this, {
      interest,
      encoding: options.encoding,
      parts: options.parts,
      beginning,
      nowMs: this.#clock.monotonicMs(),
      onEnd: options.onEnd ?? (() => {}),
    });
    this.#streams.add(stream);
    this.#behindCount++;
    if (interest.keys === undefined) this.#all.add(stream);
    else {
      const { index, keys } = interest.keys;
      const byKey = this.#index(index);
      for (const key of keys) (byKey.get(key) ?? byKey.set(key, new Set()).get(key)!).add(stream);
    }
    if (this.#ticking === undefined) this.#tick(this.#ticking = new AbortController());
    return stream;
  }

  #index(name: string): Map<string, Set<WatchStream<T>>> {
    this.table.index(name, this.#keysOf[name]);
    return this.#byKey.get(name) ?? this.#byKey.set(name, new Map()).get(name)!;
  }

  #assertHeld(position: { revision: number; epoch?: string }): void {
    if (!this.table.holds(position)) throw revisionGone(this.table, position);
  }

  #wake(stream: WatchStream<T>, since: number): void {
    if (stream.position === undefined) {
      stream.position = Math.max(since, stream.inStepAt);
      if (!stream.isBehind) this.#behindCount++;
      stream.isBehind = true;
    }
    this.#flushNext(stream);
  }

  #flushNext(stream: WatchStream<T>): void {
    if (stream.isWoken) return;
    stream.isWoken = true;
    this.#woken.push(stream);
  }

  #wakeAll(): void {
    const since = this.#allSince;
    this.#allSince = undefined;
    if (since === undefined) return;
    for (const stream of this.#all) {
      if (stream.inStepAt < this.#at.revision) this.#wake(stream, since);
    }
  }

  /** Changes of one turn are sent together, and those that come while a flush of many streams rests. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    const restMs = this.#restUntilMs - this.#clock.monotonicMs();
    if (restMs < 1) queueMicrotask(() => this.#flush());
    else this.#clock.sleep(restMs).then(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = false;
    this.#wakeAll();
    const woken = this.#woken;
    this.#woken = [];
    const startMs = this.#clock.monotonicMs();
    for (const stream of woken) {
      stream.isWoken = false;
      stream.body?.step();
    }
    const nowMs = this.#clock.monotonicMs();
    const restMs = Math.max(
      woken.length * FLUSH_REST_MS_PER_STREAM,
      (nowMs - startMs) * FLUSH_REST_PER_FLUSH,
    );
    this.#restUntilMs = nowMs + Math.min(restMs, FLUSH_REST_MS_MAX);
  }

  /** Heartbeats for the silent, and an end for those who do not read. */
  async #tick(stop: AbortController): Promise<void> {
    while (true) {
      await this.#clock.sleep(TICK_MS, stop.signal);
      if (stop.signal.aborted) return;
      const nowMs = this.#clock.monotonicMs();
      for (const stream of [...this.#streams]) {
        const silentMs = nowMs - stream.sentMs;
        if (silentMs < WATCH_HEARTBEAT_MS) continue;
        if (silentMs >= STREAM_STALLED_MS && stream.body?.isAwaited === false) {
          stream.body.fail(streamStalled(this.table.name, STREAM_STALLED_MS));
          continue;
        }
        stream.body?.beat();
      }
      this.#encoder.forgetUnused(WATCH_HEARTBEAT_MS);
    }
  }
}
