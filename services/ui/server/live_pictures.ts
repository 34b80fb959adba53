/**
 * Live pictures: one of all flows, and one for each filter that somebody looks through. The nodes filter, as they do for the table;
 * all readers with the same filter share its picture. Bounded: {@link FILTERS_MAX}; one that nobody looks at goes after a minute.
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import { readFlowsQuery } from "@weir/flow-filter";
import type { Sources } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { FlowPicture } from "./flow_picture.ts";
import type { FlowSource } from "./flow_source.ts";
import type { FilterParameters } from "./history_reader.ts";
import { LiveMaps } from "./live_map.ts";
import type { ShownWindow } from "./shown_window.ts";

/** Filters that are looked through at once. */
export const FILTERS_MAX = 8;
/** Of one filter: a quarter of what all flows may take. */
const LIMITS = { endsMax: 4096, pairsMax: 16_384, connectionsMax: 16_384 };
const IDLE_MS = 60_000, SWEEP_MS = 10_000;
/** A new picture is waited for at most so long: what the nodes have in memory comes at once, until nothing came for a moment. */
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
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

interface Kept extends LivePicture {
  readonly stop: AbortController;
  readonly first: Promise<void>;
  lookedAtMs: number;
}

/** The pictures. */
export class LivePictures {
  /** Of all flows. */
  readonly whole: LivePicture;
  readonly #parts: LivePictureParts;
  readonly #kept = new Map<string, Kept>();

  constructor(parts: LivePictureParts) {
    const { source, names, clock, signal } = this.#parts = parts;
    const picture = new FlowPicture({ names });
    const sources = () => source.sources(picture.lost);
    this.whole = { picture, maps: new LiveMaps({ picture, sources, clock, signal }) };
    this.#sweep();
  }

  /** Filters that are looked through. */
  get size(): number {
    return this.#kept.size;
  }

  /** The picture of a filter, made where it is not there yet. @throws {ProblemError} QUERY_INVALID, TOO_MANY_FILTERS */
  async of(filter: FilterParameters): Promise<LivePicture> {
    if (Object.keys(filter).length === 0) return this.whole;
    const key = JSON.stringify(filter), kept = this.#kept.get(key) ?? this.#make(key, filter);
    kept.lookedAtMs = this.#parts.clock.monotonicMs();
    await kept.first;
    return kept;
  }

  #make(key: string, filter: FilterParameters): Kept {
    const { source, names, clock, signal } = this.#parts, query = new URLSearchParams();
    for (const [name, values] of Object.entries(filter)) {
      for (const value of values) query.append(name, value);
    }
    const { whitelist, blacklist } = readFlowsQuery(query, clock.nowMs());
    this.#makeRoom();
    const stop = new AbortController(), own = AbortSignal.any([stop.signal, signal]);
    const picture = new FlowPicture({ names, limits: LIMITS }), first = Promise.withResolvers<void>();
    let error = "", batches = 0;
    const sources = (): Sources => {
      const all = source.sources(picture.lost);
      return { ...all, error: all.error || error };
    };
    source.follow(picture, {
      request: { whitelist, blacklist },
      signal: own,
      onState(text) {
        error = text;
        const batch = ++batches;
        if (text !== "") first.resolve();
        else if (picture.table.seen > 0) {
          clock.sleep(QUIET_MS, own).then(() => batch === batches && first.resolve());
        }
      },
    });
    clock.sleep(FIRST_MS, own).then(first.resolve);
    const maps = new LiveMaps({ picture, sources, clock, signal: own, isFiltered: true });
    const kept: Kept = { picture, maps, stop, first: first.promise, lookedAtMs: clock.monotonicMs() };
    this.#kept.set(key, kept);
    return kept;
  }

  /** The one that nobody reads and that was looked at longest ago goes. */
  #makeRoom(): void {
    if (this.#kept.size < FILTERS_MAX) return;
    const idle = [...this.#kept].filter(([, { maps }]) => maps.readers === 0)
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

  async #sweep(): Promise<void> {
    const { clock, signal } = this.#parts;
    while (!signal.aborted) {
      await clock.sleep(SWEEP_MS, signal);
      for (const [key, kept] of this.#kept) {
        const isIdle = clock.monotonicMs() - kept.lookedAtMs >= IDLE_MS;
        if (kept.maps.readers > 0) kept.lookedAtMs = clock.monotonicMs();
        else if (isIdle) this.#end(key, kept);
      }
    }
  }
}
