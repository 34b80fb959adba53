/**
 * The cards that stand in the page: those in sight, some more per frame, so that a thousand of them never come or go at once.
 * @module
 */
import { type Node, useStoreApi } from "@xyflow/react";
import { useEffect, useMemo, useRef, useState } from "react";
import { CARD_HEAD, ISLAND_HEAD, type Placement, PORT_HEIGHT } from "../model/placement.ts";
import type { VisibleGraph } from "../model/visible_graph.ts";

/** Cards that come, and that go, in one frame. */
const COME_MAX = 16, GO_MAX = 120;
/** Up to so many all stand there, also those out of sight. */
const ALL_MAX = 150;
/** What is so near to the edge of the view is in sight, in pixels of the screen. */
const MARGIN = 200;

/** What nodes call. */
export interface NodeCalls {
  readonly onToggle: (id: string, closed: boolean) => void;
  readonly onOpen: (id: string) => void;
}

/** React Flow's nodes: made anew when places change, never for rates. */
export function useMapNodes(
  graph: VisibleGraph | undefined,
  placement: Placement | undefined,
  { onToggle, onOpen }: NodeCalls,
): Node[] {
  const flow = useStoreApi();
  const all = useMemo(() => {
    if (!placement || !graph) return [];
    const nodes: Node[] = [];
    for (const [id, box] of placement.islands) {
      nodes.push({
        id,
        type: "island",
        position: { x: box.x, y: box.y },
        width: box.width,
        height: ISLAND_HEAD,
        data: { onToggle },
      });
    }
    for (const [id, box] of placement.nodes) {
      const node = graph.nodes.get(id);
      const rows = Math.max(0, Math.floor((box.height - CARD_HEAD) / PORT_HEIGHT));
      nodes.push({
        id,
        type: !node || node.card ? "card" : "closed",
        position: { x: box.x, y: box.y },
        width: box.width,
        height: box.height,
        data: { rows, onOpen, onToggle },
      });
    }
    return nodes;
    // The graph is read for what the placement was made of: it has a new one when that changes.
  }, [placement, onToggle, onOpen]);
  const [shown, setShown] = useState<ReadonlySet<string>>(NONE);
  const now = useRef(shown);
  useEffect(() => {
    let frame = 0;
    const step = () => {
      frame = 0;
      const next = nextShown(now.current, all, flow.getState());
      if (next === now.current) return;
      setShown(now.current = next);
      schedule();
    };
    const schedule = () => frame ||= requestAnimationFrame(step);
    let last = flow.getState();
    const stop = flow.subscribe((state) => {
      const isMoved = state.transform !== last.transform || state.width !== last.width ||
        state.height !== last.height;
      last = state;
      if (isMoved) schedule();
    });
    step();
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [flow, all]);
  return useMemo(() => all.filter(({ id }) => shown.has(id)), [all, shown]);
}

const NONE: ReadonlySet<string> = new Set();

/** A step from what is shown to what is in sight; the same set when it is there. Pure. */
export function nextShown(
  shown: ReadonlySet<string>,
  all: readonly Pick<Node, "id" | "position" | "width" | "height">[],
  { width, height, transform: [tx, ty, zoom] }: {
    width: number;
    height: number;
    transform: readonly [number, number, number];
  },
): ReadonlySet<string> {
  const next = new Set<string>();
  let came = 0, went = 0, found = 0;
  for (const { id, position, width: w = 0, height: h = 0 } of all) {
    const left = position.x * zoom + tx, top = position.y * zoom + ty;
    const inSight = all.length <= ALL_MAX ||
      (left < width + MARGIN && left + w * zoom > -MARGIN && top < height + MARGIN &&
        top + h * zoom > -MARGIN);
    const isShown = shown.has(id);
    if (isShown) found++;
    if (inSight ? isShown || came++ < COME_MAX : isShown && went++ >= GO_MAX) next.add(id);
  }
  return came === 0 && went === 0 && found === shown.size ? shown : next;
}
