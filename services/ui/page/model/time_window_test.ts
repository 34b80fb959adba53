import assert from "node:assert/strict";
import { moveEnd, rangeFor, RANGES } from "./time_window.ts";

Deno.test("rangeFor() shows the window that an address names", () => {
  assert.equal(rangeFor(null, 10_000, 900), 900);
  assert.equal(rangeFor({ sinceUnixS: 9_500, untilUnixS: 9_600 }, 10_000, 900), 900);
  assert.equal(rangeFor({ sinceUnixS: 7_500, untilUnixS: 9_600 }, 10_000, 900), 3600);
  assert.equal(rangeFor({ sinceUnixS: 7_500, untilUnixS: 9_600 }, 10_000, 86_400), 86_400);
  assert.equal(rangeFor({ sinceUnixS: -9e9, untilUnixS: 9_600 }, 10_000, 900), RANGES.at(-1));
});

Deno.test("moveEnd() keeps a window a window", () => {
  const window = { sinceUnixS: 100, untilUnixS: 200 };
  const limits = { leastS: 0, mostS: 1000, stepS: 5 };
  assert.deepEqual(moveEnd(window, "since", 52, limits), { sinceUnixS: 50, untilUnixS: 200 });
  assert.deepEqual(moveEnd(window, "since", 999, limits), { sinceUnixS: 195, untilUnixS: 200 });
  assert.deepEqual(moveEnd(window, "until", 5, limits), { sinceUnixS: 100, untilUnixS: 105 });
  assert.deepEqual(moveEnd(window, "until", 1e9, limits), { sinceUnixS: 100, untilUnixS: 1000 });
});
