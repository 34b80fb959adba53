/**
 * From card to card with the arrow keys: the nearest one in that direction. Pure.
 * @module
 */
import type { Box } from "../model/placement.ts";

const STEPS: Readonly<Record<string, readonly [x: number, y: number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** @returns undefined for another key, or where there is none that way. */
export function nextCard(nodes: ReadonlyMap<string, Box>, from: string, key: string): string | undefined {
  const step = STEPS[key], box = nodes.get(from);
  if (!step || !box) return undefined;
  const middle = ({ x, y, width, height }: Box) => [x + width / 2, y + height / 2];
  const [x, y] = middle(box);
  let best: string | undefined, least = Infinity;
  for (const [id, other] of nodes) {
    if (id === from) continue;
    const [ox, oy] = middle(other);
    const along = (ox - x) * step[0] + (oy - y) * step[1];
    const across = Math.abs((ox - x) * step[1]) + Math.abs((oy - y) * step[0]);
    if (along <= 4) continue;
    // Who stands aside is taken for further away than who stands ahead.
    const cost = along + 2.2 * across;
    if (cost < least) [best, least] = [id, cost];
  }
  return best;
}
