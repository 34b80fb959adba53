/**
 * The live stream, once for all pages: map, strip, sources. Differences are gathered and applied once per frame.
 * @module
 */
import { useSyncExternalStore } from "react";
import type { Group, LiveEvent, MapDifference, Sources, TimeBucket } from "../../api.ts";
import { applyDifferences, type MapState, mapStateOf } from "../model/map_state.ts";
import { apiUrl, followStream, type StreamState } from "./api_client.ts";

/** What is known now. */
export interface Live {
  /** undefined until the first snapshot of this grouping. */
  readonly map: MapState | undefined;
  readonly stepS: number;
  readonly buckets: readonly TimeBucket[];
  readonly sources: Sources | undefined;
  readonly stream: StreamState;
}

/** Buckets that the page keeps of the live strip. */
const BUCKETS_MAX = 720;

let live: Live = {
  map: undefined,
  stepS: 5,
  buckets: [],
  sources: undefined,
  stream: { kind: "connecting" },
};
const listeners = new Set<() => void>();
let ending: AbortController | undefined;
let followed = "";
let waiting: MapDifference[] = [];
let frame = 0;

function set(change: Partial<Live>): void {
  live = { ...live, ...change };
  for (const listener of listeners) listener();
}

function flush(): void {
  frame = 0;
  const differences = waiting;
  waiting = [];
  if (live.map && differences.length > 0) set({ map: applyDifferences(live.map, differences) });
}

/** Buckets by their time; newer ones stand for older ones of the same time. */
export function mergeBuckets(old: readonly TimeBucket[], more: readonly TimeBucket[]): readonly TimeBucket[] {
  if (more.length === 0) return old;
  const all = new Map(old.map((bucket) => [bucket.atUnixS, bucket]));
  for (const bucket of more) all.set(bucket.atUnixS, bucket);
  return [...all.values()].sort((a, b) => a.atUnixS - b.atUnixS).slice(-BUCKETS_MAX);
}

function take(event: LiveEvent): void {
  switch (event.type) {
    case "snapshot":
      waiting = [];
      set({ map: mapStateOf(event.map), stepS: event.strip.stepS, buckets: event.strip.buckets });
      break;
    case "difference":
      waiting.push(event.map);
      if (event.strip.buckets.length > 0) set({ buckets: mergeBuckets(live.buckets, event.strip.buckets) });
      // A page that is not seen has no frames.
      if (document.hidden || waiting.length > 50) flush();
      else frame ||= requestAnimationFrame(flush);
      break;
    case "sources":
      set({ sources: event.sources });
      break;
  }
}

/** Follows the stream of a grouping and a filter, until others are asked for. */
export function followLive(group: Group, filter: readonly (readonly [string, string])[]): void {
  const url = apiUrl("live", [["group", group], ...filter]);
  if (followed === url) return;
  followed = url;
  ending?.abort();
  ending = new AbortController();
  const { signal } = ending;
  waiting = [];
  set({ map: undefined, buckets: [], stream: { kind: "connecting" } });
  followStream<LiveEvent>(url, {
    signal,
    onLine: (event) => signal.aborted || take(event),
    onState: (stream) => signal.aborted || set({ stream }),
  });
}

/** The live state. */
export function useLive(): Live {
  return useSyncExternalStore(subscribe, () => live);
}

/** One part of it: a component that reads only that is drawn only when that changes. */
export function useLivePart<K extends keyof Live>(part: K): Live[K] {
  return useSyncExternalStore(subscribe, () => live[part]);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
