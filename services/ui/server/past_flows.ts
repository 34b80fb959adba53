/** A window made of the flows that are stored one by one: for filters that sums cannot answer, and for hits of single rules. @module */
import type { Group } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { FlowPicture } from "./flow_picture.ts";
import type { FilterParameters, HistoryReader, Window } from "./history_reader.ts";
import { MapView } from "./map_view.ts";
import type { ShownWindow } from "./shown_window.ts";

/** Flows that a window is made of; of more the newest, and the answer says so. */
export const WINDOW_FLOWS_MAX = 20_000;

/** What it is made from. */
export interface PastFlowsParts {
  readonly reader: HistoryReader;
  readonly names: EndNames;
  readonly filter?: FilterParameters;
  /** Why it is not made of sums: said beside its completeness. */
  readonly why?: string;
}

/** The window. @throws {ProblemError} */
export async function windowOfFlows(
  { sinceS, untilS }: Window,
  { reader, names, filter, why }: PastFlowsParts,
): Promise<ShownWindow> {
  const stepS = Math.max(1, Math.ceil((untilS - sinceS) / 360));
  const picture = new FlowPicture({ names, stepS, bucketsMax: 400 });
  const { flows, completeness } = await reader.flows({ sinceS, untilS }, WINDOW_FLOWS_MAX, filter);
  for (const flow of flows) picture.add(flow, untilS);
  const views = new Map<Group, MapView>();
  return {
    sinceS,
    untilS,
    isPast: true,
    completeness: why === undefined
      ? completeness
      : { ...completeness, text: `${completeness.text}; made of single flows: ${why}` },
    causes: picture.causes.list(untilS),
    foldedDrops: picture.causes.folded,
    foldedPairs: picture.table.folded,
    hits: () => Promise.resolve({ hits: picture.hits, text: completeness.text }),
    view(group) {
      let view = views.get(group);
      if (view === undefined) {
        views.set(group, view = MapView.ofWindow(group, picture.table, { sinceS, untilS }));
      }
      return Promise.resolve(view);
    },
  };
}
