/**
 * The curves of edges: from the right of a card to a port on the left of another. Pure; pixels at zoom 1.
 * @module
 */
import { type Box, CARD_HEAD, type Placement, PORT_HEIGHT, PORTS_SHOWN_MAX } from "../model/placement.ts";
import { cubicAt, isHidden, type Lanes, type Points, wayAround } from "./edge_route.ts";
import type { VisibleEdge, VisibleGraph } from "../model/visible_graph.ts";

/** Cubic curves, one after another: the start, then two control points and the end of each. */
export interface EdgeShape {
  readonly points: Points;
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Height of a card's first line, where edges leave. */
const HEAD_Y = CARD_HEAD / 2;

/** Where an edge meets its target: the line of its first port that the card shows, else the head. */
function targetY(graph: VisibleGraph, edge: VisibleEdge, box: Box): number {
  const card = graph.nodes.get(edge.to)?.card;
  if (!card) return box.y + box.height / 2;
  for (const one of edge.edges) {
    for (const { port, protocol } of one.protocols) {
      const row = card.ports.findIndex((p) => p.port === port && p.protocol === protocol);
      if (row >= 0 && row < PORTS_SHOWN_MAX) {
        const y = CARD_HEAD + row * PORT_HEIGHT + PORT_HEIGHT / 2;
        if (y < box.height) return box.y + y;
      }
    }
  }
  return box.y + HEAD_Y;
}

/**
 * The curve of an edge; undefined while one of its ends has no place yet.
 * @param around Cards that it must not run behind; without them it goes straight: thousands of edges do.
 */
export function edgeShape(
  graph: VisibleGraph,
  placement: Placement,
  edge: VisibleEdge,
  around?: { readonly boxes: readonly Box[]; readonly lanes: Lanes },
): EdgeShape | undefined {
  const from = placement.nodes.get(edge.from), to = placement.nodes.get(edge.to);
  if (!from || !to) return undefined;
  const x0 = from.x + from.width, x3 = to.x;
  const y0 = from.y + (graph.nodes.get(edge.from)?.card ? HEAD_Y : from.height / 2);
  if (edge.from === edge.to) {
    // A loop over the upper right corner.
    return bounded([x0 - 26, from.y, x0 - 14, from.y - 40, x0 + 40, from.y - 6, x0, y0]);
  }
  const y3 = targetY(graph, edge, to), straight = straightCurve(x0, y0, x3, y3);
  const boxes = around?.boxes.filter((box) => box !== from && box !== to) ?? [];
  if (around === undefined || !isHidden(straight, boxes.concat(x3 < x0 ? [from, to] : []))) {
    return bounded(straight);
  }
  return bounded(wayAround([x0, y0], [x3, y3], { boxes, ends: [from, to], lanes: around.lanes }));
}

function straightCurve(x0: number, y0: number, x3: number, y3: number): Points {
  const dx = x3 - x0;
  if (dx >= 0) {
    const reach = Math.max(28, dx / 2);
    return [x0, y0, x0 + reach, y0, x3 - reach, y3, x3, y3];
  }
  // Back to the left: out, round and in, the further the wider, but never wide enough to cross the map.
  const reach = Math.min(240, 70 + Math.abs(dx) * 0.35);
  const lift = Math.abs(y3 - y0) < 40 ? 70 : 0;
  return [x0, y0, x0 + reach, y0 - lift, x3 - reach, y3 - lift, x3, y3];
}

function bounded(points: Points): EdgeShape {
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  for (let i = 0; i < points.length; i += 2) {
    left = Math.min(left, points[i]);
    right = Math.max(right, points[i]);
    top = Math.min(top, points[i + 1]);
    bottom = Math.max(bottom, points[i + 1]);
  }
  return { points, left, top, right, bottom };
}

const curvesOf = (points: Points) => (points.length - 2) / 6;

/** The point at `t` of 0 to 1: each curve has an equal share. */
export function pointAt({ points }: EdgeShape, t: number): [x: number, y: number] {
  const curves = curvesOf(points), at = Math.min(curves - 1, Math.floor(t * curves));
  return cubicAt(points, 6 * at, t * curves - at);
}

/** From the middle outwards. */
const SIGN_PLACES: readonly number[] = Array.from(
  { length: 31 },
  (_, i) => 0.5 + (i % 2 === 0 ? 1 : -1) * Math.ceil(i / 2) * 0.03,
);
/** Half of a sign, with some room. */
const SIGN_X = 26, SIGN_Y = 11;

/** Where on its curve an edge's sign is not hidden by a card, 0 to 1; the middle where it is everywhere. */
export function signPlace(shape: EdgeShape, boxes: readonly Box[]): number {
  const free = SIGN_PLACES.find((t) => {
    const [x, y] = pointAt(shape, t);
    return !boxes.some((box) =>
      x > box.x - SIGN_X && x < box.x + box.width + SIGN_X && y > box.y - SIGN_Y &&
      y < box.y + box.height + SIGN_Y
    );
  });
  return free ?? 0.5;
}

const SAMPLES = 24;

/** Distance of a point to a curve, as far as it is below `most`; else Infinity. */
export function distanceTo(shape: EdgeShape, x: number, y: number, most: number): number {
  if (x < shape.left - most || x > shape.right + most || y < shape.top - most || y > shape.bottom + most) {
    return Infinity;
  }
  let nearest = Infinity;
  let [ax, ay] = pointAt(shape, 0);
  const samples = SAMPLES * curvesOf(shape.points);
  for (let i = 1; i <= samples; i++) {
    const [bx, by] = pointAt(shape, i / samples);
    const length = (bx - ax) ** 2 + (by - ay) ** 2 || 1;
    const t = Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length));
    nearest = Math.min(nearest, Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)));
    [ax, ay] = [bx, by];
  }
  return nearest <= most ? nearest : Infinity;
}
