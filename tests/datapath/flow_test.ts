import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT } from "./node.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";
import {
  ACK,
  FIN,
  ICMP,
  ipv4ChecksumRight,
  macBytes,
  packet,
  type PacketSpec,
  RST,
  SCTP,
  SYN,
  TCP,
  UDP,
} from "./packet.ts";

for (const f of FAMILIES) {
  kernelTest(
    `from_endpoint() hands ${f.name} to the pod on the same node, with its MACs and one hop less`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const run = from(A, { from: f.a, to: f.b });
      assert.equal(run.verdict, REDIRECT);
      assert.deepEqual(run.data.subarray(0, 6), macBytes("02:00:00:00:01:02"));
      assert.deepEqual(run.data.subarray(6, 12), macBytes("02:00:00:00:02:02"));
      assert.equal(run.data[f.ttlAt], 63);
      if (f.name === "IPv4") assert.ok(ipv4ChecksumRight(run.data));
      assert.equal(node.flows().length, 1);
      const { entry } = node.flows()[0];
      assert.deepEqual(entry.ends.map((end) => [end.endpoint, end.identity]), [[A, 1000], [B, 1001]]);
      assert.equal(run.events.length, 1);
      const event = run.events[0];
      assert.equal(event.type, abi.EVENT_POLICY_VERDICT);
      assert.equal(event.subtype, abi.TRACE_TO_LXC);
      assert.deepEqual([event.sourceEndpoint, event.destinationEndpoint], [A, B]);
      assert.deepEqual([event.sourceIdentity, event.destinationIdentity], [1000, 1001]);
      // the answer: one entry, and traced once as the first of its direction
      const reply = from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: SYN | ACK });
      assert.equal(reply.verdict, REDIRECT);
      assert.deepEqual(reply.events.map((e) => [e.type, e.reason]), [[abi.EVENT_TRACE, abi.REASON_REPLY]]);
      assert.equal(node.flows().length, 1);
      assert.deepEqual(from(A, { from: f.a, to: f.b, flags: ACK }).events, []);
      assert.equal(node.endpointCounters(A).txPackets, 2n);
      assert.equal(node.endpointCounters(B).rxPackets, 2n);
      assert.equal(node.counted(0, abi.DIRECTION_INGRESS), 3);
    },
  );

  kernelTest(
    `from_endpoint() asks both ends' policies about ${f.name}, and replies need no rule`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.setPolicy(1, {
        enforceEgress: true,
        egressCookie: 70,
        rules: [{ direction: "egress", identity: 1001, protocol: TCP, port: 80, cookie: 71 }],
      });
      node.setPolicy(2, {
        enforceIngress: true,
        ingressCookie: 80,
        rules: [{ direction: "ingress", identity: 1000, protocol: TCP, port: 80, cookie: 81 }],
      });
      node.changeEndpoint(A, { policy: 1 });
      node.changeEndpoint(B, { policy: 2 });
      const allowed = from(A, { from: f.a, to: f.b });
      assert.equal(allowed.verdict, REDIRECT);
      const e = allowed.events[0];
      assert.deepEqual([e.egressCookie, e.ingressCookie], [71, 81]);
      assert.deepEqual([e.egressMatch, e.ingressMatch], [abi.MATCH_L3_L4, abi.MATCH_L3_L4]);
      assert.equal(
        e.flags & (abi.EVENT_EGRESS_VERDICT | abi.EVENT_INGRESS_VERDICT),
        abi.EVENT_EGRESS_VERDICT | abi.EVENT_INGRESS_VERDICT,
      );
      assert.equal(
        from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: SYN | ACK }).verdict,
        REDIRECT,
      );
      // other port: A's own policy refuses
      const egress = from(A, { from: f.a, to: f.b, dport: 81 });
      assert.equal(egress.verdict, SHOT);
      assert.deepEqual([egress.events[0].subtype, egress.events[0].egressCookie], [abi.DROP_POLICY, 70]);
      // B opens: nothing of B's egress is enforced, A's ingress neither
      assert.equal(from(B, { from: f.b, to: f.a, sport: 5, dport: 6 }).verdict, REDIRECT);
      // B's ingress refuses: A may send to 82, B does not take it
      node.setPolicy(3, { enforceEgress: true, rules: [{ direction: "egress", cookie: 72 }] });
      node.changeEndpoint(A, { policy: 3 });
      const ingress = from(A, { from: f.a, to: f.b, dport: 82 });
      assert.equal(ingress.verdict, SHOT);
      assert.deepEqual([
        ingress.events[0].subtype,
        ingress.events[0].ingressCookie,
        ingress.events[0].egressCookie,
      ], [abi.DROP_POLICY, 80, 72]);
      assert.equal(node.counted(abi.DROP_POLICY), 2);
      assert.equal(node.endpointCounters(A).droppedPackets, 2n);
    },
  );

  kernelTest(
    `a changed policy bites on the next ${f.name} packet of a running flow, in both directions`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const forward = { from: f.a, to: f.b, flags: ACK },
        back = { from: f.b, to: f.a, sport: 80, dport: 40000, flags: ACK };
      assert.equal(from(A, { ...forward, flags: SYN }).verdict, REDIRECT);
      assert.equal(from(B, { ...back, flags: SYN | ACK }).verdict, REDIRECT);
      node.setPolicy(1, {
        enforceIngress: true,
        ingressCookie: 9,
        rules: [{ direction: "ingress", identity: 1000, deny: true, cookie: 5 }],
      });
      node.changeEndpoint(B, { policy: 1 });
      const denied = from(A, forward);
      assert.equal(denied.verdict, SHOT);
      assert.deepEqual([denied.events[0].subtype, denied.events[0].ingressCookie], [abi.DROP_POLICY_DENY, 5]);
      assert.equal(from(B, back).verdict, SHOT);
      node.changeEndpoint(B, { policy: 0 });
      assert.equal(from(A, forward).verdict, REDIRECT);
      assert.equal(from(B, back).verdict, REDIRECT);
      // relabelled: A is another identity now
      node.setPolicy(2, {
        enforceIngress: true,
        rules: [{ direction: "ingress", identity: 1000, protocol: TCP, port: 80 }],
      });
      node.changeEndpoint(B, { policy: 2 });
      assert.equal(from(A, forward).verdict, REDIRECT);
      node.changeEndpoint(A, { identity: 2000 });
      assert.equal(from(A, forward).verdict, SHOT);
      assert.equal(from(B, back).verdict, SHOT);
    },
  );

  kernelTest(
    `from_endpoint() sends ${f.name} for another node into the tunnel, and for the world to the stack`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const remote = from(A, { from: f.a, to: f.remote });
      assert.equal(remote.verdict, REDIRECT);
      assert.equal(remote.mark, abi.MARK_OVERLAY);
      assert.equal(remote.data[f.ttlAt], 63);
      assert.equal(remote.events[0].destinationIdentity, 1002);
      assert.ok(node.flows()[0].entry.flags & abi.CT_TUNNEL);
      const world = from(A, { from: f.a, to: f.world });
      assert.equal(world.verdict, PASS);
      assert.equal(world.data[f.ttlAt], 64);
      assert.equal(world.events[0].destinationIdentity, f.name === "IPv4" ? 9 : 10);
      const host = from(A, { from: f.a, to: f.host });
      assert.equal(host.verdict, PASS);
      assert.equal(host.events[0].destinationIdentity, 1);
      // the ipcache changes: the flow to the other node is judged anew
      node.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress", identity: 1002 }] });
      node.changeEndpoint(A, { policy: 1 });
      assert.equal(from(A, { from: f.a, to: f.remote, flags: ACK }).verdict, REDIRECT);
      node.setIpcache(f.remote, 1003, "192.0.2.2");
      assert.equal(from(A, { from: f.a, to: f.remote, flags: ACK }).verdict, SHOT);
      // direct routing: to the stack, without a hop of ours
      node.changeEndpoint(A, { policy: 0 });
      node.writeConfig({ flags: abi.CONFIG_DIRECT });
      node.bumpIpcache();
      const direct = from(A, { from: f.a, to: f.remote, flags: ACK });
      assert.deepEqual([direct.verdict, direct.data[f.ttlAt]], [PASS, 64]);
      node.writeConfig({ flags: abi.CONFIG_DIRECT | abi.CONFIG_REDIRECT_NEIGH });
      const neighbour = from(A, { from: f.a, to: f.remote, flags: ACK });
      assert.deepEqual([neighbour.verdict, neighbour.data[f.ttlAt]], [REDIRECT, 63]);
    },
  );

  kernelTest(
    `to_endpoint() judges ${f.name} by its source, lets the host in, and passes what was judged`,
    async () => {
      const { node, to, from } = await twoEndpoints();
      using _ = node;
      node.setPolicy(1, {
        enforceIngress: true,
        ingressCookie: 3,
        rules: [{ direction: "ingress", identity: 4242, cookie: 4 }],
      });
      node.changeEndpoint(A, { policy: 1 });
      const host = to(A, { from: f.host, to: f.a });
      assert.equal(host.verdict, PASS);
      assert.equal(host.events[0].sourceIdentity, 1);
      const world = to(A, { from: f.world, to: f.a });
      assert.equal(world.verdict, SHOT);
      assert.deepEqual([world.events[0].subtype, world.events[0].ingressCookie], [abi.DROP_POLICY, 3]);
      node.setIpcache(f.world + (f.name === "IPv4" ? "/32" : "/128"), 4242);
      assert.equal(to(A, { from: f.world, to: f.a }).verdict, PASS);
      // an answer to what A asked needs no rule
      assert.equal(
        from(A, {
          from: f.a,
          to: "198.51.100.9".replace(/.*/, f.name === "IPv4" ? "198.51.100.9" : "2001:db8:9::9"),
          sport: 1,
          dport: 2,
        }).verdict,
        PASS,
      );
      assert.equal(
        to(A, {
          from: f.name === "IPv4" ? "198.51.100.9" : "2001:db8:9::9",
          to: f.a,
          sport: 2,
          dport: 1,
          flags: SYN | ACK,
        }).verdict,
        PASS,
      );
      const marked = to(A, { from: f.remote, to: f.a }, abi.MARK_DELIVERED);
      assert.deepEqual([marked.verdict, marked.mark, marked.events.length], [PASS, 0, 0]);
    },
  );

  kernelTest(
    `from_netdev() hands ${f.name} of other machines to endpoints by policy, and leaves the host's alone`,
    async () => {
      const { node } = await twoEndpoints();
      using _ = node;
      const run = (spec: PacketSpec) => node.run("from_netdev", packet(spec), 1);
      const delivered = run({ from: f.world, to: f.a });
      assert.equal(delivered.verdict, REDIRECT);
      assert.deepEqual(delivered.data.subarray(0, 6), macBytes("02:00:00:00:01:01"));
      assert.equal(delivered.data[f.ttlAt], 63);
      assert.deepEqual([
        run({ from: f.world, to: f.host }).verdict,
        run({ from: f.world, to: f.world }).verdict,
      ], [PASS, PASS]);
      // nobody else has our addresses
      for (const spoofed of [f.b, f.host]) {
        const drop = run({ from: spoofed, to: f.a, sport: 99 });
        assert.equal(drop.verdict, SHOT);
        assert.equal(drop.events[0].subtype, abi.DROP_INVALID_SIP);
      }
    },
  );

  kernelTest(`TCP ${f.name}: FIN and RST close a flow, and a SYN on it is a new one`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const flags = () => node.flows()[0].entry.flags;
    const lifetime = () => node.lifetime(node.flows()[0].entry);
    from(A, { from: f.a, to: f.b });
    assert.equal(lifetime(), 60);
    from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: SYN | ACK });
    from(A, { from: f.a, to: f.b, flags: ACK });
    assert.equal(lifetime(), 8000);
    from(A, { from: f.a, to: f.b, flags: FIN | ACK });
    assert.ok(flags() & abi.CT_CLOSING_FORWARD);
    assert.equal(lifetime(), 8000);
    from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: FIN | ACK });
    assert.equal(lifetime(), 10);
    // B opens to A with the same ports: B's flow now, judged by A's ingress
    node.setPolicy(1, { enforceIngress: true, rules: [] });
    node.changeEndpoint(A, { policy: 1 });
    assert.equal(from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: SYN }).verdict, SHOT);
    node.changeEndpoint(A, { policy: 0 });
    const again = from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: SYN });
    assert.equal(again.events[0].type, abi.EVENT_POLICY_VERDICT);
    assert.equal(node.flows().length, 1);
    assert.equal(node.flows()[0].entry.ends[0].endpoint, B);
    from(A, { from: f.a, to: f.b, flags: RST });
    assert.equal(
      flags() & (abi.CT_CLOSING_FORWARD | abi.CT_CLOSING_REVERSE),
      abi.CT_CLOSING_FORWARD | abi.CT_CLOSING_REVERSE,
    );
  });

  kernelTest(
    `${f.name}: UDP, SCTP and ping are tracked; an echo of the other side with the same id is its own flow`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.setPolicy(1, { enforceIngress: true, rules: [] });
      node.changeEndpoint(A, { policy: 1 });
      for (const protocol of [UDP, SCTP]) {
        assert.equal(from(A, { from: f.a, to: f.b, protocol, sport: 5, dport: 53 }).verdict, REDIRECT);
        assert.equal(from(B, { from: f.b, to: f.a, protocol, sport: 53, dport: 5 }).verdict, REDIRECT);
        assert.equal(from(B, { from: f.b, to: f.a, protocol, sport: 53, dport: 6 }).verdict, SHOT);
      }
      const request = f.icmp === ICMP ? 8 : 128, answer = f.icmp === ICMP ? 0 : 129;
      const ping = from(A, { from: f.a, to: f.b, protocol: f.icmp, type: request, id: 77 });
      assert.deepEqual([ping.verdict, ping.events[0].policyPort], [REDIRECT, request]);
      assert.equal(from(B, { from: f.b, to: f.a, protocol: f.icmp, type: answer, id: 77 }).verdict, REDIRECT);
      assert.equal(from(B, { from: f.b, to: f.a, protocol: f.icmp, type: request, id: 77 }).verdict, SHOT);
      // policy by type, in the port's place
      node.setPolicy(2, {
        enforceIngress: true,
        rules: [{ direction: "ingress", protocol: f.icmp, port: request, cookie: 6 }],
      });
      node.changeEndpoint(A, { policy: 2 });
      const allowed = from(B, { from: f.b, to: f.a, protocol: f.icmp, type: request, id: 78 });
      assert.deepEqual([allowed.verdict, allowed.events[0].ingressCookie], [REDIRECT, 6]);
    },
  );
}
