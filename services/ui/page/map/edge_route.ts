/**
 * Ways around cards: an edge whose curve would run behind cards goes through the gaps between them instead. Pure; pixels at zoom 1.
 *
 *     source ╮   ┌card┐            forward: each column of cards is crossed in the gap nearest to the straight line
 *            ╰──────────╮ ┌card┐
 *              └────┘   ╰──▶ target
 *
 * @module
 */
import type { Box } from "../model/placement.ts";

/** A start, then control, control, end of each cubic curve. */
export type Points = readonly number[];

/** Room between a line and a card, and between lines that share a gap. */
const BESIDE_X = 16, BESIDE_Y = 9, LANE = 7, LANES_MAX = 8;
/** What an edge of the other direction bends out by. */
const BEND = 64;

/** Gives lines that share a gap lanes of their own; one for all edges of a map. */
export class Lanes {
  readonly #taken: { left: number; right: number; y: number }[] = [];

  /** The nearest height to `wanted` that is free of boxes and lines, and takes it. */
  take(left: number, right: number, wanted: number, boxes: readonly Box[]): number {
    const inWay = boxes.filter((box) => box.x < right && box.x + box.width > left);
    const blocked = inWay.map(({ y, height }) => [y - BESIDE_Y, y + height + BESIDE_Y] as const);
    const isFree = (y: number) => !blocked.some(([top, bottom]) => y > top && y < bottom);
    const isLone = (y: number) =>
      !this.#taken.some((one) => one.left < right && one.right > left && Math.abs(one.y - y) < LANE - 1);
    const edges = [wanted, ...blocked.flat()].filter(isFree).sort((a, b) => distance(a) - distance(b));
    function distance(y: number) {
      return Math.abs(y - wanted);
    }
    let found = edges[0] ?? wanted;
    search: for (const edge of edges) {
      for (let n = 0; n <= LANES_MAX; n++) {
        for (const y of n === 0 ? [edge] : [edge + n * LANE, edge - n * LANE]) {
          // A lane further on must not be behind the next card.
          if (!isFree(y) || !isLone(y)) continue;
          found = y;
          break search;
        }
      }
    }
    this.#taken.push({ left, right, y: found });
    return found;
  }
}

/** Whether a curve of these points runs behind one of the boxes. */
export function isHidden(points: Points, boxes: readonly Box[]): boolean {
  for (let i = 0; i + 7 < points.length; i += 6) {
    for (let t = 0.04; t < 1; t += 0.04) {
      const [x, y] = cubicAt(points, i, t);
      if (
        boxes.some((box) => x > box.x && x < box.x + box.width && y > box.y - 3 && y < box.y + box.height + 3)
      ) {
        return true;
      }
    }
  }
  return false;
}

/** The point at `t` of the cubic curve that begins at index `i`. */
export function cubicAt(points: Points, i: number, t: number): [x: number, y: number] {
  const u = 1 - t, a = u * u * u, b = 3 * u * u * t, c = 3 * u * t * t, d = t * t * t;
  return [
    a * points[i] + b * points[i + 2] + c * points[i + 4] + d * points[i + 6],
    a * points[i + 1] + b * points[i + 3] + c * points[i + 5] + d * points[i + 7],
  ];
}

/** The way from the right of one card to the left of another, around `boxes`: all cards but these two. */
export function wayAround(
  [x0, y0]: readonly [number, number],
  [x3, y3]: readonly [number, number],
  { boxes, ends, lanes }: { boxes: readonly Box[]; ends: readonly Box[]; lanes: Lanes },
): Points {
  if (x3 - x0 < 2 * BESIDE_X) {
    const y = lanes.take(x3 - BEND, x0 + BEND, (y0 + y3) / 2, [...boxes, ...ends]);
    return [
      ...[x0, y0, x0 + BEND, y0, x0 + BEND, y, x0, y],
      ...level(x0, x3, y),
      ...[x3 - BEND, y, x3 - BEND, y3, x3, y3],
    ];
  }
  const points = [x0, y0];
  let x = x0, y = y0;
  for (const { left, right } of columnsOf(boxes, x0, x3)) {
    const middle = (left + right) / 2, wanted = y0 + (y3 - y0) * (middle - x0) / (x3 - x0);
    const lane = lanes.take(left, right, wanted, boxes);
    points.push(...bend(x, y, left, lane), ...level(left, right, lane));
    [x, y] = [right, lane];
  }
  points.push(...bend(x, y, x3, y3));
  return points;
}

/** The stretches in which there are cards, from left to right. */
function columnsOf(boxes: readonly Box[], x0: number, x3: number): { left: number; right: number }[] {
  const columns: { left: number; right: number }[] = [];
  const between = boxes.filter((box) => box.x < x3 - BESIDE_X && box.x + box.width > x0 + BESIDE_X);
  for (const box of between.sort((a, b) => a.x - b.x)) {
    const left = Math.max(x0 + BESIDE_X, box.x - BESIDE_X);
    const right = Math.min(x3 - BESIDE_X, box.x + box.width + BESIDE_X), last = columns.at(-1);
    if (last && left < last.right + BESIDE_X) last.right = Math.max(last.right, right);
    else columns.push({ left, right });
  }
  return columns.filter(({ left, right }) => right > left);
}

/** From one height to another, level at both ends. */
function bend(x0: number, y0: number, x1: number, y1: number): number[] {
  const reach = Math.max(8, (x1 - x0) / 2);
  return [x0 + reach, y0, x1 - reach, y1, x1, y1];
}

function level(x0: number, x1: number, y: number): number[] {
  const third = (x1 - x0) / 3;
  return [x0 + third, y, x1 - third, y, x1, y];
}
