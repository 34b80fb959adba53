/** What outlives a packet: related errors, fragments, a full table, garbage collection, other people's addresses. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT } from "./node.ts";
import { ACK, fixIpv4, ICMP, ipPacket, packet, type PacketSpec, SYN, TCP, UDP } from "./packet.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const unreachable = (f: Family) => f.icmp === ICMP ? { type: 3, code: 3 } : { type: 1, code: 4 };
/** The error that `from` sends to `to` about a packet. */
function error(
  f: Family,
  kind: { type: number; code: number },
  from: string,
  to: string,
  about: PacketSpec,
): PacketSpec {
  return {
    from,
    to,
    protocol: f.icmp,
    ...kind,
    payload: ipPacket(about).slice(0, (f.icmp === ICMP ? 20 : 40) + 8),
  };
}

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: an ICMP error passes with the flow that it quotes, whatever policy says of errors`,
    async () => {
      const { node, from, to } = await twoEndpoints();
      using _ = node;
      const question: PacketSpec = { from: f.a, to: f.b, protocol: UDP, sport: 5, dport: 53 };
      assert.equal(from(A, question).verdict, REDIRECT);
      node.setPolicy(1, { enforceIngress: true, ingressCookie: 1, rules: [] });
      node.setPolicy(2, { enforceEgress: true, rules: [] });
      node.changeEndpoint(A, { policy: 1 });
      node.changeEndpoint(B, { policy: 2 });
      const related = from(B, error(f, unreachable(f), f.b, f.a, question));
      assert.deepEqual([related.verdict, related.events[0].reason], [REDIRECT, abi.REASON_RELATED]);
      // from a router on the way, by the stack
      assert.equal(from(A, { ...question, to: f.world }).verdict, PASS);
      assert.equal(to(A, error(f, unreachable(f), f.world, f.a, { ...question, to: f.world })).verdict, PASS);
      assert.equal(node.flows().length, 2);
      // an error about an echo
      const echo: PacketSpec = { from: f.a, to: f.b, protocol: f.icmp, id: 9 };
      assert.equal(from(A, echo).verdict, REDIRECT);
      assert.equal(from(B, error(f, unreachable(f), f.b, f.a, echo)).verdict, REDIRECT);
    },
  );

  kernelTest(`${f.name}: fragments follow their first one, and may be forbidden`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceIngress: true, rules: [{ direction: "ingress", protocol: UDP, port: 53 }] });
    node.changeEndpoint(B, { policy: 1 });
    const v6 = f.name === "IPv6";
    const piece = (position: number, more: boolean, id: number, dport = 53): PacketSpec => {
      const payload = Array(64).fill(1);
      const upper = position === 0 ? [0, 5, 0, dport, 1, 0, 0, 0, ...payload] : payload;
      const field = position << 3 | (more ? 1 : 0);
      return v6
        ? {
          from: f.a,
          to: f.b,
          protocol: UDP,
          nextHeader: 44,
          options: [UDP, 0, field >> 8, field & 255, 0, 0, 0, id],
          upper,
        }
        : {
          from: f.a,
          to: f.b,
          protocol: UDP,
          datagram: id,
          fragment: position | (more ? 0x2000 : 0),
          upper,
        };
    };
    assert.equal(from(A, piece(0, true, 1)).verdict, REDIRECT);
    assert.equal(from(A, piece(9, true, 1)).verdict, REDIRECT);
    assert.equal(from(A, piece(18, false, 1)).verdict, REDIRECT);
    assert.equal(node.flows().length, 1);
    // denied ones are denied in every piece
    assert.equal(from(A, piece(0, true, 2, 54)).verdict, SHOT);
    assert.equal(from(A, piece(9, false, 2, 54)).verdict, SHOT);
    assert.equal(node.counted(abi.DROP_POLICY), 2);
    node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_NO_FRAGMENTS });
    assert.equal(from(A, piece(0, true, 3)).verdict, SHOT);
    assert.equal(node.counted(abi.DROP_FRAG_NOSUPPORT), 1);
  });

  kernelTest(
    `${f.name}: a full conntrack table drops new flows (155) and keeps the established ones`,
    async () => {
      const { node, from } = await twoEndpoints({ weir_ct: 64 });
      using _ = node;
      node.setShares(false);
      const flow = (i: number, flags = SYN) => from(A, { from: f.a, to: f.b, sport: 1000 + i, flags });
      let taken = 0;
      while (flow(taken).verdict === REDIRECT) taken++;
      assert.ok(taken >= 64 && taken < 200, `${taken}`);
      assert.equal(node.counted(abi.DROP_CT_CREATE_FAILED), 1);
      assert.equal(from(A, { from: f.a, to: f.b, sport: 9 }).events[0].subtype, abi.DROP_CT_CREATE_FAILED);
      for (let i = 0; i < taken; i++) assert.equal(flow(i, ACK).verdict, REDIRECT);
      // what nobody answered goes first: only those that have seen an answer stay
      from(B, { from: f.b, to: f.a, sport: 80, dport: 1000, flags: SYN | ACK });
      node.expireFlows();
      const gc = node.gc(abi.GC_EXPIRED);
      assert.deepEqual([gc.deleted, gc.live], [taken, 0]);
      assert.equal(flow(1).verdict, REDIRECT);
    },
  );

  kernelTest(`weir_gc removes ${f.name} flows by age, endpoint and address, and nothing else`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    from(A, { from: f.a, to: f.b });
    from(A, { from: f.a, to: f.world });
    from(B, { from: f.b, to: f.remote });
    assert.deepEqual({ ...node.gc(abi.GC_EXPIRED), address: 0 }, {
      mode: 0,
      endpoint: 0,
      address: 0,
      age: 0,
      ageOver: 0,
      heldMax: 0,
      visited: 3,
      deleted: 0,
      live: 3,
      natDeleted: 0,
      natLive: 0,
      natVisited: 0,
    });
    assert.equal(node.gc(abi.GC_PRESSURE, { age: 3600 }).deleted, 0);
    assert.equal(node.gc(abi.GC_ADDRESS, { address: f.remote }).deleted, 1);
    assert.equal(node.gc(abi.GC_ENDPOINT, { endpoint: B }).deleted, 1);
    assert.equal(node.gc(abi.GC_ALL).deleted, 1);
    // an expired flow is a new one for policy, in either direction
    from(A, { from: f.a, to: f.b });
    node.expireFlows();
    node.setPolicy(1, { enforceIngress: true, rules: [] });
    node.changeEndpoint(A, { policy: 1 });
    assert.equal(from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: ACK }).verdict, SHOT);
  });
}

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: no endpoint can take over another's flow, by a forged error or by its far end's address`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const question: PacketSpec = { from: f.a, to: f.world, protocol: UDP, sport: 5, dport: 53 };
      assert.equal(from(A, question).verdict, PASS);
      const before = node.flows()[0].entry.ends.map((end) => end.endpoint);
      node.setPolicy(1, { enforceEgress: true, rules: [] });
      node.changeEndpoint(B, { policy: 1 });
      // B speaks of A's flow with the world: judged as B's own packet
      const forged = from(B, error(f, unreachable(f), f.b, f.a, question));
      assert.deepEqual([forged.verdict, forged.events[0].subtype], [SHOT, abi.DROP_ICMP_ERROR_FLOW]);
      node.changeEndpoint(B, { policy: 0, flags: abi.ENDPOINT_PEER | abi.ENDPOINT_NO_SOURCE_CHECK });
      from(B, error(f, unreachable(f), f.b, f.a, question));
      const far = from(B, { from: f.world, to: f.a, protocol: UDP, sport: 53, dport: 5 });
      assert.deepEqual([far.verdict, far.events[0].subtype], [SHOT, abi.DROP_INVALID_SIP]);
      assert.deepEqual(node.flows()[0].entry.ends.map((end) => end.endpoint), before);
      assert.equal(from(A, question).verdict, PASS);
    },
  );
}

