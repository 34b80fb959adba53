/**
 * Live pictures: one of all flows, and one for each filter that somebody looks through. The nodes filter, as they do for the table;
 * all readers with the same filter share its picture. Bounded: {@link FILTERS_MAX}.
 *
 *     first question ──▶ all flows are followed ── nothing asked, no stream read for 5 minutes ──▶ nothing is followed, nothing kept
 *     filter         ──▶ its flows too          ── nobody looks through it for a minute ────────▶ its picture goes
 *
 * A picture begins with what the nodes have in memory, and says since when it counts.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import { readFlowsQuery } from "@weir/flow-filter";
import type { Init } from "@weir/proto";
import type { GetFlowsRequest } from "@weir/proto/observer";
import type { Sources } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { FlowPicture } from "./flow_picture.ts";
import type { FlowSource } from "./flow_source.ts";
import type { FilterParameters } from "./history_reader.ts";
import { LiveMaps } from "./live_map.ts";
import type { ShownWindow } from "./shown_window.ts";
import { tellingEnd } from "./stream_end.ts";

/** Filters that are looked through at once. */
export const FILTERS_MAX = 8;
/** Of one filter: a quarter of what all flows may take. */
const LIMITS = { endsMax: 4096, pairsMax: 16_384, connectionsMax: 16_384 };
const IDLE_MS = 300_000, FILTER_IDLE_MS = 60_000, SWEEP_MS = 10_000;
/**
 * A new picture is waited for at most so long: what the nodes have in memory comes at once, until nothing came for a moment, or what
 * comes is newer than the question.
 */
const FIRST_MS = 1500, QUIET_MS = 200;

/** A picture, and the maps of it. */
export interface LivePicture {
  readonly picture: FlowPicture;
  readonly maps: LiveMaps;
}

/** What is shown of a picture at a moment, Unix seconds. */
export function shownNow({ picture, maps }: LivePicture, nowS: number): ShownWindow {
  return {
    sinceS: maps.sinceS,
    untilS: nowS,
    isPast: false,
    completeness: maps.completeness,
    causes: picture.causes.list(nowS),
    foldedDrops: picture.causes.folded,
    foldedPairs: picture.table.folded,
    view: (group) => Promise.resolve(maps.view(group)),
    hits: () => Promise.resolve({ hits: picture.hits, text: "" }),
  };
}

/** What they are made of. */
export interface LivePictureParts {
  readonly source: FlowSource;
  readonly names: EndNames;
  /** Flows wait for it: the names of nodes are known. Default: at once. Never rejects. */
  readonly named?: Promise<unknown>;
  /** Flows are followed so long after the last question, and the last stream that was read; default 5 minutes. */
  readonly idleMs?: number;
  /** Nobody looks any more, and nothing is followed. */
  readonly onRest?: () => void;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

interface Kept extends LivePicture {
  readonly stop: AbortController;
  readonly first: Promise<void>;
  /** Questions that wait for it to begin. */
  waiting: number;
  lookedAtMs: number;
}

/** Key of the picture of all flows. */
const WHOLE = "{}";

/** The pictures. */
export class LivePictures {
  readonly #parts: LivePictureParts;
  readonly #kept = new Map<string, Kept>();
  readonly #follows = new Set<Promise<void>>();
  /** Streams that are read beside those of the maps. */
  #streams = 0;
  #isSwept = false;

  constructor(parts: LivePictureParts) {
    this.#parts = parts;
  }

  /** Filters that are looked through. */
  get size(): number {
    return this.#kept.size - (this.#kept.has(WHOLE) ? 1 : 0);
  }

  /** Whether flows are followed: somebody looks, or did so a moment ago. */
  get isFollowing(): boolean {
    return this.#kept.size > 0;
  }

  /** Where flows come from. */
  sources(): Sources {
    return this.#parts.source.sources(this.#kept.get(WHOLE)?.picture.lost ?? 0);
  }

  /** Somebody asks for something: all flows are followed from now on. */
  look(): void {
    const kept = this.#kept.get(WHOLE) ?? this.#make(WHOLE, {});
    kept.lookedAtMs = this.#parts.clock.monotonicMs();
  }

  /** The picture of all flows, as soon as it has what the nodes have in memory, or they are late. */
  whole(): Promise<LivePicture> {
    return this.of({});
  }

  /** The picture of a filter, made where it is not there yet. @throws {ProblemError} QUERY_INVALID, TOO_MANY_FILTERS */
  async of(filter: FilterParameters): Promise<LivePicture> {
    this.look();
    const key = JSON.stringify(filter), kept = this.#kept.get(key) ?? this.#make(key, filter);
    kept.lookedAtMs = this.#parts.clock.monotonicMs();
    kept.waiting++;
    await kept.first;
    kept.waiting--;
    return kept;
  }

