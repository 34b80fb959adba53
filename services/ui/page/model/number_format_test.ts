import assert from "node:assert/strict";
import {
  formatAge,
  formatCount,
  formatDuration,
  formatRate,
  formatShare,
  formatShort,
} from "./number_format.ts";

Deno.test("formatShort() never takes more than four characters below a thousand G", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [999, "999"],
    [999.4, "999"],
    [1000, "1.0k"],
    [9_949, "9.9k"],
    [9_951, "10k"],
    [999_499, "999k"],
    [999_500, "1.0M"],
    [12_345_678, "12M"],
    [NaN, "–"],
  ];
  for (const [count, text] of cases) assert.equal(formatShort(count), text, String(count));
});

Deno.test("formatRate() tells a little from nothing", () => {
  const cases: [number, string][] = [
    [0, "0/s"],
    [-1, "0/s"],
    [0.01, "<0.1/s"],
    [0.43, "0.4/s"],
    [2, "2/s"],
    [12.4, "12/s"],
    [1_234, "1.2k/s"],
    [Infinity, "0/s"],
  ];
  for (const [rate, text] of cases) assert.equal(formatRate(rate), text, String(rate));
});

Deno.test("formatDuration() has two units at most", () => {
  const cases: [number, string][] = [[0, "0s"], [59, "59s"], [60, "1m"], [200, "3m 20s"], [7500, "2h 5m"], [
    270_000,
    "3d 3h",
  ], [-4, "0s"]];
  for (const [seconds, text] of cases) assert.equal(formatDuration(seconds), text);
});

Deno.test("formatAge() says never for what has no time", () => {
  assert.equal(formatAge(0, 100), "never");
  assert.equal(formatAge(99, 100), "just now");
  assert.equal(formatAge(200, 100), "just now");
  assert.equal(formatAge(1000, 1200), "3m ago");
});

Deno.test("formatShare() and formatCount() keep what matters", () => {
  assert.equal(formatShare(1), "100 %");
  assert.equal(formatShare(0.0003), "<0.1 %");
  assert.equal(formatShare(0.031), "3.1 %");
  assert.equal(formatCount(12_480), "12,480");
});
