/** Tagged frames: in the frame (by test run), and beside it, as real devices deliver them. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster } from "./cluster.ts";
import { decapsulator } from "./decapsulator.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT, type TestNode } from "./node.ts";
import { be16, type Bytes, ICMP, ICMPV6, packet } from "./packet.ts";
import { FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** The frame with tags behind its addresses. */
function tagged(frame: Bytes, ...tags: [type: number, vlan: number][]): Bytes {
  return Uint8Array.from([
    ...frame.subarray(0, 12),
    ...tags.flatMap(([type, vlan]) => [...be16(type), ...be16(vlan)]),
    ...frame.subarray(12),
  ]);
}
function allow(node: TestNode, ifindex: number, vlan: number): void {
  node.map("weir_vlans").update(abi.VlanKey.encode({ ifindex, vlan }), Uint8Array.from([1, 0, 0, 0]));
}

kernelTest("a tagged frame passes nowhere but at an outer device that lets its VLAN through", async () => {
  const { node, devices } = await twoEndpoints();
  using _ = node;
  const tunnel = await decapsulator(node);
  using _object = tunnel.object;
  allow(node, 1, 100);
  for (const f of FAMILIES) {
    const frames = {
      from_endpoint: packet({ from: f.a, to: f.b }),
      to_endpoint: packet({ from: f.host, to: f.a }),
      from_netdev: packet({ from: f.world, to: f.a }),
      to_netdev: packet({ from: f.a, to: f.world }),
      from_overlay: packet({ from: f.remote, to: f.a }),
      to_overlay: packet({ from: f.host, to: f.remote }),
    };
    for (const [program, frame] of Object.entries(frames)) {
      const outer = program.endsWith("netdev");
      const device = program.endsWith("endpoint") ? devices[0] : 1;
      for (const type of [0x8100, 0x88a8, 0x9100]) {
        for (
          const tags of [
            [[type, 7]],
            [[type, 7], [0x8100, 100]],
            [[0x88a8, 0], [0x8100, 100]],
            ...(outer ? [] : [[[type, 0]], [[type, 100]]]),
          ] as [number, number][][]
        ) {
          const one = tagged(frame, ...tags);
          const run = program === "from_overlay" ? tunnel.run(1002, one) : node.run(program, one, device);
          const what = `${f.name} ${program} ${JSON.stringify(tags)}`;
          assert.deepEqual([run.verdict, run.events.map((e) => e.subtype)], [SHOT, [166]], what);
        }
      }
      if (!outer) continue;
      for (
        const tags of [[[0x8100, 100]], [[0x8100, 0xe064]], [[0x88a8, 100], [0x8100, 7]]] as [
          number,
          number,
        ][][]
      ) {
        const before = tagged(frame, ...tags);
        const run = node.run(program, before, 1);
        assert.deepEqual([run.verdict, run.events, run.data], [PASS, [], before], `${f.name} ${program}`);
        assert.equal(node.run(program, before, devices[0]).verdict, SHOT); // another device
      }
    }
    // No VLAN, only a priority: taken off, and judged like every other.
    const run = node.run("from_netdev", tagged(frames.from_netdev, [0x8100, 0xe000]), 1);
    assert.equal(run.verdict, REDIRECT);
    assert.equal(run.data.length, frames.from_netdev.length);
  }
  assert.equal(node.counted(abi.DROP_UNSUPPORTED_L2) > 0, true);
});

const SEND = `import socket,sys
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind((sys.argv[1],0))
for frame in sys.argv[2:]: s.send(bytes.fromhex(frame))
`;

/** The kernel takes the tag off before the programs look (skb_vlan_untag()), which no test run does. */
kernelTest("real devices: a VLAN is another network, from outside and from a pod", async () => {
  const cluster = await Cluster.open(abi.CONFIG_DIRECT);
  try {
    const [node] = cluster.nodes;
    const read = async (place: "node1" | "outside", file: string) =>
      (await cluster.in(place, "cat", file)).text.trim();
    const macTo = await read("node1", "/sys/class/net/outer/address");
    const ifindex = Number(await read("node1", "/sys/class/net/outer/ifindex"));
    /** What a frame did: reached the pod, was dropped with 166. */
    const send = async (place: "outside" | "pod1", frame: Bytes, isCounted = true) => {
      const before = [Number(node.endpointCounters(1).rxPackets), node.counted(166)];
      const device = place === "outside" ? "lan" : "eth0";
      const { code, text } = await cluster.in(place, "python3", "-c", SEND, device, frame.toHex());
      assert.equal(code, 0, text);
      const now =
        () => [Number(node.endpointCounters(1).rxPackets) - before[0], node.counted(166) - before[1]];
      if (isCounted) await until("the frame is counted", () => now().some((count) => count > 0), 10);
      await new Promise((done) => setTimeout(done, 50));
      return now();
    };
    for (
      const [from, to, protocol] of [["192.0.2.100", "10.0.1.10", ICMP], [
        "2001:db8::100",
        "fd00:1::10",
        ICMPV6,
      ]] as const
    ) {
      const frame = packet({ from, to, protocol, macTo });
      assert.deepEqual(await send("outside", frame), [1, 0], cluster.drops());
      for (const type of [0x8100, 0x88a8]) {
        assert.deepEqual(await send("outside", tagged(frame, [type, 100])), [0, 1]);
        assert.deepEqual(await send("outside", tagged(frame, [type, 100], [0x8100, 7])), [0, 1]);
        assert.deepEqual(await send("outside", tagged(frame, [type, 0], [0x8100, 100])), [0, 1]);
        // A priority is no VLAN.
        assert.deepEqual(await send("outside", tagged(frame, [type, 0xe000])), [1, 0], cluster.drops());
      }
      // What is let through is another network's: no program takes it to a pod.
      allow(node, ifindex, 100);
      assert.deepEqual(await send("outside", tagged(frame, [0x8100, 100]), false), [0, 0]);
      node.map("weir_vlans").delete(abi.VlanKey.encode({ ifindex, vlan: 100 }));
      // A pod sends no tag, none of priority either.
      const own = packet({ from: to, to: from, protocol, macTo: "02:00:00:00:02:01" });
      for (const vlan of [100, 0]) assert.deepEqual(await send("pod1", tagged(own, [0x8100, vlan])), [0, 1]);
    }
  } finally {
    await cluster.close();
  }
});
