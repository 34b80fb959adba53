/** What must not pass: cut at every length, and spoiled in every way, each counted with its reason. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { GATEWAY_V4, PASS, SHOT } from "./node.ts";
import {
  ACK,
  arp,
  type Bytes,
  FIN,
  fixIpv4,
  ICMP,
  ICMPV6,
  packet,
  type PacketSpec,
  RST,
  SCTP,
  SYN,
  TCP,
  UDP,
} from "./packet.ts";
import { FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** One way to spoil a good packet, and the reason it must be dropped for. */
interface Case {
  name: string;
  reason: number;
  spec?: Partial<PacketSpec>;
  spoil?: (frame: Bytes) => Bytes;
  /** Default: dropped by the program itself. */
  verdict?: number;
}
const set = (at: number, ...bytes: number[]) => (frame: Bytes) => {
  frame.set(bytes, at);
  return frame;
};
const setFixed = (at: number, ...bytes: number[]) => (frame: Bytes) => fixIpv4(set(at, ...bytes)(frame));
/** Extension header of 8 bytes. */
const extension = (next: number, ...rest: number[]) => [next, 0, ...rest, ...Array(6 - rest.length).fill(0)];

const both: Case[] = [
  { name: "an ethertype nobody knows", reason: abi.DROP_UNKNOWN_L3, spoil: set(12, 0x88, 0x99) },
  { name: "TCP header length below 20", reason: abi.DROP_CT_INVALID_HDR, spoil: (f) => tcp(f, 12, 0x40) },
  {
    name: "TCP header length beyond the packet",
    reason: abi.DROP_CT_INVALID_HDR,
    spoil: (f) => tcp(f, 12, 0xf0),
  },
  { name: "TCP without flags", reason: abi.DROP_CT_INVALID_HDR, spec: { flags: 0 } },
  { name: "TCP SYN and FIN", reason: abi.DROP_CT_INVALID_HDR, spec: { flags: SYN | FIN } },
  { name: "TCP SYN and RST", reason: abi.DROP_CT_INVALID_HDR, spec: { flags: SYN | RST | ACK } },
  {
    name: "UDP length below 8",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: UDP, upper: [0, 9, 0, 9, 0, 7, 0, 0] },
  },
  {
    name: "UDP length beyond the packet",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: UDP, upper: [0, 9, 0, 9, 0, 9, 0, 0] },
  },
  {
    name: "half a UDP header",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: UDP, upper: [0, 9, 0, 9] },
  },
  {
    name: "half an SCTP header",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: SCTP, upper: [0, 9, 0, 9, 0, 0] },
  },
  { name: "no upper layer at all", reason: abi.DROP_CT_INVALID_HDR, spec: { upper: [] } },
  {
    name: "UDP to the tunnel's port",
    reason: abi.DROP_ENCAP_PROHIBITED,
    spec: { protocol: UDP, dport: 8472 },
  },
  { name: "one hop left", reason: abi.DROP_TTL_EXCEEDED, spec: { ttl: 1 }, verdict: PASS },
  { name: "no hop left", reason: abi.DROP_TTL_EXCEEDED, spec: { ttl: 0 }, verdict: PASS },
];
function tcp(frame: Bytes, at: number, value: number): Bytes {
  frame[(frame[12] === 0x86 ? 54 : 34) + at] = value;
  return frame;
}
const ipv4: Case[] = [
  { name: "version 5", reason: abi.DROP_INVALID, spoil: setFixed(14, 0x55) },
  { name: "header length below 20", reason: abi.DROP_INVALID, spoil: set(14, 0x44) },
  { name: "header length beyond the packet", reason: abi.DROP_INVALID, spoil: set(14, 0x4f) },
  { name: "total length below the header", reason: abi.DROP_INVALID, spoil: setFixed(16, 0, 19) },
  { name: "total length beyond the packet", reason: abi.DROP_INVALID, spoil: setFixed(16, 1, 0) },
  { name: "total length 0", reason: abi.DROP_INVALID, spoil: setFixed(16, 0, 0) },
  { name: "a wrong header checksum", reason: abi.DROP_INVALID, spoil: set(24, 1, 2) },
  { name: "another's source address", reason: abi.DROP_INVALID_SIP, spec: { from: "10.0.1.11" } },
  { name: "the source 0.0.0.0", reason: abi.DROP_INVALID_SIP, spec: { from: "0.0.0.0" } },
  { name: "the destination 0.0.0.0", reason: abi.DROP_INVALID, spec: { to: "0.0.0.0" } },
  {
    name: "protocol 50",
    reason: abi.DROP_CT_UNKNOWN_PROTO,
    spec: { protocol: 50, upper: [1, 2, 3, 4, 5, 6, 7, 8] },
  },
  {
    name: "IGMP",
    reason: abi.DROP_CT_UNKNOWN_PROTO,
    spec: { protocol: 2, to: "224.0.0.22", upper: [0x16, 0, 0, 0, 0, 0, 0, 0] },
  },
  { name: "ICMPv6 in IPv4", reason: abi.DROP_CT_UNKNOWN_PROTO, spec: { protocol: ICMPV6 } },
  { name: "an ICMP redirect", reason: abi.DROP_UNKNOWN_ICMP4_TYPE, spec: { protocol: ICMP, type: 5 } },
  {
    name: "an ICMP type nobody knows",
    reason: abi.DROP_UNKNOWN_ICMP4_TYPE,
    spec: { protocol: ICMP, type: 99 },
  },
  {
    name: "half an ICMP header",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: ICMP, upper: [8, 0, 0, 0] },
  },
  { name: "a fragment over TCP's flags", reason: abi.DROP_INVALID, spec: { fragment: 1 } },
  {
    name: "a fragment that is not the last and no multiple of 8 bytes long",
    reason: abi.DROP_INVALID,
    spec: { protocol: UDP, fragment: 0x2000, upper: [0, 5, 0, 9, 0, 99, 0, 0, 1, 2, 3, 4] },
  },
  {
    name: "a fragment that ends beyond 65535",
    reason: abi.DROP_INVALID,
    spec: { protocol: UDP, fragment: 0x1fff, payload: Array(64).fill(0) },
  },
  {
    name: "a first fragment without ports",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: UDP, fragment: 0x2000, upper: [] },
  },
  {
    name: "options and half a TCP header",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { options: [1, 1, 1, 0], upper: Array(12).fill(0) },
  },
];
const ipv6: Case[] = [
  { name: "version 5", reason: abi.DROP_INVALID, spoil: set(14, 0x50) },
  { name: "payload length beyond the packet", reason: abi.DROP_INVALID, spoil: set(18, 1, 0) },
  { name: "another's source address", reason: abi.DROP_INVALID_SIP, spec: { from: "fd00:1::11" } },
  { name: "a link-local source for TCP", reason: abi.DROP_INVALID_SIP, spec: { from: "fe80::1" } },
  { name: "the source ::", reason: abi.DROP_INVALID_SIP, spec: { from: "::" } },
  { name: "a multicast source", reason: abi.DROP_INVALID, spec: { from: "ff02::1" } },
  { name: "the destination ::", reason: abi.DROP_INVALID, spec: { to: "::" } },
  { name: "an IPv4-mapped destination", reason: abi.DROP_INVALID, spec: { to: "::ffff:a00:10b" } },
  {
    name: "ICMPv4 in IPv6",
    reason: abi.DROP_CT_UNKNOWN_PROTO,
    spec: { protocol: ICMP, upper: [8, 0, 0, 0, 0, 7, 0, 1] },
  },
  { name: "no next header", reason: abi.DROP_CT_UNKNOWN_PROTO, spec: { nextHeader: 59, upper: [] } },
  {
    name: "an ICMPv6 type nobody knows",
    reason: abi.DROP_UNKNOWN_ICMP6_TYPE,
    spec: { protocol: ICMPV6, type: 200 },
  },
  {
    name: "a router advertisement",
    reason: abi.DROP_FORBIDDEN_ICMP6,
    spec: { protocol: ICMPV6, type: 134, ttl: 255 },
  },
  {
    name: "an ICMPv6 redirect",
    reason: abi.DROP_FORBIDDEN_ICMP6,
    spec: { protocol: ICMPV6, type: 137, ttl: 255 },
  },
  {
    name: "a neighbour solicitation from afar",
    reason: abi.DROP_FORBIDDEN_ICMP6,
    spec: { protocol: ICMPV6, type: 135, ttl: 64 },
  },
  {
    name: "an extension header cut short",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 60, upper: [6, 0, 0] },
  },
  {
    name: "an extension header longer than the packet",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 60, upper: [6, 200, 0, 0, 0, 0, 0, 0] },
  },
  {
    name: "hop-by-hop options in second place",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 60, options: [...extension(0), ...extension(6)] },
  },
  {
    name: "a source route",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 43, options: extension(6, 0, 1) },
  },
  {
    name: "two fragment headers",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 44, options: [...extension(44, 0, 1), ...extension(6, 0, 1)] },
  },
  {
    name: "nine extension headers",
    reason: abi.DROP_INVALID_EXTHDR,
    spec: { nextHeader: 60, options: [...Array(8)].flatMap(() => extension(60)).concat(extension(6)) },
  },
  {
    name: "a fragment that is not the last and no multiple of 8 bytes long",
    reason: abi.DROP_INVALID,
    spec: {
      protocol: UDP,
      nextHeader: 44,
      options: extension(17, 0, 1),
      upper: [0, 5, 0, 9, 0, 99, 0, 0, 1, 2, 3, 4],
    },
  },
  {
    name: "a fragment over TCP's flags",
    reason: abi.DROP_INVALID,
    spec: { nextHeader: 44, options: extension(6, 0, 8) },
  },
  {
    name: "a neighbour solicitation in fragments",
    reason: abi.DROP_FORBIDDEN_ICMP6,
    spec: { protocol: ICMPV6, type: 135, ttl: 255, nextHeader: 44, options: extension(58, 0, 1) },
  },
  {
    name: "half an ICMPv6 header",
    reason: abi.DROP_CT_INVALID_HDR,
    spec: { protocol: ICMPV6, upper: [128, 0, 0, 0] },
  },
];

