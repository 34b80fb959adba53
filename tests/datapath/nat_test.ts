/** Pairs of weir_nat, packet by packet: ports, collisions, lifetimes, collection, and what happens when there is no room. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { PASS, REDIRECT, type Run, SHOT, type TestNode } from "./node.ts";
import {
  ACK,
  address,
  type Bytes,
  FIN,
  packet,
  type PacketSpec,
  RST,
  SCTP,
  SYN,
  TCP,
  UDP,
} from "./packet.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const BOTH = abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6;

/** Two endpoints that are masqueraded; `out` is the way of an endpoint's packet to the wire. */
async function masquerading(entriesMax: Record<string, number> = {}) {
  const made = await twoEndpoints(entriesMax);
  made.node.writeConfig({ flags: BOTH });
  const out = (endpoint: number, spec: PacketSpec): Run => {
    const first = made.from(endpoint, spec);
    assert.equal(first.verdict, PASS, `from_endpoint: ${first.events.map((e) => e.subtype)}`);
    return made.node.run("to_netdev", first.data);
  };
  const back = (spec: PacketSpec) => made.node.run("from_netdev", packet(spec));
  return { ...made, out, back };
}
function ports(frame: Bytes): [number, number] {
  const at = frame[12] === 8 ? 34 : 54;
  const view = new DataView(frame.buffer, frame.byteOffset);
  return [view.getUint16(at), view.getUint16(at + 2)];
}
/** The packet as it should be, with the hop and the MACs that the run left it. */
function same(got: Run, spec: PacketSpec, why: string): void {
  const wanted = packet(spec);
  wanted.set(got.data.subarray(0, 12));
  assert.deepEqual(got.data, wanted, why);
}
function lifetime(node: TestNode): number[] {
  return natEntries(node).map(({ entry }) => node.lifetime(entry));
}

