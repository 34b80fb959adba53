import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { HeldRows } from "./held_rows.ts";

interface Row {
  number: number;
  labels: string;
}
function bench() {
  const clock = new FakeClock();
  const told: string[] = [];
  const counts: number[] = [];
  const rows = new HeldRows<Row>({
    clock,
    graceMs: 60_000,
    onChange: (name, value, previous) =>
      told.push(`${name} ${previous?.number ?? "-"}>${value?.number ?? "-"}`),
    onHeld: (count) => counts.push(count),
    keyOf: (row) => `${row.number}`,
    contradicts: (held, fresh) => held.labels !== fresh.labels,
  });
  return { clock, told, counts, rows };
}
const a: Row = { number: 300, labels: "a" };

Deno.test("HeldRows passes on changes, and an orderly deletion at once", () => {
  const { rows, told } = bench();
  rows.change("x", a, undefined);
  rows.change("x", undefined, a, false);
  assert.deepEqual(told, ["x ->300", "x 300>-"]);
});

Deno.test("HeldRows keeps a row that a lost database took along until its owner writes it again", async () => {
  const { rows, told, counts, clock } = bench();
  rows.change("x", undefined, a, true);
  assert.deepEqual(told, []);
  assert.equal(rows.size, 1);
  await clock.advance(59_000);
  rows.change("x", { ...a }, undefined);
  assert.deepEqual(told, ["x 300>300"], "for the reader it never was away");
  await clock.advance(120_000);
  assert.deepEqual(told, ["x 300>300"]);
  assert.deepEqual(counts, [1, 0]);
});

Deno.test("HeldRows lets go when the grace is over, each in its time", async () => {
  const { rows, told, clock } = bench();
  rows.change("x", undefined, a, true);
  await clock.advance(30_000);
  rows.change("y", undefined, a, true);
  await clock.advance(30_000);
  assert.deepEqual(told, ["x 300>-"]);
  await clock.advance(30_000);
  assert.deepEqual(told, ["x 300>-", "y 300>-"]);
});

Deno.test("HeldRows lets go at once of a row whose number is somebody else's now", () => {
  const { rows, told } = bench();
  rows.change("x", undefined, a, true);
  rows.change("y", undefined, { number: 301, labels: "b" }, true);
  rows.change("z", { number: 300, labels: "a" }, undefined);
  assert.deepEqual(told, ["z ->300"], "the same labels do not contradict");
  rows.change("w", { number: 300, labels: "evil" }, undefined);
  assert.deepEqual(told.slice(1), ["w ->300", "x 300>-"]);
  assert.equal(rows.size, 1);
});

Deno.test("HeldRows that ends keeps what it holds", async () => {
  const { rows, told, clock } = bench();
  rows.change("x", undefined, a, true);
  rows[Symbol.dispose]();
  await clock.advance(120_000);
  assert.deepEqual(told, []);
});

Deno.test("HeldRows lets all go when its reader says that they mean nothing any more", async () => {
  const { rows, told, counts, clock } = bench();
  rows.change("x", undefined, a, true);
  rows.change("y", undefined, { number: 301, labels: "b" }, true);
  rows.release();
  assert.deepEqual(told, ["x 300>-", "y 301>-"]);
  assert.deepEqual([rows.size, counts.at(-1)], [0, 0]);
  await clock.advance(120_000);
  assert.equal(told.length, 2, "once");
});
