/**
 * IPv6 messages of the link pass without policy, so they pass only as what they are: every hook, every type, and every way to
 * make something else of one.
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { GATEWAY_V6, PASS, REDIRECT, SHOT } from "./node.ts";
import { ICMPV6, ipv6Bytes, macBytes, packet, type PacketSpec } from "./packet.ts";
import { A, twoEndpoints } from "./two_endpoints.ts";

const OWN = "fd00:1::10", OTHER = "fd00:1::11", LINK = "fe80::10", HOST_LINK = "fe80::0:00ff:fe00:201";
const MAC = macBytes("02:00:00:00:01:01"), OTHER_MAC = macBytes("02:00:00:00:01:02");
const NONCE = [14, 1, 1, 2, 3, 4, 5, 6];
const ROUTERS = "ff02::2", EVERYBODY = "ff02::1", REPORTS = "ff02::16", GROUP = "ff02::fb";
const ALERT = [58, 0, 5, 2, 0, 0, 1, 0];

const source = (mac: ArrayLike<number> = MAC) => [1, 1, ...Array.from(mac)];
const target = (mac: ArrayLike<number> = MAC) => [2, 1, ...Array.from(mac)];
/** The group of those whose address ends like this one. */
const solicited = (address: string) => {
  const b = ipv6Bytes(address).map((byte) => byte.toString(16).padStart(2, "0"));
  return `ff02::1:ff${b[13]}:${b[14]}${b[15]}`;
};
/** Neighbour discovery: type, four bytes of flags, body. */
const nd = (
  from: string,
  to: string,
  type: number,
  body: number[],
  more: Partial<PacketSpec> = {},
): PacketSpec => ({
  from,
  to,
  ttl: 255,
  protocol: ICMPV6,
  upper: [type, 0, 0, 0, 0, 0, 0, 0, ...body],
  ...more,
});
const ask = (from: string, whom: string, options: number[] = source(), to = solicited(whom)) =>
  nd(from, to, 135, [...ipv6Bytes(whom), ...options]);
const answer = (from: string, to: string, whom: string, options: number[] = target(), flags = 0x60) =>
  nd(from, to, 136, [], { upper: [136, 0, 0, 0, flags, 0, 0, 0, ...ipv6Bytes(whom), ...options] });
/** Listener messages. */
const mld = (
  from: string,
  to: string,
  type: number,
  body: number[],
  more: Partial<PacketSpec> = {},
): PacketSpec => ({
  from,
  to,
  ttl: 1,
  protocol: ICMPV6,
  nextHeader: 0,
  options: ALERT,
  upper: [type, 0, 0, 0, 0, 0, 0, 0, ...body],
  ...more,
});
const report = (groups: string[], more: Partial<PacketSpec> = {}, tail: number[] = []) =>
  mld(LINK, REPORTS, 143, [], {
    upper: [
      143,
      0,
      0,
      0,
      0,
      0,
      0,
      groups.length,
      ...groups.flatMap((g) => [4, 0, 0, 0, ...ipv6Bytes(g)]),
      ...tail,
    ],
    ...more,
  });

const fine: [string, PacketSpec][] = [
  ["router solicitation", nd(LINK, ROUTERS, 133, source())],
  ["router solicitation of who has no address", nd("::", ROUTERS, 133, [])],
  ["is my address free?", ask("::", OWN, NONCE)],
  ["is my address of the link free?", ask("::", LINK, [])],
  ["who is it?", ask(OWN, "fd00:1::77")],
  ["are you there, host?", ask(LINK, "fe80::1", [], "fe80::1")],
  ["answer to the host", answer(OWN, GATEWAY_V6, OWN)],
  ["answer to the host's link", answer(LINK, "fe80::1", LINK, [])],
  ["here I am", answer(OWN, EVERYBODY, OWN, target(), 0x20)],
  ["report", report([GROUP, "ff05::1"])],
  [
    "report of sources",
    report([], {
      upper: [143, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, ...ipv6Bytes(GROUP), ...ipv6Bytes("fd00::9")],
    }),
  ],
  ["report of who has no address", report([GROUP], { from: "::" })],
  ["report, padding first", report([GROUP], { options: [58, 0, 1, 0, 5, 2, 0, 0] })],
  ["old report", mld(LINK, GROUP, 131, ipv6Bytes(GROUP))],
  ["old goodbye", mld(LINK, ROUTERS, 132, ipv6Bytes(GROUP))],
];

