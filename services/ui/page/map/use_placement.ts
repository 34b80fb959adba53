/**
 * Keeps the placement of a map: made whole when the reader asks for another map, else only added to.
 * @module
 */
import { useEffect, useRef, useState } from "react";
import { layoutGraph } from "../data/elk_layout.ts";
import { type Placement, placeNewcomers } from "../model/placement.ts";
import type { VisibleGraph } from "../model/visible_graph.ts";

/** A placement, and what is to be told of it. */
export interface Placed {
  readonly placement: Placement | undefined;
  /** Counts whole layouts: another number, and the view is fitted anew. */
  readonly turn: number;
  /** Boxes that came since the last whole layout, and stand where there was room. */
  readonly newcomers: number;
  readonly fault: string;
  readonly working: boolean;
}

const NOTHING: Placed = { placement: undefined, turn: 0, newcomers: 0, fault: "", working: true };

/**
 * @param key What the reader asked for: grouping, window, islands, tidying. Another key is another layout.
 * @param calm The reader has not begun to look at the map yet: then it may still be moved as a whole.
 */
export function usePlacement(
  graph: VisibleGraph | undefined,
  structure: number,
  key: string,
  calm: boolean,
): Placed {
  const [placed, setPlaced] = useState<Placed & { key: string }>({ ...NOTHING, key: "" });
  const newest = useRef(graph);
  newest.current = graph;
  const working = useRef("");
  useEffect(() => {
    const current = newest.current;
    if (!current) return;
    const layout = () => {
      working.current = key;
      setPlaced((old) => ({ ...old, working: true }));
      layoutGraph(current).then(({ placement, fault }) => {
        if (working.current !== key) return;
        working.current = "";
        const now = newest.current ?? current;
        setPlaced((old) => ({
          placement: placeNewcomers(placement, now),
          turn: old.turn + 1,
          newcomers: 0,
          fault,
          working: false,
          key,
        }));
      });
    };
    if (placed.key !== key) {
      if (working.current !== key) layout();
      return;
    }
    if (!placed.placement || working.current === key) return;
    const next = placeNewcomers(placed.placement, current);
    if (next === placed.placement) return;
    const came = [...next.nodes.keys()].filter((id) => !placed.placement!.nodes.has(id)).length;
    // A map that began nearly empty is laid out again, as long as nobody has begun to read it.
    if (calm && placed.newcomers + came > next.nodes.size / 3) return layout();
    setPlaced({ ...placed, placement: next, newcomers: placed.newcomers + came });
  }, [key, structure, graph === undefined, calm, placed]);
  return placed;
}