  /** The same stream; as long as it is read, somebody looks. */
  during(stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    this.#streams++;
    return tellingEnd(stream, () => this.#streams--);
  }

  /** After the signal: nothing is followed any more. */
  async ended(): Promise<void> {
    await Promise.all(this.#follows);
  }

  #make(key: string, filter: FilterParameters): Kept {
    const { source, names, named, clock, signal } = this.#parts, isFiltered = key !== WHOLE;
    const request = isFiltered ? requestOf(filter, clock.nowMs()) : undefined;
    if (isFiltered) this.#makeRoom();
    const stop = new AbortController(), own = AbortSignal.any([stop.signal, signal]);
    const picture = new FlowPicture({ names, limits: isFiltered ? LIMITS : {} });
    const first = Promise.withResolvers<void>(), beganS = clock.nowMs() / 1000;
    let error = "", batches = 0;
    const sources = (): Sources => {
      const all = source.sources(picture.lost);
      return { ...all, error: all.error || error };
    };
    const onState = (text: string) => {
      error = text;
      const batch = ++batches;
      if (text !== "") first.resolve();
      else if (picture.table.seen > 0) {
        const isNew = picture.newestS >= beganS;
        clock.sleep(QUIET_MS, own).then(() => (isNew || batch === batches) && first.resolve());
      }
    };
    const follow = Promise.resolve(named).then(() => {
      clock.sleep(FIRST_MS, own).then(first.resolve);
      return source.follow(picture, { request, signal: own, onState });
    });
    this.#follows.add(follow);
    follow.then(() => this.#follows.delete(follow));
    const maps = new LiveMaps({ picture, sources, clock, signal: own, isFiltered });
    const lookedAtMs = clock.monotonicMs();
    const kept: Kept = { picture, maps, stop, first: first.promise, waiting: 0, lookedAtMs };
    this.#kept.set(key, kept);
    this.#sweep();
    return kept;
  }

  /** The one that nobody reads and that was looked at longest ago goes. */
  #makeRoom(): void {
    if (this.size < FILTERS_MAX) return;
    const idle = [...this.#kept].filter(([key]) => key !== WHOLE && !this.#isRead(key))
      .sort(([, a], [, b]) => a.lookedAtMs - b.lookedAtMs)[0];
    if (idle === undefined) {
      throw new ProblemError("TOO_MANY_FILTERS", {
        status: 503,
        detail: `Cannot filter so: ${FILTERS_MAX} other filters are looked through, the most there may be`,
        action: "Close another view, or use one of the same filters; the table of flows takes any",
      });
    }
    this.#end(...idle);
  }

  #end(key: string, { stop }: Kept): void {
    this.#kept.delete(key);
    stop.abort();
  }

  /** Whoever looks through a filter looks at what is told of all flows too. */
  #isRead(key: string): boolean {
    const isUsed = ({ maps, waiting }: Kept) => maps.readers > 0 || waiting > 0;
    if (key !== WHOLE) return isUsed(this.#kept.get(key)!);
    return this.#streams > 0 || [...this.#kept.values()].some(isUsed);
  }

  /** As long as anything is kept. */
  async #sweep(): Promise<void> {
    if (this.#isSwept) return;
    const { idleMs = IDLE_MS, clock, signal, onRest } = this.#parts;
    this.#isSwept = true;
    while (this.#kept.size > 0 && !signal.aborted) {
      await clock.sleep(Math.min(SWEEP_MS, idleMs), signal);
      for (const [key, kept] of this.#kept) {
        const silentMs = clock.monotonicMs() - kept.lookedAtMs;
        if (this.#isRead(key)) kept.lookedAtMs = clock.monotonicMs();
        else if (silentMs >= (key === WHOLE ? idleMs : Math.min(FILTER_IDLE_MS, idleMs))) {
          this.#end(key, kept);
        }
      }
    }
    // Calls are given up first: then the other side hears of it at once.
    await this.ended();
    this.#isSwept = false;
    if (signal.aborted) return;
    if (this.#kept.size > 0) this.#sweep();
    else onRest?.();
  }
}

/** @throws {ProblemError} QUERY_INVALID */
function requestOf(filter: FilterParameters, nowMs: number): Init<GetFlowsRequest> {
  const query = new URLSearchParams();
  for (const [name, values] of Object.entries(filter)) {
    for (const value of values) query.append(name, value);
  }
  const { whitelist, blacklist } = readFlowsQuery(query, nowMs);
  return { whitelist, blacklist };
}