const WORLD = "2001:db8:9::7", S = abi.DROP_INVALID_SIP, F = abi.DROP_FORBIDDEN_ICMP6;
const long = Array(1024).fill(0x41);
const bad: [string, number, PacketSpec][] = [
  // a destination beyond the link
  ...[130, 131, 132, 143].map((type): [string, number, PacketSpec] => [
    `type ${type} to the world`,
    F,
    mld(OWN, WORLD, type, ipv6Bytes(GROUP)),
  ]),
  ...[133, 135, 136].flatMap((type): [string, number, PacketSpec][] => [
    [`type ${type} to the world`, F, nd(OWN, WORLD, type, ipv6Bytes(OWN))],
    [`type ${type} to the world, hop limit 64`, F, nd(OWN, WORLD, type, ipv6Bytes(OWN), { ttl: 64 })],
  ]),
  ["a question to another pod", F, ask(OWN, OTHER, source(), OTHER)],
  ["an answer to another pod", F, answer(OWN, OTHER, OWN)],
  ["an answer to every router", F, answer(OWN, ROUTERS, OWN, target(), 0)],
  ["a question to a foreign group", F, ask(OWN, "fd00:1::77", source(), "ff05::1:ff00:77")],
  ["an answer to everybody that says it was asked", F, answer(OWN, EVERYBODY, OWN)],
  // hop limits
  ["a question from afar", F, { ...ask(OWN, "fd00:1::77"), ttl: 254 }],
  ["a report from afar", F, report([GROUP], { ttl: 2 })],
  ["a report with neighbour discovery's hop limit", F, report([GROUP], { ttl: 255 })],
  // payload
  ["a question with a letter in it", F, ask(OWN, "fd00:1::77", [...source(), ...long])],
  ["a question with an option nobody knows", F, ask(OWN, "fd00:1::77", [200, 128, ...long.slice(0, 1022)])],
  ["an option of no length", F, ask(OWN, "fd00:1::77", [1, 0, ...MAC])],
  ["half an option", F, ask(OWN, "fd00:1::77", [1, 2, ...MAC])],
  ["two options of a kind", F, ask(OWN, "fd00:1::77", [...source(), ...source()])],
  ["a question without a target", F, nd(OWN, solicited(OWN), 135, Array(8).fill(0))],
  ["a question about a group", F, ask(OWN, "ff02::5", source(), "ff02::1:ff00:5")],
  [
    "a code",
    F,
    nd(OWN, solicited("fd00:1::77"), 135, [], {
      upper: [135, 1, 0, 0, 0, 0, 0, 0, ...ipv6Bytes("fd00:1::77")],
    }),
  ],
  ["a router solicitation with a letter in it", F, nd(LINK, ROUTERS, 133, long)],
  ["a report with a letter behind it", F, report([GROUP], {}, long)],
  ["a report of less than it says", F, report([], { upper: [143, 0, 0, 0, 0, 0, 0, 9] })],
  [
    "a report with auxiliary data",
    F,
    report([], {
      upper: [143, 0, 0, 0, 0, 0, 0, 1, 4, 4, 0, 0, ...ipv6Bytes(GROUP), ...Array(16).fill(0x41)],
    }),
  ],
  ["a report of an address that is no group", F, report([WORLD])],
  ["an old report with a letter behind it", F, mld(LINK, GROUP, 131, [...ipv6Bytes(GROUP), ...long])],
  ["an old report of another group", F, mld(LINK, GROUP, 131, ipv6Bytes("ff02::fc"))],
  // headers
  ["a report without a router alert", F, report([GROUP], { options: [], nextHeader: ICMPV6 })],
  ["a report behind an empty hop-by-hop header", F, report([GROUP], { options: [58, 0, 1, 4, 0, 0, 0, 0] })],
  ["a question behind destination options", F, {
    ...ask(OWN, "fd00:1::77"),
    nextHeader: 60,
    options: [58, 0, 1, 4, 0, 0, 0, 0],
  }],
  // addresses
  ["an answer in another pod's name", S, answer(OTHER, EVERYBODY, OTHER, target(), 0x20)],
  ["an answer about another pod", S, answer(OWN, EVERYBODY, OTHER, target(), 0x20)],
  ["an answer about the gateway", S, answer(LINK, EVERYBODY, GATEWAY_V6, target(), 0x20)],
  ["an answer about the host's side", S, answer(LINK, EVERYBODY, HOST_LINK, target(), 0x20)],
  ["the host's side as source", S, ask(HOST_LINK, "fd00:1::77")],
  ["another MAC", S, answer(OWN, EVERYBODY, OWN, target(OTHER_MAC), 0x20)],
  ["another MAC in a question", S, ask(OWN, "fd00:1::77", source(OTHER_MAC))],
  ["is another's address free?", S, ask("::", OTHER, [])],
  ["is the gateway's address free?", S, ask("::", GATEWAY_V6, [])],
  ["is my address free? My MAC is", F, ask("::", OWN)],
  ["is my address free, host?", F, ask("::", OWN, [], OWN)],
  ["an answer of nobody", F, answer("::", EVERYBODY, OWN, target(), 0x20)],
  ["a report from a global address", F, report([GROUP], { from: OWN })],
  // what only routers say
  ["a router advertisement", F, nd(LINK, EVERYBODY, 134, Array(8).fill(0))],
  ["a redirect", F, nd(LINK, OWN, 137, [...ipv6Bytes(OTHER), ...ipv6Bytes(OTHER)])],
  ["a query", F, mld(LINK, EVERYBODY, 130, ipv6Bytes("::"))],
];

