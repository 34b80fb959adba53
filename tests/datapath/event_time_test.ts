/** When a record of the ring was made: exact, but in a flood, where some share a reading of the clock. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import type { TestNode } from "./node.ts";
import { packet, SYN } from "./packet.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** Records of a CPU with one time, at most: EVENT_CLOCK_SHARED and the one that read it. */
const SHARED_MAX = 8;

function clock(node: TestNode): bigint {
  return abi.ClockSample.decode(node.program("weir_clock").testRun({ ctx: new Uint8Array(16) }).ctx).time;
}

for (const f of FAMILIES) {
  kernelTest(`${f.name}: records of a flood share readings of the clock, others do not`, async () => {
    const { node, devices } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceEgress: true, rules: [] });
    node.changeEndpoint(A, { policy: 1 });
    const denied = packet({ from: f.a, to: f.b, flags: SYN });

    const begin = clock(node);
    node.flood("from_endpoint", denied, 5000, devices[0]);
    const end = clock(node);
    const times = node.drainEvents().map((event) => event.time);
    assert.equal(times.length, 5000);
    const uses = new Map<bigint, number>();
    for (const time of times) {
      assert.ok(time >= begin && time <= end, "of this flood");
      uses.set(time, (uses.get(time) ?? 0) + 1);
    }
    assert.ok(uses.size < times.length, "shared");
    assert.ok(Math.max(...uses.values()) <= SHARED_MAX);

    // What comes when the flood is over, in another tick of the clock, has a time of its own.
    for (let i = 0; i < 3; i++) {
      await new Promise((done) => setTimeout(done, 30));
      const before = clock(node),
        { events } = node.run("from_endpoint", denied, devices[0]),
        after = clock(node);
      assert.equal(events.length, 1);
      assert.ok(events[0].time >= before && events[0].time <= after, "exact");
    }
  });
}
