import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { WorkQueue } from "./work_queue.ts";

Deno.test("WorkQueue runs a key once however often it was added, one at a time", async () => {
  const ran: string[] = [];
  let inside = 0;
  const queue = new WorkQueue({
    work: async (key) => {
      assert.equal(++inside, 1);
      await Promise.resolve();
      ran.push(key);
      inside--;
      if (key === "a" && ran.length === 1) queue.add("c");
    },
  });
  for (const key of ["a", "b", "a", "b"]) queue.add(key);
  await queue.idle();
  assert.deepEqual(ran, ["a", "b", "c"]);
});

Deno.test("WorkQueue tries a failing key again and says since when", async () => {
  let left = 3;
  const results: (number | undefined)[] = [];
  const done = Promise.withResolvers<void>();
  const queue = new WorkQueue({
    retryDelayMs: 1,
    work: () => left-- > 0 ? Promise.reject(new Error("not yet")) : Promise.resolve(),
    onResult: (_, failure) => {
      results.push(failure?.attempts);
      if (!failure) done.resolve();
    },
  });
  queue.add("x");
  await done.promise;
  await queue.stop();
  assert.deepEqual(results, [1, 2, 3, undefined]);
  assert.equal(queue.failureOf("x"), undefined);
});

Deno.test("WorkQueue pauses by the clock that it is given, longer each time, and an add ends the pause", async () => {
  const clock = new FakeClock(0);
  const ranAt: number[] = [];
  let fail = true;
  const queue = new WorkQueue({
    clock,
    random: () => 0,
    retryDelayMs: 100,
    retryDelayMsMax: 400,
    work: () => {
      ranAt.push(clock.nowMs());
      return fail ? Promise.reject(new Error("no")) : Promise.resolve();
    },
  });
  queue.add("x");
  await queue.idle();
  await clock.advance(1_500);
  assert.deepEqual(ranAt, [0, 100, 300, 700, 1100, 1500]);
  assert.equal(queue.failureOf("x")?.sinceMs, 0);
  queue.suggest("x");
  await queue.idle();
  assert.equal(ranAt.length, 6, "a suggestion does not end a pause");
  fail = false;
  queue.add("x");
  await queue.idle();
  assert.equal(ranAt.length, 7);
  assert.equal(queue.failureOf("x"), undefined);
  await clock.advance(10_000);
  assert.equal(ranAt.length, 7);
});
