import assert from "node:assert/strict";
import type { FlowRow } from "../../api.ts";
import { mergeRows } from "./flow_feed.ts";

const row = (uuid: string, timeUnixS: number) => ({ uuid, timeUnixS }) as FlowRow;
const ids = (rows: readonly FlowRow[]) => rows.map((r) => r.uuid).join("");

Deno.test("mergeRows() keeps the newest first, each flow once", () => {
  const first = mergeRows([], [row("a", 1), row("b", 2), row("a", 1)]);
  assert.equal(ids(first), "ba");
  assert.equal(ids(mergeRows(first, [row("b", 2), row("d", 4), row("c", 3)])), "dcba");
  assert.equal(mergeRows(first, []), first);
});

Deno.test("mergeRows() puts what is late where it belongs, and holds no more than it may", () => {
  const first = mergeRows([], [row("a", 1), row("c", 3)]);
  assert.equal(ids(mergeRows(first, [row("b", 2), row("d", 4)])), "dcba");
  assert.equal(ids(mergeRows(first, [row("b", 2), row("d", 4)], 2)), "dc");
});