kernelTest("an endpoint that may use other addresses may not use those of others", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  node.changeEndpoint(A, { flags: abi.ENDPOINT_PEER | abi.ENDPOINT_NO_SOURCE_CHECK });
  assert.equal(from(A, { from: "203.0.113.9", to: "10.0.1.11" }).verdict, REDIRECT);
  for (const foreign of ["10.0.1.11", "192.0.2.1", "10.0.1.1"]) {
    const run = from(A, { from: foreign, to: "198.51.100.7" });
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, abi.DROP_INVALID_SIP], foreign);
  }
});

kernelTest("a tap gets its packets by its own device, marked as judged", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  node.changeEndpoint(B, { flags: 0 });
  const run = from(A, { from: "10.0.1.10", to: "10.0.1.11" });
  assert.deepEqual([run.verdict, run.mark], [REDIRECT, abi.MARK_DELIVERED]);
});

kernelTest("a flow that came through the stack is answered through the stack", async () => {
  const { node, from, to } = await twoEndpoints();
  using _ = node;
  assert.equal(to(B, { from: "10.0.1.10", to: "10.0.1.11" }).verdict, PASS);
  const answer = from(B, { from: "10.0.1.11", to: "10.0.1.10", sport: 80, dport: 40000, flags: SYN | ACK });
  assert.deepEqual([answer.verdict, answer.data[22]], [PASS, 64]);
});

kernelTest("aggregation: a trace for every packet at level 0, at level 3 by flags and interval", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  const send = () => from(A, { from: "10.0.1.10", to: "10.0.1.11", flags: ACK }).events.map((e) => e.type);
  assert.deepEqual(send(), [abi.EVENT_POLICY_VERDICT]);
  assert.deepEqual(send(), []);
  node.writeConfig({ aggregation: 0 });
  assert.deepEqual(send(), [abi.EVENT_TRACE]);
  node.writeConfig({ aggregation: 3, reportInterval: 0 });
  assert.deepEqual(send(), [abi.EVENT_TRACE]);
});

kernelTest("counters are exact and what the ring cannot take is counted by kind", async () => {
  const { node, devices } = await twoEndpoints({ weir_events: 4096 });
  using _ = node;
  const frame = packet({ from: "10.0.1.11", to: "10.0.1.10", protocol: TCP });
  const ctx = new Uint8Array(192);
  new DataView(ctx.buffer).setUint32(40, devices[0], true);
  node.program("from_endpoint").testRun({ data: frame, ctx, repeat: 1000 });
  assert.equal(node.counted(abi.DROP_INVALID_SIP), 1000);
  const kept = node.drainEvents().length;
  assert.ok(kept > 0 && kept < 1000);
  assert.equal(kept + node.lost(abi.EVENT_DROP), 1000);
  assert.equal(node.endpointCounters(A).droppedBytes, 1000n * BigInt(frame.length));
});

kernelTest("IPv4 options are skipped, not an obstacle", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  const run = from(A, { from: "10.0.1.10", to: "10.0.1.11", options: [7, 3, 4, 0] });
  assert.equal(run.verdict, REDIRECT);
  assert.deepEqual([...fixIpv4(run.data.slice())], [...run.data]);
});
