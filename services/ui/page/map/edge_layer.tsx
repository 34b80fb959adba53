/**
 * The canvas of islands and edges: follows pan, zoom and the store by itself, and paints at most once per frame.
 * @module
 */
import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";
import { useColours } from "../data/theme.ts";
import { Lanes } from "./edge_route.ts";
import { edgeShape, pointAt, signPlace } from "./edge_shape.ts";
import { type PaintedEdge, paintMap } from "./edge_painter.ts";
import { type MapView, useMapStore } from "./map_store.ts";

/** Up to so many edges each is led around cards, and its sign is looked a place for. */
const SIGNS_PLACED_MAX = 300;
const SIGN = { width: 40, height: 14 };

/** Curves by what they are made of: new rates make no new curves. */
export function paintedEdges({ graph, placement }: MapView): PaintedEdge[] {
  const boxes = [...placement.nodes.values()], signs = [...boxes];
  const few = graph.edges.length <= SIGNS_PLACED_MAX;
  const around = few ? { boxes, lanes: new Lanes() } : undefined;
  return graph.edges.flatMap((edge) => {
    const shape = edgeShape(graph, placement, edge, around);
    if (!shape) return [];
    if (!few) return [{ edge, shape, sign: 0.5 }];
    const sign = signPlace(shape, signs), [x, y] = pointAt(shape, sign);
    signs.push({ x: x - SIGN.width / 2, y: y - SIGN.height / 2, ...SIGN });
    return [{ edge, shape, sign }];
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