kernelTest(
  "from_endpoint() lets link messages through as their RFCs have them, and nothing else",
  async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    for (const [name, spec] of fine) {
      const run = from(A, spec);
      assert.deepEqual([run.verdict, run.events.map((e) => e.subtype)], [PASS, []], name);
    }
    assert.equal(from(A, ask(OWN, GATEWAY_V6, source(), GATEWAY_V6)).verdict, REDIRECT); // asked alone, answered
    for (const [name, reason, spec] of bad) {
      const run = from(A, spec);
      assert.deepEqual([run.verdict, run.events.map((e) => e.subtype)], [SHOT, [reason]], name);
    }
    assert.equal(node.flows().length, 0);
    // Allowed by a policy or not: beyond the link they mean nothing.
    node.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress" }] });
    node.changeEndpoint(A, { policy: 1 });
    assert.equal(from(A, nd(OWN, WORLD, 135, ipv6Bytes(OWN))).verdict, SHOT);
  },
);

kernelTest("who may use other addresses speaks for none that is somebody else's", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  node.changeEndpoint(A, { flags: abi.ENDPOINT_NO_SOURCE_CHECK });
  const nested = "fd00:99::5";
  assert.equal(from(A, answer(nested, EVERYBODY, nested, target(OTHER_MAC), 0x20)).verdict, PASS);
  assert.equal(from(A, ask("::", nested, [])).verdict, PASS);
  for (const other of [OTHER, GATEWAY_V6, HOST_LINK, "2001:db8::1"]) {
    const run = from(A, answer(nested, EVERYBODY, other, target(), 0x20));
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, S], other);
  }
});

kernelTest("to_endpoint() takes link messages from the host only", async () => {
  const { node, to } = await twoEndpoints();
  using _ = node;
  const host = macBytes("02:00:00:00:02:01");
  const good: [string, PacketSpec][] = [
    ["question", ask("fe80::1", OWN, source(host))],
    ["question from the gateway", ask(GATEWAY_V6, OWN, source(host), OWN)],
    ["answer", answer("fe80::1", LINK, "fe80::1", target(host), 0xe0)],
    [
      "router advertisement",
      nd("fe80::1", EVERYBODY, 134, [0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 5, 120]),
    ],
    ["redirect", nd("fe80::1", OWN, 137, [...ipv6Bytes("fe80::1"), ...ipv6Bytes(WORLD)])],
    ["query", mld("fe80::1", EVERYBODY, 130, ipv6Bytes("::"))],
    ["query of version 2", mld("fe80::1", EVERYBODY, 130, [...ipv6Bytes("::"), 2, 125, 0, 0])],
    ["the host's own report", report([GROUP], { from: "fe80::1" })],
  ];
  for (const [name, spec] of good) assert.equal(to(A, spec).verdict, PASS, name);
  const others: [string, number, PacketSpec][] = [
    ["a question through a router", F, { ...ask("fe80::1", OWN), ttl: 254 }],
    ["in another pod's name", S, ask(OTHER, OWN, source(), OWN)],
    ["in a stranger's name", S, ask(WORLD, OWN, source(), OWN)],
    ["a router advertisement from a global address", F, nd(GATEWAY_V6, EVERYBODY, 134, Array(8).fill(0))],
    ["a report that was routed", F, report([GROUP], { from: WORLD })],
    ["a letter", F, ask("fe80::1", OWN, [200, 128, ...long.slice(0, 1022)])],
  ];
  for (const [name, reason, spec] of others) {
    const run = to(A, spec);
    assert.deepEqual([run.verdict, run.events.map((e) => e.subtype)], [SHOT, [reason]], name);
  }
});

kernelTest("link messages for or from an endpoint go by no outer device", async () => {
  const { node } = await twoEndpoints();
  using _ = node;
  for (
    const spec of [
      ask("fe80::9", OWN, [], OWN),
      ask(WORLD, OWN, [], OWN),
      report([GROUP], { from: WORLD, to: OWN }),
    ]
  ) {
    const run = node.run("from_netdev", packet(spec), 1);
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, F]);
  }
  for (const spec of [ask(OWN, WORLD, [], WORLD), report([GROUP], { from: OWN, to: WORLD })]) {
    const run = node.run("to_netdev", packet(spec), 1);
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, F]);
  }
  assert.equal(
    node.run("from_netdev", packet(ask("fe80::9", "2001:db8::1", [], "2001:db8::1")), 1).verdict,
    PASS,
  );
});
