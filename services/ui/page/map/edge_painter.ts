/**
 * Paints islands and edges on a canvas below the cards. Edges of one look are one path, so that thousands cost a few strokes.
 * @module
 */
import type { EdgeVerdict } from "../../api.ts";
import type { Colours } from "../data/theme.ts";
import { formatRate } from "../model/number_format.ts";
import type { VisibleEdge } from "../model/visible_graph.ts";
import type { EdgeShape } from "./edge_shape.ts";
import { pointAt } from "./edge_shape.ts";
import type { MapView } from "./map_store.ts";

/** An edge and its curve. */
export interface PaintedEdge {
  readonly edge: VisibleEdge;
  readonly shape: EdgeShape;
  /** Where on the curve its sign is, 0 to 1. */
  readonly sign: number;
}

/** What else decides how it looks. */
export interface PaintOptions {
  readonly colours: Colours;
  readonly width: number;
  readonly height: number;
  readonly ratio: number;
  readonly transform: readonly [x: number, y: number, zoom: number];
  /** Node or edge that the reader looks at; the rest steps back. "" for none. */
  readonly focus: string;
  readonly font: string;
}

/** Dashes, so that a verdict is seen without its colour. */
const DASHES: Readonly<Record<EdgeVerdict, readonly number[]>> = {
  allowed: [],
  dropped: [7, 5],
  mixed: [],
  audited: [2, 4],
  error: [9, 4, 2, 4],
};
/** Above so many edges none has a label by itself. */
const LABELS_MAX = 48;
/** Above so many edges lines are thinner than a pixel of the screen: 5,000 of them cost 30 ms then, and 370 ms at 1.6 pixels (CPU time, no GPU). */
const THICK_MAX = 300;
/** Below this zoom signs and labels cannot be read. */
const DETAIL_ZOOM = 0.5;

export function touches(edge: VisibleEdge, focus: string): boolean {
  return edge.from === focus || edge.to === focus || edge.id === focus;
}

function colourOf(verdict: EdgeVerdict, near: boolean, colours: Colours): string {
  switch (verdict) {
    case "dropped":
    case "mixed":
      return colours.dropped;
    case "audited":
      return colours.audited;
    case "error":
      return colours.error;
    default:
      return near ? colours.allowed : colours.edge;
  }
}

/** Steps of width by rate: 1 to 4 pixels. */
function widthOf(edge: VisibleEdge): number {
  return 1.25 + 0.5 * Math.min(5, Math.floor(Math.log2(1 + edge.rate)));
}

export function paintMap(
  context: CanvasRenderingContext2D,
  view: MapView,
  painted: readonly PaintedEdge[],
  options: PaintOptions,
): void {
  const { ratio, width, height, transform: [tx, ty, zoom], colours, focus } = options;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.setTransform(ratio * zoom, 0, 0, ratio * zoom, ratio * tx, ratio * ty);
  paintIslands(context, view, colours, zoom);
  const seen = {
    left: -tx / zoom,
    top: -ty / zoom,
    right: (width - tx) / zoom,
    bottom: (height - ty) / zoom,
  };
  const visible = painted.filter(({ shape }) =>
    shape.right >= seen.left && shape.left <= seen.right && shape.bottom >= seen.top &&
    shape.top <= seen.bottom
  );
  const near = focus === "" ? [] : visible.filter(({ edge }) => touches(edge, focus));
  const far = focus === "" ? visible : visible.filter(({ edge }) => !touches(edge, focus));
  context.globalAlpha = focus !== "" ? 0.18 : 1;
  strokeEdges(context, far, { colours, near: false, zoom, ratio });
  if (focus === "" && zoom >= DETAIL_ZOOM) {
    for (const one of far) paintSign(context, one, options, far.length <= LABELS_MAX);
  }
  context.globalAlpha = 1;
  strokeEdges(context, near, { colours, near: true, zoom, ratio });
  for (const one of near) paintSign(context, one, options, near.length <= 2 * LABELS_MAX);
}

function paintIslands(
  context: CanvasRenderingContext2D,
  view: MapView,
  colours: Colours,
  zoom: number,
): void {
  context.lineWidth = 1 / zoom;
  context.setLineDash([]);
  for (const box of view.placement.islands.values()) {
    context.beginPath();
    context.roundRect(box.x, box.y, box.width, box.height, 14);
    context.fillStyle = colours.island;
    context.fill();
    context.strokeStyle = colours["island-border"];
    context.stroke();
  }
}

