/**
 * The live maps: one per grouping that somebody looks at, made from one picture, and the streams that tell of them.
 *
 *     picture ── every second: changed pairs ──▶ map_view by grouping ──▶ readers, each from where it is
 *
 * A stream is pulled: who reads slowly gets one large difference instead of many small ones. All readers at the same place get the same
 * bytes, made once.
 * @module
 */
import type { Clock } from "@weir/common";
import { ProblemError } from "@weir/common";
import type { Completeness, Group, LiveEvent, MapSnapshot, Sources } from "../api.ts";
import type { FlowPicture } from "./flow_picture.ts";
import { type EncodedMap, MapView } from "./map_view.ts";

const TICK_MS = 1000, BEAT_MS = 5000, FORGET_MS = 10_000;
/** Groupings that are kept at once; one that nobody looked at for a while makes room. */
const GROUPS_MAX = 8;

/** What the maps are made of. */
export interface LiveMapParts {
  readonly picture: FlowPicture;
  readonly sources: () => Sources;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Of the flows that a filter takes. */
  readonly isFiltered?: boolean;
}

interface Kept {
  readonly view: MapView;
  readers: number;
  lookedAtMs: number;
  /** Lines of this tick, by where the reader was. */
  readonly lines: Map<string, Uint8Array>;
}

/** Where a reader is. */
interface Place {
  tick: number;
  strip: number;
  sources: string;
}

const encoder = new TextEncoder();

/** The maps. */
export class LiveMaps {
  readonly #startS: number;
  readonly #parts: LiveMapParts;
  readonly #views = new Map<Group, Kept>();
  #next = Promise.withResolvers<void>();
  /** Of the strip at the newest tick: readers hear of both at once. */
  #strip = 0;

  constructor(parts: LiveMapParts) {
    this.#parts = parts;
    this.#startS = parts.clock.nowMs() / 1000;
    this.#run();
  }

