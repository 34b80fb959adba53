import assert from "node:assert/strict";
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