function strokeEdges(
  context: CanvasRenderingContext2D,
  painted: readonly PaintedEdge[],
  { colours, near, zoom, ratio }: { colours: Colours; near: boolean; zoom: number; ratio: number },
): void {
  const thin = painted.length > THICK_MAX, hasHeads = !thin && zoom >= 0.25;
  const looks = new Map<
    string,
    { edge: VisibleEdge; width: number; quiet: boolean; path: Path2D; heads: Path2D }
  >();
  for (const { edge, shape } of painted) {
    const width = thin ? 1 : widthOf(edge), quiet = edge.rate <= 0 && !near;
    const key = `${edge.verdict} ${width} ${quiet}`;
    let look = looks.get(key);
    if (!look) looks.set(key, look = { edge, width, quiet, path: new Path2D(), heads: new Path2D() });
    const { points } = shape;
    look.path.moveTo(points[0], points[1]);
    for (let i = 2; i + 5 < points.length; i += 6) {
      look.path.bezierCurveTo(
        points[i],
        points[i + 1],
        points[i + 2],
        points[i + 3],
        points[i + 4],
        points[i + 5],
      );
    }
    if (hasHeads) addHead(look.heads, points, 5 + width);
  }
  const alpha = context.globalAlpha;
  // What is dropped lies on top.
  const order: readonly EdgeVerdict[] = ["allowed", "audited", "error", "mixed", "dropped"];
  for (
    const { edge, width, quiet, path, heads } of [...looks.values()].sort((a, b) =>
      order.indexOf(a.edge.verdict) - order.indexOf(b.edge.verdict)
    )
  ) {
    // Thousands of allowed ones are the ground that the others are seen on.
    context.globalAlpha = alpha * (thin && edge.verdict === "allowed" ? 0.35 : quiet ? 0.5 : 1);
    context.strokeStyle = context.fillStyle = colourOf(edge.verdict, near, colours);
    // Far away a line is still to be seen.
    context.lineWidth = thin ? 0.95 / (zoom * ratio) : Math.max(width, 0.7 / zoom);
    context.setLineDash(DASHES[edge.verdict] as number[]);
    context.stroke(path);
    if (hasHeads) context.fill(heads);
  }
  context.setLineDash([]);
  context.globalAlpha = alpha;
}

/** The head of an arrow: it follows the curve's last direction. */
function addHead(heads: Path2D, points: readonly number[], size: number): void {
  const last = points.length - 4, x = points[last + 2], y = points[last + 3];
  const angle = Math.atan2(y - points[last + 1], x - points[last]);
  heads.moveTo(x, y);
  heads.lineTo(x - size * Math.cos(angle - 0.42), y - size * Math.sin(angle - 0.42));
  heads.lineTo(x - size * Math.cos(angle + 0.42), y - size * Math.sin(angle + 0.42));
  heads.closePath();
}

/** The verdict's sign, and the rate, on the middle of the curve. */
function paintSign(
  context: CanvasRenderingContext2D,
  { edge, shape, sign: place }: PaintedEdge,
  { colours, font }: PaintOptions,
  label: boolean,
): void {
  const sign = edge.verdict !== "allowed";
  const text = label && edge.rate > 0
    ? formatRate(edge.verdict === "dropped" ? edge.dropRate : edge.rate)
    : "";
  if (!sign && text === "") return;
  const [x, y] = pointAt(shape, place);
  const colour = colourOf(edge.verdict, true, colours);
  context.font = `500 11px ${font}`;
  const textWidth = text === "" ? 0 : context.measureText(text).width;
  const width = (sign ? 18 : 0) + (text === "" ? 0 : textWidth + (sign ? 6 : 12));
  context.beginPath();
  context.roundRect(x - width / 2, y - 9, width, 18, 9);
  context.fillStyle = colours.surface;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = sign ? colour : colours.border;
  context.stroke();
  if (text !== "") {
    context.fillStyle = sign ? colour : colours["text-soft"];
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(text, x - width / 2 + (sign ? 17 : 6), y + 0.5);
  }
  if (!sign) return;
  const cx = x - width / 2 + 9;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.8;
  context.beginPath();
  if (edge.verdict === "dropped" || edge.verdict === "mixed") {
    context.moveTo(cx - 3, y - 3);
    context.lineTo(cx + 3, y + 3);
    context.moveTo(cx + 3, y - 3);
    context.lineTo(cx - 3, y + 3);
    context.stroke();
  } else if (edge.verdict === "audited") {
    context.arc(cx, y, 3.6, -Math.PI / 2, Math.PI / 2);
    context.fill();
    context.beginPath();
    context.lineWidth = 1.2;
    context.arc(cx, y, 3.6, 0, 2 * Math.PI);
    context.stroke();
  } else {
    context.moveTo(cx, y - 4);
    context.lineTo(cx, y + 0.5);
    context.moveTo(cx, y + 3.6);
    context.lineTo(cx, y + 3.8);
    context.lineCap = "round";
    context.stroke();
    context.lineCap = "butt";
  }
}
