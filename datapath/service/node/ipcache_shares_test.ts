import assert from "node:assert/strict";
import { mapped } from "../kernel/addresses.ts";
import { fairShares, sourceOf } from "./ipcache_shares.ts";

Deno.test("fairShares() gives who wants least all of it, and divides the rest evenly", () => {
  const cases: [wanted: Record<string, number>, room: number, shares: Record<string, number>][] = [
    [{ a: 3, b: 4 }, 10, { a: 3, b: 4 }],
    [{ a: 3, b: 1000 }, 10, { a: 3, b: 7 }],
    [{ a: 1000, b: 1000, c: 1 }, 11, { a: 5, b: 5, c: 1 }],
    [{ a: 1000, b: 1000, c: 1000 }, 9, { a: 3, b: 3, c: 3 }],
    [{ a: 5 }, 3, { a: 3 }],
    [{}, 3, {}],
  ];
  for (const [wanted, room, shares] of cases) {
    assert.deepEqual(Object.fromEntries(fairShares(new Map(Object.entries(wanted)), room)), shares);
  }
});

Deno.test("sourceOf() tells nodes, policies and this node apart", () => {
  const none = new Uint8Array(16);
  assert.equal(sourceOf({ identity: 1002, node: mapped("192.0.2.2") }), "node 192.0.2.2");
  assert.equal(sourceOf({ identity: (1 << 24) + 7, node: none }), "policies");
  assert.equal(sourceOf({ identity: 1002, node: none }), "this node");
});
