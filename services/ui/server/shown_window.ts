/** What is shown: a window of the past, however it was made, or now. @module */
import type { Completeness, DropCause, Group } from "../api.ts";
import type { Window } from "./history_reader.ts";
import type { MapView } from "./map_view.ts";
import type { PolicyHits } from "./policy_hits.ts";

/** One window, added up. Unix seconds; of now since it is counted. */
export interface ShownWindow extends Window {
  readonly isPast: boolean;
  readonly completeness: Completeness;
  readonly causes: readonly DropCause[];
  /** Drops whose causes, and pairs of ends, that there was no room for. */
  readonly foldedDrops: number;
  readonly foldedPairs: number;
  /** The map of a grouping. @throws {ProblemError} the history does not answer */
  view(group: Group): Promise<MapView>;
  /** Hits by rule and line. @throws {ProblemError} */
  hits(): Promise<HitsOf>;
}

/** Hits, and of what they are. */
export interface HitsOf {
  readonly hits: PolicyHits;
  /** For people: "the newest 20,000 of 1,234,567 flows, 100 %"; "" of all flows that there were. */
  readonly text: string;
}
