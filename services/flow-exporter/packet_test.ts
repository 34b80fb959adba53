import assert from "node:assert/strict";
import { readEthernet, readPacket } from "./packet.ts";

const hex = (text: string) => Uint8Array.from(text.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
const ETHERNET = "020000000002 020000000001 ";
const IPV4 = "4500 0034 0000 4000 4006 0000 0a000105 0a000207 ";
const IPV6 = "60000000 0014 0640 fd000000000000000000000000000005 fd000000000000000000000000000007 ";
const TCP = "a8a4 0050 00000001 00000000 5012 7210 0000 0000";

Deno.test("readPacket() reads addresses, ports and flags of both families", () => {
  const frame = hex(ETHERNET + "0800" + IPV4 + TCP), v4 = readPacket(frame);
  assert.deepEqual(readEthernet(frame, 2), { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" });
  assert.deepEqual(v4.ip, { family: 4, source: "10.0.1.5", destination: "10.0.2.7", protocol: 6 });
  assert.equal(v4.transport?.kind, "TCP");
  const v6 = readPacket(hex(ETHERNET + "86dd" + IPV6 + TCP));
  assert.deepEqual(v6.ip, { family: 6, source: "fd00::5", destination: "fd00::7", protocol: 6 });
  for (
    const packet of [
      v4,
      v6,
      readPacket(hex(IPV4 + TCP), 3),
      readPacket(hex(ETHERNET + "8100 0005 0800" + IPV4 + TCP)),
    ]
  ) {
    assert.ok(packet.transport?.kind === "TCP");
    assert.deepEqual([packet.transport.sourcePort, packet.transport.destinationPort], [43172, 80]);
    const { SYN, ACK, FIN } = packet.transport.flags;
    assert.deepEqual([SYN, ACK, FIN], [true, true, false]);
  }
});

Deno.test("readPacket() walks IPv6 extension headers and stops at later fragments", () => {
  const hop = IPV6.replace("0640", "0040") + "06 00 0000 00000000 " + TCP;
  assert.equal(readPacket(hex(ETHERNET + "86dd" + hop)).transport?.kind, "TCP");
  const later = IPV6.replace("0640", "2c40") + "06 00 0010 00000001 " + TCP;
  const packet = readPacket(hex(ETHERNET + "86dd" + later));
  assert.equal(packet.transport, undefined);
  assert.equal(packet.ip?.source, "fd00::5");
  const laterV4 = readPacket(hex(ETHERNET + "0800" + IPV4.replace("0000 4000", "0000 0010") + TCP));
  assert.equal(laterV4.transport, undefined);
});

Deno.test("readPacket() tells IPv4 addresses apart, however many there are", () => {
  const frame = hex(ETHERNET + "0800" + IPV4 + TCP), at = 14 + 12;
  for (const round of [0, 1]) {
    for (let n = 0; n < 20_000; n++) {
      const address = [n & 255, n >> 8, round, 255 - (n & 255)];
      frame.set([...address, ...address.toReversed()], at);
      const { ip } = readPacket(frame);
      assert.equal(ip?.source, address.join("."));
      assert.equal(ip?.destination, address.toReversed().join("."));
    }
  }
});

Deno.test("readEthernet() reads a whole frame's addresses only", () => {
  assert.equal(readEthernet(hex(IPV4 + TCP), 3), undefined);
  assert.equal(readEthernet(hex(ETHERNET), 2), undefined, "it is cut");
});

Deno.test("readPacket() takes every truncation and every byte without an error", () => {
  const whole = hex(ETHERNET + "86dd" + IPV6.replace("0640", "0040") + "06 00 0000 00000000 " + TCP);
  for (let n = 0; n <= whole.length; n++) readPacket(whole.subarray(0, n));
  for (let i = 0; i < whole.length; i++) {
    for (const value of [0, 0xff, 0x80, whole[i] ^ 1]) {
      const broken = whole.slice();
      broken[i] = value;
      readPacket(broken);
      readPacket(broken, 3);
    }
  }
});
