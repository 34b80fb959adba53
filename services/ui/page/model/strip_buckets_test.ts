import assert from "node:assert/strict";
import { joinBars } from "./strip_buckets.ts";

const bar = (atUnixS: number, flows: number) => ({
  atUnixS,
  flows,
  dropped: 1,
  audited: 0,
  trouble: 0,
  lost: 0,
});

Deno.test("joinBars() takes the history's bars before the first step that the live ones fill, and counts nothing twice", () => {
  const history = { stepS: 60, buckets: [bar(0, 7), bar(60, 8), bar(120, 9)] };
  const live = [bar(90, 1), bar(110, 1), bar(120, 3), bar(130, 4), bar(180, 5)];
  assert.deepEqual(joinBars(history, live), {
    stepS: 60,
    buckets: [bar(0, 7), bar(60, 8), { ...bar(120, 7), dropped: 2 }, bar(180, 5)],
  });
  assert.equal(joinBars(history, []), history);
});
