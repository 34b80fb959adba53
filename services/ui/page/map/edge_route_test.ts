import assert from "node:assert/strict";
import { isHidden, Lanes, wayAround } from "./edge_route.ts";

const box = (x: number, y: number) => ({ x, y, width: 200, height: 80 });

Deno.test("wayAround() leads an edge past the cards of every column, forward and back", () => {
  const ends = [box(0, 100), box(900, 100)], lanes = new Lanes();
  const boxes = [box(300, 60), box(300, 200), box(600, 90), box(600, -60)];
  const forward = wayAround([200, 125], [900, 125], { boxes, ends, lanes });
  assert.deepEqual([forward.slice(0, 2), forward.slice(-2)], [[200, 125], [900, 125]]);
  assert.ok(!isHidden(forward, boxes));
  const back = wayAround([1100, 125], [0, 125], { boxes, ends, lanes });
  assert.deepEqual([back.slice(0, 2), back.slice(-2)], [[1100, 125], [0, 125]]);
  assert.ok(!isHidden(back, [...boxes, ...ends]));
});

Deno.test("Lanes gives lines that share a gap heights of their own", () => {
  const lanes = new Lanes(), boxes = [box(0, 0), box(0, 160)];
  const heights = Array.from({ length: 6 }, () => lanes.take(0, 200, 120, boxes));
  assert.equal(new Set(heights).size, 6);
  for (const y of heights) assert.ok(y > 80 && y < 160, `${y}`);
});
