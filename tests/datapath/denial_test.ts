/** A denial that is repeated from memory says the same as the first, and ends with what it rested on. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { REDIRECT, type Run, SHOT } from "./node.ts";
import { ACK, type PacketSpec, SYN, TCP, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const only = (port: number) => ({
  enforceEgress: true,
  egressCookie: 5,
  rules: [{ direction: "egress" as const, protocol: TCP, port }],
});
const said = (run: Run) => run.events.map((event) => ({ ...event, time: 0n, payload: [...event.payload] }));

for (const f of FAMILIES) {
  kernelTest(`${f.name}: a repeated denial is counted and reported like the first`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, only(80));
    node.setPolicy(2, {
      enforceIngress: true,
      ingressCookie: 6,
      rules: [{ direction: "ingress", deny: true, protocol: UDP, port: 53, cookie: 7 }],
    });
    node.changeEndpoint(B, { policy: 2 });
    // denied by the receiver's rule, by its default, and then by the sender's default
    const cases: [number, PacketSpec, number][] = [
      [0, { from: f.a, to: f.b, protocol: UDP, dport: 53 }, abi.DROP_POLICY_DENY],
      [0, { from: f.a, to: f.b, dport: 81, flags: SYN }, abi.DROP_POLICY],
      [1, { from: f.a, to: f.remote, dport: 81, flags: SYN }, abi.DROP_POLICY],
      [1, { from: f.a, to: f.world, dport: 81, flags: SYN }, abi.DROP_POLICY],
    ];
    for (const [policy, spec, reason] of cases) {
      node.changeEndpoint(A, { policy });
      const before = node.counted(reason);
      const first = from(A, spec);
      assert.deepEqual([first.verdict, first.events.length, first.events[0].subtype], [SHOT, 1, reason]);
      for (const flags of [SYN, ACK, SYN]) {
        const again = from(A, { ...spec, flags });
        assert.equal(again.verdict, SHOT);
        if (flags === SYN) assert.deepEqual(said(again), said(first));
      }
      assert.equal(node.counted(reason), before + 4);
    }
    assert.equal(node.endpointCounters(A).droppedPackets, 16n);
    assert.equal(node.flows().length, 0);
  });

  kernelTest(`${f.name}: a denial ends with the policy, identity or address that it rested on`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, only(80));
    node.setPolicy(2, only(81));
    const denied = (to: string) => {
      for (let i = 0; i < 2; i++) {
        assert.equal(from(A, { from: f.a, to, dport: 81, flags: SYN }).verdict, SHOT);
      }
    };
    const passes = (to: string) => {
      assert.notEqual(from(A, { from: f.a, to, dport: 81, flags: SYN }).verdict, SHOT);
      node.gc(abi.GC_ALL);
    };
    // its own policy
    for (const to of [f.b, f.remote, f.world]) {
      node.changeEndpoint(A, { policy: 1 });
      denied(to);
      node.changeEndpoint(A, { policy: 2 });
      passes(to);
    }
    // the receiver's
    node.changeEndpoint(A, { policy: 0 });
    node.setPolicy(3, {
      enforceIngress: true,
      rules: [{ direction: "ingress", identity: 4000, protocol: TCP }],
    });
    node.changeEndpoint(B, { policy: 3 });
    denied(f.b);
    node.changeEndpoint(B, { policy: 0 });
    passes(f.b);
    // the sender's identity, and the receiver's
    node.changeEndpoint(B, { policy: 3 });
    denied(f.b);
    node.changeEndpoint(A, { identity: 4000 });
    passes(f.b);
    node.setPolicy(4, {
      enforceEgress: true,
      rules: [{ direction: "egress", identity: 4001, protocol: TCP }],
    });
    node.changeEndpoint(B, { policy: 0 });
    node.changeEndpoint(A, { policy: 4 });
    denied(f.b);
    node.changeEndpoint(B, { identity: 4001 });
    passes(f.b);
    // who is at a far address
    denied(f.remote);
    node.setIpcache(f.remote, 4001, "192.0.2.2");
    passes(f.remote);
    // the other direction of the same tuple is another question
    node.changeEndpoint(A, { policy: 1 });
    denied(f.b);
    assert.equal(from(B, { from: f.b, to: f.a, sport: 81, dport: 40000, flags: SYN }).verdict, REDIRECT);
  });

  kernelTest(`${f.name}: a service that comes takes over what was denied, after a second`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const vip = f.name === "IPv4" ? "10.96.0.9" : "fd00:96::9";
    node.setPolicy(1, {
      enforceEgress: true,
      rules: [{ direction: "egress", identity: 1001, protocol: TCP, port: 8080 }],
    });
    node.changeEndpoint(A, { policy: 1 });
    const ask = () => from(A, { from: f.a, to: vip, dport: 80, flags: SYN }).verdict;
    assert.deepEqual([ask(), ask()], [SHOT, SHOT]);
    setBackend(node, { id: 1, address: f.b, port: 8080 });
    setSelection(node, 1, [1]);
    setFrontend(node, { address: vip, port: 80, service: 7, internal: 1 });
    await new Promise((done) => setTimeout(done, 1100));
    assert.equal(ask(), REDIRECT);
  });
}
