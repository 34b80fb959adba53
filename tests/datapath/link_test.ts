/** ARP and neighbour discovery: what the programs answer. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { GATEWAY_V4, GATEWAY_V6, PASS, REDIRECT } from "./node.ts";
import { arp, be32, checksum, ICMPV6, ipv6Bytes, macBytes, packet } from "./packet.ts";
import { twoEndpoints } from "./two_endpoints.ts";

kernelTest("from_endpoint() answers ARP for the gateway with the host side's MAC", async () => {
  const { node, devices } = await twoEndpoints();
  using _ = node;
  const mac = "02:00:00:00:01:01", hostMac = "02:00:00:00:02:01";
  const run = node.run(
    "from_endpoint",
    arp({ operation: 1, senderMac: mac, sender: "10.0.1.10", target: GATEWAY_V4 }),
    devices[0],
  );
  assert.deepEqual([run.verdict, run.mark], [REDIRECT, abi.MARK_DELIVERED]);
  const expected = arp({
    operation: 2,
    senderMac: hostMac,
    sender: GATEWAY_V4,
    targetMac: mac,
    target: "10.0.1.10",
  });
  expected.set(macBytes(mac), 0);
  assert.deepEqual(run.data, expected);
  // the host's own questions are answered by the pod; other questions are not ours
  const reply = arp({ operation: 2, senderMac: mac, sender: "10.0.1.10", target: "10.0.1.1" });
  assert.equal(node.run("from_endpoint", reply, devices[0]).verdict, PASS);
  const other = arp({ operation: 1, senderMac: mac, sender: "10.0.1.10", target: "10.0.1.77" });
  assert.equal(node.run("from_endpoint", other, devices[0]).verdict, PASS);
  assert.equal(node.run("to_endpoint", other, devices[0]).verdict, PASS);
});

kernelTest(
  "from_endpoint() answers neighbour solicitations for the gateway, with and without an option",
  async () => {
    const { node, devices } = await twoEndpoints();
    using _ = node;
    for (const option of [[1, 1, ...macBytes("02:00:00:00:01:01")], []]) {
      for (const asker of ["fd00:1::10", "fe80::10"]) {
        const solicitation = packet({
          from: asker,
          to: "ff02::1:ff00:1",
          ttl: 255,
          protocol: ICMPV6,
          upper: [135, 0, 0, 0, 0, 0, 0, 0, ...ipv6Bytes(GATEWAY_V6), ...option],
        });
        const run = node.run("from_endpoint", solicitation, devices[0]);
        assert.equal(run.verdict, REDIRECT);
        const d = run.data;
        assert.equal(d.length, 86);
        assert.deepEqual([...d.subarray(0, 12)], [
          ...macBytes("02:00:00:00:01:01"),
          ...macBytes("02:00:00:00:02:01"),
        ]);
        assert.deepEqual([...d.subarray(18, 22)], [0, 32, 58, 255]);
        assert.deepEqual([...d.subarray(22, 54)], [...ipv6Bytes(GATEWAY_V6), ...ipv6Bytes(asker)]);
        assert.deepEqual([d[54], d[58]], [136, 0x60]);
        assert.deepEqual([...d.subarray(62, 86)], [
          ...ipv6Bytes(GATEWAY_V6),
          2,
          1,
          ...macBytes("02:00:00:00:02:01"),
        ]);
        assert.equal(checksum(d.subarray(22, 54), [...be32(32), 0, 0, 0, 58], d.subarray(54)), 0);
      }
    }
  },
);
