/** What a window of the past answers, however it was made. @module */
import type { Completeness, DropCause, Group } from "../api.ts";
import type { Window } from "./history_reader.ts";
import type { MapView } from "./map_view.ts";
import type { PolicyHits } from "./policy_hits.ts";

/** One window, added up. */
export interface PastWindow extends Window {
  readonly completeness: Completeness;
  readonly causes: readonly DropCause[];
  /** Drops whose causes, and pairs of ends, that there was no room for. */
  readonly foldedDrops: number;
  readonly foldedPairs: number;
  /** The map of a grouping. @throws {ProblemError} the history does not answer */
  view(group: Group): Promise<MapView>;
  /** Hits by rule and line, of the newest flows that are stored. @throws {ProblemError} */
  hits(): Promise<PolicyHits>;
}