  /** Since when it counts, Unix seconds: it began with what the nodes had in memory. */
  get sinceS(): number {
    return Math.min(this.#startS, this.#parts.picture.oldestS);
  }

  /** Streams that are read. */
  get readers(): number {
    let readers = 0;
    for (const kept of this.#views.values()) readers += kept.readers;
    return readers;
  }

  /** How much of what happened is in it. */
  get completeness(): Completeness {
    return completenessOf(this.#parts.picture, this.#parts.isFiltered);
  }

  /** The map of a grouping as it is now. @throws {ProblemError} TOO_MANY_GROUPS */
  view(group: Group): MapView {
    return this.#kept(group).view;
  }

  /** All that a snapshot says beside its cards and edges. */
  #frame(view: MapView): Omit<MapSnapshot, "cards" | "edges"> {
    return {
      group: view.group,
      sinceUnixS: this.sinceS,
      untilUnixS: Math.floor(this.#nowS),
      foldedCards: view.foldedCards.size,
      foldedEdges: view.foldedEdges.size + this.#parts.picture.table.folded,
      completeness: this.completeness,
    };
  }

  /** A stream of {@link LiveEvent}, a line each, until the reader goes. */
  stream(group: Group): ReadableStream<Uint8Array> {
    const kept = this.#kept(group), { clock, signal } = this.#parts;
    const place: Place = { tick: -1, strip: 0, sources: "" };
    let heardMs = clock.monotonicMs(), isOpen = true;
    kept.readers++;
    const close = () => {
      if (isOpen) kept.readers--;
      isOpen = false;
    };
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        while (isOpen) {
          if (signal.aborted) {
            close();
            return controller.close();
          }
          const line = this.#news(kept, place);
          if (line !== undefined) {
            heardMs = clock.monotonicMs();
            return controller.enqueue(line);
          }
          if (clock.monotonicMs() - heardMs >= BEAT_MS) {
            heardMs = clock.monotonicMs();
            return controller.enqueue(lineOf({ type: "beat", nowUnixS: this.#nowS }));
          }
          await this.#next.promise;
        }
      },
      cancel: close,
    }, { highWaterMark: 0 });
  }

  /** The next line for a reader, and where it is then; undefined: it has all. */
  #news(kept: Kept, place: Place): Uint8Array | undefined {
    const { view } = kept, { picture } = this.#parts;
    const sources = JSON.stringify(this.#parts.sources());
    if (sources !== place.sources) {
      place.sources = sources;
      return encoder.encode(`{"type":"sources","sources":${sources}}\n`);
    }
    const from = `${place.tick} ${place.strip}`;
    if (place.tick === view.tick && place.strip === this.#strip) return undefined;
    let line = kept.lines.get(from);
    if (line === undefined) {
      const difference = place.tick < 0 ? undefined : view.since(place.tick);
      const strip = picture.strip.since(difference === undefined ? 0 : place.strip);
      line = mapLine(difference, {
        whole: () => view.snapshot(),
        frame: this.#frame(view),
        strip: JSON.stringify(strip),
      });
      kept.lines.set(from, line);
    }
    place.tick = view.tick;
    place.strip = this.#strip;
    return line;
  }

  get #nowS(): number {
    return this.#parts.clock.nowMs() / 1000;
  }

  #kept(group: Group): Kept {
    const nowMs = this.#parts.clock.monotonicMs();
    let kept = this.#views.get(group);
    if (kept === undefined) {
      if (this.#views.size >= GROUPS_MAX) this.#makeRoom();
      kept = { view: new MapView(group), readers: 0, lookedAtMs: nowMs, lines: new Map() };
      kept.view.begin(this.#parts.picture.table);
      kept.view.update(this.#nowS);
      this.#views.set(group, kept);
    }
    kept.lookedAtMs = nowMs;
    return kept;
  }

  #makeRoom(): void {
    const idle = [...this.#views].filter(([, { readers }]) => readers === 0)
      .sort(([, a], [, b]) => a.lookedAtMs - b.lookedAtMs)[0];
    if (idle === undefined) {
      throw new ProblemError("TOO_MANY_GROUPS", {
        status: 503,
        detail: `Cannot group so: ${GROUPS_MAX} groupings are looked at, the most there may be`,
        action: "Close another view",
      });
    }
    this.#views.delete(idle[0]);
  }

  async #run(): Promise<void> {
    const { picture, clock, signal } = this.#parts;
    let forgotMs = clock.monotonicMs();
    while (!signal.aborted) {
      await clock.sleep(TICK_MS, signal);
      const { changed, gone } = picture.table;
      if (clock.monotonicMs() - forgotMs >= FORGET_MS) {
        forgotMs = clock.monotonicMs();
        picture.forget(this.#nowS);
      }
      for (const { view, lines } of this.#views.values()) {
        for (const pair of changed) view.change(pair);
        for (const pair of gone) view.remove(pair);
        view.update(this.#nowS);
        lines.clear();
      }
      changed.clear();
      gone.clear();
      this.#strip = picture.strip.version;
      const { resolve } = this.#next;
      this.#next = Promise.withResolvers();
      resolve();
    }
  }
}

/** One event as a line. */
export function lineOf(event: LiveEvent): Uint8Array {
  return encoder.encode(`${JSON.stringify(event)}\n`);
}

/** The line of a difference, or where there is none of a snapshot; cards and edges are put in as they are. */
function mapLine(
  difference: EncodedMap | undefined,
  { whole, frame, strip }: { whole: () => EncodedMap; frame: object; strip: string },
): Uint8Array {
  const map = difference ?? whole();
  const lists = `"cards":[${map.cards.join(",")}],"edges":[${map.edges.join(",")}]` +
    (difference === undefined
      ? ""
      : `,"goneCards":${JSON.stringify(map.goneCards)},"goneEdges":${JSON.stringify(map.goneEdges)}`);
  const rest = JSON.stringify(frame).slice(1);
  const type = difference === undefined ? "snapshot" : "difference";
  return encoder.encode(`{"type":"${type}","map":{${lists},${rest},"strip":${strip}}\n`);
}

/** How much of what happened a live picture holds. */
function completenessOf({ table, lost }: FlowPicture, isFiltered = false): Completeness {
  const seen = table.seen + lost, whole = completeness({ seen, shown: table.seen, lost, sampled: 1 });
  if (!isFiltered) return whole;
  const count = `${table.seen.toLocaleString("en-US")} flow${table.seen === 1 ? " matches" : "s match"}`;
  return { ...whole, text: lost > 0 ? `${count}, ${lost.toLocaleString("en-US")} lost` : count };
}

/** With its text: "12,480 flows, 100 %". */
export function completeness(parts: Omit<Completeness, "text">): Completeness {
  const { seen, shown, sampled } = parts;
  const share = seen === 0 ? 1 : shown / seen * sampled;
  const percent = share >= 1 ? "100" : share > 0.999 ? "99.9" : (100 * share).toPrecision(2);
  const text = `${shown.toLocaleString("en-US")} flows, ${percent} %${sampled < 1 ? " (sampled)" : ""}`;
  return { ...parts, text };
}
