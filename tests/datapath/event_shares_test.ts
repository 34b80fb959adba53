/** Fair shares of the event ring: who floods it does not take the others' events away, and what is lost has a name. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import type { TestNode } from "./node.ts";
import { packet, type PacketSpec, SYN } from "./packet.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const RING = 256 << 10, RECORDS = Math.floor(RING / 200), CREDIT = 16;
const OUTSIDE = abi.EVENT_OUTSIDE;

/** Every event was made, refused or lost, and the ring has those that were made. */
function assertExact(node: TestNode, sent: Record<number, number>, inRing: abi.Event[]): void {
  let missing = 0;
  for (const [holder, count] of Object.entries(sent)) {
    const { made, refused, lost } = node.eventCounts(Number(holder));
    assert.equal(made + refused + lost, count, `holder ${holder}: all are counted`);
    assert.equal(inRing.filter((event) => event.holder === Number(holder)).length, made, `holder ${holder}`);
    missing += refused + lost;
  }
  assert.equal([0, 1, 4, 5].reduce((sum, type) => sum + node.lost(type), 0), missing, "and by type");
}

for (const f of FAMILIES) {
  /** Drops of what an endpoint sends from an address that is not its own (132). */
  const spoof: Record<number, PacketSpec> = { [A]: { from: f.b, to: f.a }, [B]: { from: f.a, to: f.b } };

  kernelTest(
    `${f.name}: an endpoint's flood ends at its share of the ring; others' events are all there`,
    async () => {
      const { node, devices } = await twoEndpoints({ weir_events: RING });
      using _ = node;
      const send = (endpoint: number, count: number) =>
        node.flood("from_endpoint", packet(spoof[endpoint]), count, devices[endpoint - 1]);
      send(A, 20 * RECORDS);
      const alone = node.eventCounts(A);
      // two thirds of what is beyond the first eighth, and that eighth
      assert.ok(alone.made > RECORDS * 0.6 && alone.made < RECORDS * 0.8, `${alone.made} of ${RECORDS}`);
      assert.equal(alone.lost, 0);
      send(B, 100);
      assert.deepEqual(node.eventCounts(B), { made: 100, refused: 0, lost: 0 });
      send(A, 1000);
      assert.ok(node.eventCounts(A).made <= alone.made + CREDIT, "nothing was read: nothing more for it");
      assertExact(node, { [A]: 20 * RECORDS + 1000, [B]: 100 }, node.drainEvents());
    },
  );

  kernelTest(
    `${f.name}: while the ring is read, a flood gets what is left, and others all they need`,
    async () => {
      const { node, devices } = await twoEndpoints({ weir_events: RING });
      using _ = node;
      const seen: abi.Event[] = [], rounds = 40;
      for (let round = 0; round < rounds; round++) {
        node.flood("from_endpoint", packet(spoof[A]), 5 * RECORDS, devices[0]);
        node.flood("from_endpoint", packet(spoof[B]), 20, devices[1]);
        // A reader that is too slow by far: a fifth of the ring each time.
        seen.push(...node.drainEvents(RING / 5));
      }
      seen.push(...node.drainEvents());
      const flooder = node.eventCounts(A);
      assert.deepEqual(node.eventCounts(B), { made: 20 * rounds, refused: 0, lost: 0 });
      // It is not starved either: the reader was never idle for it.
      assert.ok(flooder.made > rounds * RECORDS / 5 * 0.8, `${flooder.made}`);
      assertExact(node, { [A]: 5 * RECORDS * rounds, [B]: 20 * rounds }, seen);
    },
  );

  kernelTest(
    `${f.name}: several floods leave each other, and who comes late, a part of the ring`,
    async () => {
      const { node, devices } = await twoEndpoints({ weir_events: RING });
      using _ = node;
      const outside = packet({ from: f.world, to: f.a, sport: 7, flags: SYN });
      node.setPolicy(3, { enforceIngress: true, rules: [] });
      node.changeEndpoint(A, { policy: 3 });
      const sent = { [A]: 0, [B]: 0, [OUTSIDE + A]: 0 };
      for (let i = 0; i < 200; i++) {
        node.flood("from_endpoint", packet(spoof[A]), 100, devices[0]);
        node.flood("from_endpoint", packet(spoof[B]), 100, devices[1]);
        node.flood("from_netdev", outside, 100);
        for (const holder of [A, B, OUTSIDE + A]) sent[holder] += 100;
      }
      const made = [A, B, OUTSIDE + A].map((holder) => node.eventCounts(holder).made);
      assert.ok(Math.min(...made) > RECORDS / 8, `${made}`);
      assert.ok(Math.max(...made) < 2 * Math.min(...made), `${made}`);
      const total = made[0] + made[1] + made[2];
      assert.ok(total < RECORDS - 50, `${total} of ${RECORDS}: some is left`);
      assertExact(node, sent, node.drainEvents());
    },
  );

  kernelTest(
    `${f.name}: who claims another's address from outside takes nothing of that one's share`,
    async () => {
      const { node, devices } = await twoEndpoints({ weir_events: RING });
      using _ = node;
      // from the network with a pod's source: dropped, and charged to the outside
      node.flood("from_netdev", packet({ from: f.b, to: f.a, sport: 9, flags: SYN }), 5 * RECORDS);
      assert.deepEqual(node.eventCounts(B), { made: 0, refused: 0, lost: 0 });
      assert.deepEqual(node.eventCounts(A), { made: 0, refused: 0, lost: 0 });
      const outside = node.eventCounts(OUTSIDE).refused + node.eventCounts(OUTSIDE + A).refused;
      assert.ok(outside > 3 * RECORDS, `${outside}`);
      node.flood("from_endpoint", packet(spoof[B]), 50, devices[1]);
      node.flood("from_endpoint", packet(spoof[A]), 50, devices[0]);
      assert.deepEqual(node.eventCounts(B), { made: 50, refused: 0, lost: 0 });
      assert.deepEqual(node.eventCounts(A), { made: 50, refused: 0, lost: 0 });
    },
  );
}

kernelTest("a ring that was made anew, behind counts of the one before, is shared as well", async () => {
  const { node, devices } = await twoEndpoints({ weir_events: RING });
  using _ = node;
  const far = abi.EventShare.encode({ position: 1n << 40n, held: 1n << 40n });
  node.map("weir_event_shares").update(new Uint8Array(Uint32Array.of(A).buffer), far);
  const frame = packet({ from: "10.0.1.11", to: "10.0.1.10" });
  node.flood("from_endpoint", frame, 20 * RECORDS, devices[0]);
  const { made } = node.eventCounts(A);
  assert.ok(made > RECORDS * 0.6 && made < RECORDS * 0.8, `${made} of ${RECORDS}`);
});