kernelTest(
  "from_endpoint() drops every malformed packet, and counts and reports it with its reason",
  async () => {
    const { node, devices } = await twoEndpoints();
    using _ = node;
    for (const f of FAMILIES) {
      for (const c of [...both, ...(f.name === "IPv4" ? ipv4 : ipv6)]) {
        const good = packet({ from: f.a, to: f.b, ...c.spec });
        const before = node.counted(c.reason);
        const run = node.run("from_endpoint", c.spoil ? c.spoil(good) : good, devices[0]);
        const said = run.events.filter((e) => e.type === abi.EVENT_DROP).map((e) => e.subtype);
        assert.deepEqual([run.verdict, said], [c.verdict ?? SHOT, [c.reason]], `${f.name}: ${c.name}`);
        assert.equal(node.counted(c.reason), before + 1, `${f.name}: ${c.name}`);
      }
    }
  },
);

kernelTest("no program passes a packet that is cut short, at any length", async () => {
  const { node, devices } = await twoEndpoints();
  using _ = node;
  let dropped = 0;
  for (const f of FAMILIES) {
    for (const protocol of [TCP, UDP, SCTP, f.icmp]) {
      for (
        const [program, from, to] of [["from_endpoint", f.a, f.b], ["to_endpoint", f.world, f.a], [
          "from_netdev",
          f.world,
          f.a,
        ]]
      ) {
        const whole = packet({ from, to, protocol, payload: [1, 2, 3, 4] });
        // The kernel itself refuses to run on less than the IP header that the ethertype promises.
        for (let length = f.name === "IPv4" ? 34 : 54; length < whole.length; length++) {
          const run = node.run(program, whole.slice(0, length), devices[0]);
          assert.equal(run.verdict, SHOT, `${program} ${f.name} ${protocol} ${length}`);
          assert.deepEqual(run.events.map((e) => e.type), [abi.EVENT_DROP]);
          dropped++;
        }
      }
    }
  }
  assert.equal(node.counted(abi.DROP_INVALID) + node.counted(abi.DROP_CT_INVALID_HDR), dropped);
  assert.equal(node.flows().length, 0);
});