for (const f of FAMILIES) {
  kernelTest(
    `to_netdev() gives ${f.name} of two pods with one source port two ports, and answers find both`,
    async () => {
      const { node, out, back } = await masquerading();
      using _ = node;
      for (const protocol of [TCP, UDP]) {
        const spec = { to: f.world, protocol, sport: 40000, dport: 80, payload: [1, 2, 3] };
        const first = out(A, { from: f.a, ...spec }), second = out(B, { from: f.b, ...spec });
        same(first, { from: f.host, ...spec }, "the first keeps its port");
        const [port] = ports(second.data);
        assert.notEqual(port, 40000);
        assert.ok(port >= 32768);
        same(second, { from: f.host, ...spec, sport: port }, "the second has another");
        // the same flow has the same port
        const again = out(B, { from: f.b, ...spec, flags: ACK });
        same(again, { from: f.host, ...spec, sport: port, flags: ACK }, "again");
        for (const [to, dport] of [[f.a, 40000], [f.b, port]] as const) {
          const answer = { from: f.world, protocol, sport: 80, flags: SYN | ACK, payload: [9, 9] };
          const got = back({ ...answer, to: f.host, dport });
          assert.equal(got.verdict, REDIRECT, `${got.events.map((e) => e.subtype)}`);
          same(got, { ...answer, to, dport: 40000, ttl: 63 }, "the answer");
        }
      }
      // a port below the range is never taken
      const low = out(A, { from: f.a, to: f.world, sport: 1024, dport: 80 });
      assert.ok(ports(low.data)[0] >= 32768);
      // what nobody asked for is the host's
      assert.equal(back({ from: f.world, to: f.host, sport: 81, dport: 40000 }).verdict, PASS);
      assert.equal(natEntries(node).length, 10);
    },
  );

  kernelTest(`to_netdev() masquerades ${f.name} pings by their id and SCTP without its port`, async () => {
    const { node, out, back } = await masquerading();
    using _ = node;
    const ask = { to: f.world, protocol: f.icmp, id: 40001, payload: [1, 2] };
    same(out(A, { from: f.a, ...ask }), { from: f.host, ...ask }, "the first keeps its id");
    const second = out(B, { from: f.b, ...ask });
    const at = f.icmp === 1 ? 38 : 58;
    const id = second.data[at] << 8 | second.data[at + 1];
    assert.ok(id !== 40001 && id >= 32768);
    same(second, { from: f.host, ...ask, id }, "the second has another");
    const reply = { from: f.world, protocol: f.icmp, type: f.icmp === 1 ? 0 : 129, payload: [1, 2] };
    same(back({ ...reply, to: f.host, id }), { ...reply, to: f.b, id: 40001, ttl: 63 }, "the answer");
    const sctp = { to: f.world, protocol: SCTP, sport: 41000, dport: 80, payload: [1, 2, 3, 4] };
    same(out(A, { from: f.a, ...sctp }), { from: f.host, ...sctp }, "SCTP");
    const taken = out(B, { from: f.b, ...sctp });
    assert.deepEqual([taken.verdict, taken.events.at(-1)?.subtype], [SHOT, abi.DROP_NAT_NO_MAPPING]);
  });

  kernelTest(
    `to_netdev() drops ${f.name} with 167 when all ports are taken, or the table is full`,
    async () => {
      {
        const { node, out } = await masquerading();
        using _ = node;
        node.setShares(false);
        node.writeConfig({ natPortMin: 50000, natPortMax: 50002 });
        const spec = (sport: number) => ({ from: f.a, to: f.world, sport, dport: 80 });
        const seen = [1, 2, 3].map((sport) => ports(out(A, spec(sport)).data)[0]);
        assert.deepEqual(seen.toSorted(), [50000, 50001, 50002]);
        const none = out(A, spec(4));
        assert.deepEqual([none.verdict, none.events.at(-1)?.subtype], [SHOT, abi.DROP_NAT_NO_MAPPING]);
        assert.equal(node.counted(abi.DROP_NAT_NO_MAPPING, abi.DIRECTION_EGRESS), 1);
        assert.equal(natEntries(node).length, 6);
        // another server is another matter, and the old ones go on
        assert.equal(out(A, { ...spec(4), dport: 81 }).verdict, PASS);
        assert.equal(out(A, { ...spec(2), flags: ACK }).verdict, PASS);
      }
      const { node, out } = await masquerading({ weir_nat: 8 });
      using _ = node;
      node.setShares(false);
      let held = 0, run: Run;
      do run = out(A, { from: f.a, to: f.world, sport: 40000 + held++, dport: 80 }); while (
        run.verdict === PASS && held < 1000
      );
      assert.deepEqual([run.verdict, run.events.at(-1)?.subtype], [SHOT, abi.DROP_NAT_NO_MAPPING]);
      assert.equal(natEntries(node).length, 2 * (held - 1), "no half of a pair is left");
      assert.equal(out(A, { from: f.a, to: f.world, sport: 40000, dport: 80, flags: ACK }).verdict, PASS);
      // room is made by the collector
      const collected = node.gc(abi.GC_PRESSURE, { age: 0 });
      assert.ok(collected.natVisited >= 8);
    },
  );

  kernelTest(
    `a pair of ${f.name} lives as long as its connection's state says, both halves alike`,
    async () => {
      const { node, out, back } = await masquerading();
      using _ = node;
      const spec = { from: f.a, to: f.world, sport: 40000, dport: 80 };
      const answer = { from: f.world, to: f.host, sport: 80, dport: 40000 };
      out(A, { ...spec, flags: SYN });
      assert.deepEqual(lifetime(node), [60, 60]);
      back({ ...answer, flags: SYN | ACK });
      assert.deepEqual(lifetime(node), [60, 60]);
      out(A, { ...spec, flags: ACK });
      assert.deepEqual(lifetime(node), [8000, 8000]);
      out(A, { ...spec, flags: FIN | ACK });
      assert.deepEqual(lifetime(node), [8000, 8000]);
      back({ ...answer, flags: FIN | ACK });
      assert.deepEqual(lifetime(node), [10, 10]);
      // the same ports once more
      out(A, { ...spec, flags: SYN });
      assert.deepEqual(lifetime(node), [60, 60]);
      out(A, { ...spec, flags: RST });
      assert.deepEqual(lifetime(node), [10, 10]);
    },
  );

  kernelTest(`weir_gc removes pairs of ${f.name} by age, by address and under pressure, whole`, async () => {
    const { node, out, back } = await masquerading();
    using _ = node;
    const fill = () => {
      for (const endpoint of [A, B]) {
        const from = endpoint === A ? f.a : f.b;
        out(endpoint, { from, to: f.world, sport: 40000 + endpoint, dport: 80 });
        out(endpoint, { from, to: f.world, protocol: UDP, sport: 40000 + endpoint, dport: 53 });
      }
    };
    fill();
    const kept = node.gc(abi.GC_EXPIRED);
    assert.deepEqual([kept.natVisited, kept.natDeleted, kept.natLive], [8, 0, 8]);
    assert.equal(node.gc(abi.GC_ADDRESS, { address: f.a }).natDeleted, 4);
    const left = natEntries(node);
    assert.ok(
      left.every(({ key, entry }) =>
        [key.source, entry.destination].some((a) => a.every((byte, i) => byte === address(f.b)[i]))
      ),
    );
    fill();
    back({ from: f.world, to: f.host, protocol: UDP, sport: 53, dport: 40000 + A });
    await new Promise((done) => setTimeout(done, 50));
    assert.equal(node.gc(abi.GC_PRESSURE, { age: 3600 }).natDeleted, 0);
    assert.equal(node.gc(abi.GC_PRESSURE, { age: 0 }).natDeleted, 6);
    assert.equal(natEntries(node).length, 2);
    for (const [key, value] of node.map("weir_nat").entries()) {
      const entry = abi.NatEntry.decode(value);
      entry.expires = (entry.created - 100 * node.config.hz) >>> 0;
      node.map("weir_nat").update(key, abi.NatEntry.encode(entry));
    }
    assert.equal(node.gc(abi.GC_EXPIRED).natDeleted, 2);
    assert.equal(node.gc(abi.GC_ALL).natVisited, 0);
  });
}
