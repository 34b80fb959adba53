import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { ROLL_CALL_MS, RollCall } from "./roll_call.ts";

/** Looks once, without time passing. */
async function isOver(rollCall: RollCall): Promise<boolean> {
  return await rollCall.wait(AbortSignal.abort());
}

Deno.test("RollCall waits for every node of the cluster, and for one that says nothing no longer than its time", async () => {
  const clock = new FakeClock(), names = new Set(["node-1", "node-2"]);
  const rollCall = new RollCall({ clock, nodes: () => names });
  rollCall.begin();
  rollCall.heard("node-1");
  assert.deepEqual([await isOver(rollCall), rollCall.missing()], [false, ["node-2"]]);
  await clock.advance(ROLL_CALL_MS - 1);
  rollCall.begin();
  assert.equal(await isOver(rollCall), false);
  await clock.advance(1);
  assert.equal(await isOver(rollCall), true, "a node that is down holds up nobody for ever");
  names.add("node-4");
  assert.equal(await isOver(rollCall), true, "once over it does not begin again");
});

Deno.test("RollCall is over at once where there are no nodes, and with the last of them", async () => {
  const clock = new FakeClock();
  assert.equal(await isOver(new RollCall({ clock, nodes: () => [] })), true);
  assert.equal(await isOver(new RollCall({ clock, nodes: () => undefined })), true);
  const rollCall = new RollCall({ clock, nodes: () => ["node-1"] });
  assert.equal(await isOver(rollCall), false);
  rollCall.heard("node-1");
  assert.equal(await isOver(rollCall), true);
});

Deno.test("RollCall answers a request that waits for too long", async () => {
  const clock = new FakeClock(), rollCall = new RollCall({ clock, nodes: () => ["node-1"] });
  const answer = rollCall.wait(new AbortController().signal);
  await clock.advance(3000);
  assert.equal(await answer, false);
});
