import assert from "node:assert/strict";
import { untilAborted } from "./deadline.ts";

Deno.test("untilAborted() comes with the end of a signal, and at once after it", async () => {
  const stop = new AbortController();
  let has = false;
  const waiting = untilAborted(stop.signal).then(() => has = true);
  await Promise.resolve();
  assert.equal(has, false);
  stop.abort();
  await waiting;
  await untilAborted(stop.signal);
});
