import assert from "node:assert/strict";
import { isLive } from "./liveness.ts";
import { node } from "./program.ts";

Deno.test("isLive() follows every path until the register is read or overwritten", () => {
  const nodes = [
    node(0x15, { dst: 1, target: 3 }), // if r1 == 0 goto 3
    node(0xbf, { dst: 2, src: 3 }), // r2 = r3
    node(0x05, { target: 4 }), // goto 4
    node(0xb7, { dst: 3 }), // r3 = 0
    node(0x85), // call: r1-r5 and r0 are gone
    node(0x7b, { dst: 10, src: 7, offset: -8 }), // *(u64 *)(r10 - 8) = r7
    node(0x95), // exit
  ];
  const live = (at: number) => [0, 1, 2, 3, 4, 5, 6, 7].filter((register) => isLive(nodes, at, register));
  assert.deepEqual(live(0), [1, 3, 7]);
  assert.deepEqual(live(2), [7]);
  assert.deepEqual(live(5), [0, 7]);
});