kernelTest("from_endpoint() drops what ARP may not say, and an interface that is no endpoint's", async () => {
  const { node, devices } = await twoEndpoints();
  using _ = node;
  const good = { operation: 1, senderMac: "02:00:00:00:01:01", sender: "10.0.1.10", target: "10.0.1.1" };
  const cases: [string, number, Bytes][] = [
    ["another's address", abi.DROP_INVALID_SIP, arp({ ...good, sender: "10.0.1.11" })],
    ["the gateway's address", abi.DROP_INVALID_SIP, arp({ ...good, sender: GATEWAY_V4 })],
    ["the gateway's, to everybody", abi.DROP_INVALID_SIP, arp({ ...good, operation: 2, sender: GATEWAY_V4 })],
    ["an answer of nobody", abi.DROP_INVALID_SIP, arp({ ...good, operation: 2, sender: "0.0.0.0" })],
    [
      "is another's address free?",
      abi.DROP_INVALID_SIP,
      arp({ ...good, sender: "0.0.0.0", target: "10.0.1.11" }),
    ],
    ["another MAC", abi.DROP_INVALID_SIP, arp({ ...good, senderMac: "02:00:00:00:01:02" })],
    ["another MAC in the message", abi.DROP_INVALID_SIP, set(27, 9)(arp(good))],
    ["another MAC in the frame", abi.DROP_INVALID_SIP, set(11, 9)(arp(good))],
    ["an operation nobody knows", abi.DROP_INVALID, arp({ ...good, operation: 9 })],
    ["hardware that is not Ethernet", abi.DROP_INVALID, set(14, 0, 6)(arp(good))],
    ["half a message", abi.DROP_INVALID, arp(good).slice(0, 30)],
  ];
  for (const [name, reason, frame] of cases) {
    const run = node.run("from_endpoint", frame, devices[0]);
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, reason], name);
  }
  assert.equal(
    node.run("from_endpoint", arp({ ...good, sender: "0.0.0.0", target: good.sender }), devices[0]).verdict,
    PASS,
  );
  // Who may have other addresses has nobody else's; and the host speaks for nobody but itself.
  node.changeEndpoint(1, { flags: abi.ENDPOINT_NO_SOURCE_CHECK });
  const nested = (sender: string) =>
    node.run(
      "from_endpoint",
      arp({ ...good, senderMac: "02:00:00:00:07:07", sender, target: "10.0.1.77" }),
      devices[0],
    )
      .verdict;
  assert.deepEqual(["10.9.9.9", "10.0.1.11", GATEWAY_V4].map(nested), [PASS, SHOT, SHOT]);
  const toB = (sender: string) =>
    node.run("to_endpoint", arp({ ...good, sender, target: "10.0.1.11" }), devices[1]).verdict;
  assert.deepEqual([GATEWAY_V4, "192.0.2.1", "10.0.1.10"].map(toB), [PASS, PASS, SHOT]);
  node.changeEndpoint(1, { flags: abi.ENDPOINT_PEER });
  const stranger = node.run("from_endpoint", packet({ from: "10.0.1.10", to: "10.0.1.11" }), 1);
  assert.deepEqual([stranger.verdict, stranger.events[0].subtype], [SHOT, abi.DROP_EP_NOT_READY]);
  node.writeConfig({ hz: 0 });
  const unconfigured = node.run("from_endpoint", packet({ from: "10.0.1.10", to: "10.0.1.11" }), devices[0]);
  assert.deepEqual([unconfigured.verdict, unconfigured.events[0].subtype], [SHOT, abi.DROP_NO_CONFIG]);
});
