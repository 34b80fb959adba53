/**
 * The canvas of islands and edges: follows pan, zoom and the store by itself, and paints at most once per frame.
 * @module
 */
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { useColours } from "../data/theme.ts";
import { edgeShape, signPlace } from "./edge_shape.ts";
import { type PaintedEdge, paintMap } from "./edge_painter.ts";
import { type MapView, useMapStore } from "./map_store.ts";

/** Up to so many edges each sign is looked a place for. */
const SIGNS_PLACED_MAX = 300;

/** Curves by what they are made of: new rates make no new curves. */
export function paintedEdges(view: MapView): PaintedEdge[] {
  const boxes = [...view.placement.nodes.values()];
  const few = view.graph.edges.length <= SIGNS_PLACED_MAX;
  return view.graph.edges.flatMap((edge) => {
    const shape = edgeShape(view.graph, view.placement, edge);
    return shape ? [{ edge, shape, sign: few ? signPlace(shape, boxes) : 0.5 }] : [];
  });
}

export function EdgeLayer({ onPainted }: { onPainted: (edges: readonly PaintedEdge[]) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const flow = useStoreApi();
  const store = useMapStore();
  const colours = useColours();
  useEffect(() => {
    const element = canvas.current!;
    const context = element.getContext("2d")!;
    const font = getComputedStyle(document.body).fontFamily;
    let frame = 0, painted: PaintedEdge[] = [], of: MapView | undefined;
    const paint = () => {
      frame = 0;
      const { width, height, transform } = flow.getState();
      const ratio = Math.min(2, devicePixelRatio || 1);
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (element.width !== w || element.height !== h) [element.width, element.height] = [w, h];
      const view = store.view;
      if (!view) return context.clearRect(0, 0, w, h);
      if (view !== of) onPainted(painted = paintedEdges(of = view));
      paintMap(context, view, painted, {
        colours,
        width,
        height,
        ratio,
        transform,
        focus: store.focus || store.selected,
        font,
      });
    };
    const schedule = () => frame ||= requestAnimationFrame(paint);
    const stopStore = store.subscribe(schedule);
    let last = flow.getState();
    const stopFlow = flow.subscribe((next) => {
      if (next.transform !== last.transform || next.width !== last.width || next.height !== last.height) {
        schedule();
      }
      last = next;
    });
    document.fonts?.ready.then(schedule);
    schedule();
    return () => {
      stopStore();
      stopFlow();
      cancelAnimationFrame(frame);
    };
  }, [flow, store, colours, onPainted]);
  return <canvas ref={canvas} className="edge-layer" aria-hidden="true" />;
}
