import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { decapsulator } from "./decapsulator.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT } from "./node.ts";
import { ACK, macBytes, packet, type PacketSpec, SYN } from "./packet.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

for (const f of FAMILIES) {
  kernelTest(
    `from_overlay() takes the sender's identity from the VNI and asks ${f.name}'s ingress policy`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      node.setPolicy(1, {
        enforceIngress: true,
        ingressCookie: 8,
        rules: [{ direction: "ingress", identity: 1002, protocol: 6, port: 80, cookie: 9 }],
      });
      node.changeEndpoint(A, { policy: 1 });
      const allowed = run(1002, { from: f.remote, to: f.a });
      assert.equal(allowed.verdict, REDIRECT);
      assert.deepEqual(allowed.data.subarray(0, 6), macBytes("02:00:00:00:01:01"));
      assert.equal(allowed.data[f.ttlAt], 63);
      assert.deepEqual([allowed.events[0].sourceIdentity, allowed.events[0].ingressCookie], [1002, 9]);
      assert.equal(allowed.events[0].flags & abi.EVENT_INGRESS, abi.EVENT_INGRESS);
      // the answer goes back to the node that the tunnel named
      const answer = from(A, { from: f.a, to: f.remote, sport: 80, dport: 40000, flags: SYN | ACK });
      assert.deepEqual([answer.verdict, answer.mark], [REDIRECT, abi.MARK_OVERLAY]);
      assert.deepEqual([...node.flows()[0].entry.node.subarray(12)], [192, 0, 2, 2]);
      // under another identity than the ipcache's it is nobody's; when that changes, the flow is judged anew
      const changed = run(1003, { from: f.remote, to: f.a, flags: ACK });
      assert.deepEqual([changed.verdict, changed.events[0].subtype], [SHOT, abi.DROP_INVALID_IDENTITY]);
      node.setIpcache(f.remote, 1003, "192.0.2.2");
      const other = run(1003, { from: f.remote, to: f.a, flags: ACK });
      assert.deepEqual([other.verdict, other.events[0].subtype], [SHOT, abi.DROP_POLICY]);
      node.setIpcache(f.remote, 1002, "192.0.2.2");
      assert.equal(run(1002, { from: f.remote, to: f.a, flags: ACK }).verdict, REDIRECT);
      const world = run(2, { from: f.world, to: f.a, sport: 7 });
      assert.deepEqual([world.verdict, world.events[0].sourceIdentity], [SHOT, f.name === "IPv4" ? 9 : 10]);
    },
  );

  kernelTest(`from_overlay() refuses ${f.name} that nobody can have sent`, async () => {
    const { node } = await twoEndpoints();
    using _ = node;
    const { object, run } = await decapsulator(node);
    using __ = object;
    const cases: [string, number, number, PacketSpec][] = [
      ["identity host", abi.DROP_INVALID_IDENTITY, 1, { from: f.remote, to: f.a }],
      ["identity 0", abi.DROP_INVALID_IDENTITY, 0, { from: f.remote, to: f.a }],
      ["an address of this node's pods", abi.DROP_INVALID_SIP, 1002, { from: f.b, to: f.a }],
      ["an address of this node", abi.DROP_INVALID_SIP, 1002, { from: f.host, to: f.a }],
      ["to a pod that is gone", abi.DROP_UNROUTABLE, 1002, { from: f.remote, to: f.world }],
    ];
    for (const [name, reason, vni, spec] of cases) {
      const result = run(vni, spec);
      assert.deepEqual([result.verdict, result.events.at(-1)!.subtype], [SHOT, reason], name);
    }
    assert.equal(run(1002, { from: f.remote, to: f.host }).verdict, PASS);
    // reported as dropped; the stack drops it and tells the sender
    const exceeded = run(1002, { from: f.remote, to: f.a, ttl: 1 });
    assert.deepEqual([exceeded.verdict, exceeded.events.at(-1)!.subtype, exceeded.data[f.ttlAt]], [
      PASS,
      abi.DROP_TTL_EXCEEDED,
      1,
    ]);
    const bare = node.run("from_overlay", packet({ from: f.remote, to: f.a }));
    assert.deepEqual([bare.verdict, bare.events[0].subtype], [SHOT, abi.DROP_TUNNEL_DEVICE]);
  });

  kernelTest(`to_overlay() gives the host's ${f.name} its key, and drops what has no node`, async () => {
    const { node } = await twoEndpoints();
    using _ = node;
    assert.equal(node.run("to_overlay", packet({ from: f.host, to: f.remote })).verdict, PASS);
    assert.equal(node.counted(0, abi.DIRECTION_EGRESS), 1);
    const lost = node.run("to_overlay", packet({ from: f.host, to: f.world }));
    assert.deepEqual([lost.verdict, lost.events[0].subtype], [SHOT, abi.DROP_NO_TUNNEL_ENDPOINT]);
    const judged = node.run("to_overlay", packet({ from: f.a, to: f.world }), 1, abi.MARK_OVERLAY);
    assert.deepEqual([judged.verdict, judged.mark], [PASS, abi.MARK_TUNNEL]);
  });
}
