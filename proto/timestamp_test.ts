import assert from "node:assert/strict";
import { timestampOf } from "./timestamp.ts";

Deno.test("timestampOf() has seconds rounded down and nanoseconds from 0 on, before 1970 too", () => {
  for (
    const [unixMs, seconds, nanos] of [
      [0, 0, 0],
      [1500, 1, 500_000_000],
      [1_700_000_000_123.25, 1_700_000_000, 123_250_000],
      [-1, -1, 999_000_000],
      [-1500, -2, 500_000_000],
      [-2000, -2, 0],
    ]
  ) assert.deepEqual(timestampOf(unixMs), { seconds, nanos }, `${unixMs}`);
});
