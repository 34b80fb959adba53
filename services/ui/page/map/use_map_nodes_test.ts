import assert from "node:assert/strict";
import { nextShown } from "./use_map_nodes.ts";

const nodes = Array.from({ length: 1000 }, (_, i) => ({
  id: `${i}`,
  position: { x: (i % 40) * 220, y: Math.floor(i / 40) * 100 },
  width: 196,
  height: 80,
}));
const view = (zoom: number) => ({ width: 1000, height: 600, transform: [0, 0, zoom] as const });

Deno.test("nextShown() lets cards come and go some per step, until those in sight are there", () => {
  let shown: ReadonlySet<string> = new Set(), steps = 0;
  for (
    let next = nextShown(shown, nodes, view(0.05));
    next !== shown;
    next = nextShown(shown, nodes, view(0.05))
  ) {
    assert.ok(next.size - shown.size <= 16);
    shown = next;
    steps++;
  }
  assert.deepEqual([shown.size, steps], [1000, 63]);
  for (let next = nextShown(shown, nodes, view(1)); next !== shown; next = nextShown(shown, nodes, view(1))) {
    assert.ok(shown.size - next.size <= 120);
    shown = next;
  }
  assert.ok(shown.has("0") && !shown.has("39") && shown.size < 60, `${shown.size}`);
});

Deno.test("nextShown() forgets what is there no more, and keeps few cards all", () => {
  const few = nodes.slice(0, 12), shown = nextShown(new Set(["gone"]), few, view(2));
  assert.deepEqual([...shown], few.map(({ id }) => id));
  assert.equal(nextShown(shown, few, view(2)), shown);
});
