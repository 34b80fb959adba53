import assert from "node:assert/strict";
import { FlowRing } from "./flow_ring.ts";

Deno.test("FlowRing.last() and first() count only what matches, oldest first", () => {
  const ring = new FlowRing<number>(7);
  for (let n = 1; n <= 10; n++) ring.push(n);
  assert.equal(ring.seen, 10);
  assert.equal(ring.length, 7);
  const even = (n: number) => n % 2 === 0;
  assert.deepEqual(ring.last(2, even), [8, 10]);
  assert.deepEqual(ring.first(2, even), [4, 6]);
  assert.deepEqual(ring.last(2 ** 64, () => true), [4, 5, 6, 7, 8, 9, 10]);
});

Deno.test("FlowRing.follow() tells a reader that fell behind how many it lost", async () => {
  const ring = new FlowRing<number>(3);
  const stop = new AbortController();
  const stream = ring.follow(stop.signal);
  const first = stream.next();
  ring.push(1);
  assert.deepEqual((await first).value, [{ flow: 1, number: 0 }]);
  for (let n = 2; n <= 6; n++) ring.push(n);
  assert.deepEqual((await stream.next()).value, [
    { lost: 2 },
    ...[4, 5, 6].map((flow) => ({ flow, number: flow - 1 })),
  ]);
  const again = await ring.follow(stop.signal, { from: 1 }).next();
  assert.deepEqual(again.value![0], { lost: 2 }, "from a number on");
  const waiting = stream.next();
  stop.abort();
  assert.equal((await waiting).done, true);
});
