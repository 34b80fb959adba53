/**
 * A pod that lies to its neighbours: in another's name, in the gateway's, as a router, and with floods of listener reports. What it
 * says is looked for where it would do harm: in the tables of the other pod and of the host.
 */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, type Place } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import {
  arp,
  be16,
  be32,
  type Bytes,
  checksum,
  ICMP,
  ICMPV6,
  ipv6Bytes,
  macBytes,
  packet,
  type PacketSpec,
} from "./packet.ts";

const MAC = "02:00:00:00:01:03", HOST_MAC = "02:00:00:00:02:03", OTHER_MAC = "02:00:00:00:01:01";
const LINK = "fe80::0:00ff:fe00:103", HOST_LINK = "fe80::0:00ff:fe00:203", EVERYBODY = "ff02::1";
const OWN = ["10.0.1.11", "fd00:1::11"], OTHER = ["10.0.1.10", "fd00:1::10"];
const ALERT = [58, 0, 5, 2, 0, 0, 1, 0];
const S = abi.DROP_INVALID_SIP, F = abi.DROP_FORBIDDEN_ICMP6;

const hex = (bytes: Uint8Array) => bytes.toHex();
async function say(made: Cluster, place: Place, device: string, frames: Bytes[]): Promise<void> {
  const child = new Deno.Command("ip", {
    args: [
      "netns",
      "exec",
      made.netns(place),
      "python3",
      new URL("testdata/frames.py", import.meta.url).pathname,
      device,
    ],
    stdin: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(frames.map((frame) => hex(frame) + "\n").join("")));
  await writer.close();
  assert.ok((await child.status).success);
}

/** ICMPv6 with its checksum; neighbour discovery's hop limit. */
function icmpv6(from: string, to: string, body: number[], more: Partial<PacketSpec> = {}): Bytes {
  const upper = [...body];
  const sum = checksum([...ipv6Bytes(from), ...ipv6Bytes(to), ...be32(upper.length), 0, 0, 0, ICMPV6], upper);
  upper.splice(2, 2, ...be16(sum));
  return packet({ from, to, ttl: 255, protocol: ICMPV6, upper, macFrom: MAC, macTo: HOST_MAC, ...more });
}
const claim = (sender: string, operation: number, mac = MAC, target = sender) =>
  arp({ operation, senderMac: mac, sender, target, targetMac: operation === 2 ? HOST_MAC : undefined });
/** An advertisement that overrides what is known. */
const advertise = (from: string, whom: string, mac = MAC, to = EVERYBODY) =>
  icmpv6(from, to, [136, 0, 0, 0, 0x20, 0, 0, 0, ...ipv6Bytes(whom), 2, 1, ...macBytes(mac)]);
/** A default router for half an hour, with a prefix of the link. */
const router = (from: string, mac: string, to: string) =>
  icmpv6(from, EVERYBODY, [
    ...[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    ...[3, 4, 64, 0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ...ipv6Bytes("fd00:bad::"),
  ], { macFrom: mac, macTo: to });
const redirect = (from: string, to: string, mac = MAC) =>
  icmpv6(from, to, [137, 0, 0, 0, 0, 0, 0, 0, ...ipv6Bytes(LINK), ...ipv6Bytes("2001:db8:9::7")], {
    macFrom: mac,
  });

const LIES: [string, number, Bytes][] = [
  ["ARP: I have the other pod's address, an answer", S, claim(OTHER[0], 2)],
  ["ARP: the same, gratuitous", S, claim(OTHER[0], 1)],
  ["ARP: I have the gateway's address", S, claim("10.0.1.1", 2)],
  ["ARP: the same, gratuitous", S, claim("10.0.1.1", 1)],
  ["ARP: I have the node's address", S, claim("192.0.2.1", 1)],
  ["ARP: I have a pod of another node", S, claim("10.0.2.10", 2)],
  ["ND: I have the other pod's address", S, advertise(OWN[1], OTHER[1])],
  ["ND: the other pod says so itself", S, advertise(OTHER[1], OTHER[1])],
  ["ND: I have the gateway's address", S, advertise(OWN[1], "fd00:1::1")],
  ["ND: the gateway says so itself", S, advertise("fd00:1::1", "fd00:1::1")],
  ["ND: I have the node's address", S, advertise(OWN[1], "2001:db8::1")],
  ["ND: I have the host's side of the link", S, advertise(LINK, HOST_LINK)],
  [
    "ND: the other pod asks, from here",
    S,
    icmpv6(OTHER[1], "ff02::1:ff00:1", [
      ...[135, 0, 0, 0, 0, 0, 0, 0],
      ...ipv6Bytes("fd00:1::1"),
      ...[1, 1, ...macBytes(MAC)],
    ]),
  ],
  ["router advertisement", F, router(LINK, MAC, "33:33:00:00:00:01")],
  ["router advertisement of the host's side", F, router(HOST_LINK, MAC, "33:33:00:00:00:01")],
  ["router advertisement to the other pod's MAC", F, router(LINK, MAC, OTHER_MAC)],
  ["redirect to the host", F, redirect(LINK, HOST_LINK)],
  ["redirect to the other pod", F, redirect(LINK, OTHER[1])],
  ["redirect in the gateway's name", F, redirect(HOST_LINK, OTHER[1])],
  [
    "ICMP redirect to the other pod",
    abi.DROP_UNKNOWN_ICMP4_TYPE,
    packet({ from: OWN[0], to: OTHER[0], protocol: ICMP, type: 5, code: 1, macFrom: MAC, macTo: HOST_MAC }),
  ],
];
/** Of who may use addresses that are nobody's, too. */
const OWN_AT_ANOTHER_MAC: [string, number, Bytes][] = [
  ["ARP: my address is at the other pod's MAC", S, claim(OWN[0], 1, OTHER_MAC)],
  ["ND: my address is at the other pod's MAC", S, advertise(OWN[1], OWN[1], OTHER_MAC)],
];

async function twoPods(use: (made: Cluster) => Promise<void>): Promise<void> {
  const made = await Cluster.open(abi.CONFIG_TUNNEL);
  try {
    await made.addPod();
    // Everybody believes what he hears, if he hears it.
    for (const [place, device] of [["node1", "pod"], ["node1", "pod3"], ["pod1", "eth0"], ["pod3", "eth0"]]) {
      for (const setting of ["ipv4.conf.DEV.arp_accept=1", "ipv6.conf.DEV.accept_ra=2"]) {
        const { code, text } = await made.in(
          place as Place,
          "sysctl",
          "-qw",
          `net.${setting.replace("DEV", device)}`,
        );
        assert.equal(code, 0, text);
      }
    }
    await use(made);
  } finally {
    await made.close();
  }
}
/** Neighbours and routes of the host and of the other pod, without how fresh they are (and links' own addresses, asked for any time). */
async function tables(made: Cluster): Promise<string> {
  let all = "";
  for (const place of ["node1", "pod1"] as const) {
    const neighbours = (await made.in(place, "ip", "neigh", "show", "nud", "all")).text.split("\n")
      .filter((line) => line.includes("lladdr") && !line.includes(" NOARP") && !line.startsWith("fe80::"))
      .map((line) => line.trim().replace(/ (router )?\w+$/, ""));
    const routes = (await made.in(place, "ip", "-6", "route")).text.replace(/ expires \w+/g, "");
    const addresses = (await made.in(place, "ip", "-br", "address")).text;
    all += `${place}\n${neighbours.sort().join("\n")}\n${routes}${addresses}`;
  }
  return all;
}
async function reached(made: Cluster): Promise<void> {
  for (
    const [from, to] of [["pod1", OWN[0]], ["pod1", OWN[1]], ["pod3", "10.0.1.1"], ["pod3", "fd00:1::1"]]
  ) {
    const { code, text } = await made.in(from as Place, "ping", "-nqc", "1", "-w", "5", to);
    assert.equal(code, 0, `${from} ${to}: ${text} ${made.drops()}`);
  }
}

kernelTest(
  "a pod lies about addresses and routers: nobody hears it, and it is said who did",
  () =>
    twoPods(async (made) => {
      const [node] = made.nodes;
      await reached(made);
      // These frames are right, and believed: its own address, and a router where the host says so.
      await made.ip("node1", "neigh", "flush", "dev", "pod3");
      await say(made, "pod3", "eth0", [claim(OWN[0], 1)]);
      assert.match(
        (await made.in("node1", "ip", "neigh", "show", "dev", "pod3")).text,
        new RegExp(`10.0.1.11 .*${MAC}`),
      );
      await say(made, "node1", "pod3", [router(HOST_LINK, HOST_MAC, "33:33:00:00:00:01")]);
      assert.match((await made.in("pod3", "ip", "-6", "route")).text, /fd00:bad::\/64/);

      await reached(made);
      const before = await tables(made);
      for (const flags of [abi.ENDPOINT_PEER, abi.ENDPOINT_PEER | abi.ENDPOINT_NO_SOURCE_CHECK]) {
        node.changeEndpoint(2, { flags });
        const lies = flags === abi.ENDPOINT_PEER ? [...LIES, ...OWN_AT_ANOTHER_MAC] : LIES;
        for (const [what, reason, frame] of lies) {
          // (A pod of another node is nobody's here to who may use other addresses.)
          if (flags !== abi.ENDPOINT_PEER && what.includes("another node")) continue;
          node.drainEvents();
          await say(made, "pod3", "eth0", [frame]);
          const drops = node.drainEvents().filter((event) => event.type === abi.EVENT_DROP);
          assert.ok(drops.some((e) => e.subtype === reason && e.sourceEndpoint === 2), `${what}, ${flags}`);
        }
      }
      assert.equal(await tables(made), before);
      await reached(made);
    }),
);

kernelTest(
  "floods of IGMP and MLD: no entry, no room in the ring but the pod's own, others connect",
  () =>
    twoPods(async (made) => {
      const [node] = made.nodes;
      await made.serve("pod2", 8080);
      assert.ok((await made.ask("pod1", "tcp", "10.0.2.10", 8080)).ok);
      const groups = async () => (await made.in("node1", "cat", "/proc/net/igmp6", "/proc/net/igmp")).text;
      const before = await groups(), flows = node.flows().length, times = 3000;
      const held = node.held(2),
        dropped = node.counted(abi.DROP_CT_UNKNOWN_PROTO),
        { made: events } = node.eventCounts(2);
      const passed = node.counted(0, abi.DIRECTION_EGRESS);
      const frames: Bytes[] = [];
      for (let i = 0; i < times; i++) {
        const group = `ff05::${(i >> 8).toString(16)}:${(i & 255).toString(16)}`;
        const more = { ttl: 1, nextHeader: 0, options: ALERT, macTo: "33:33:00:00:00:16" };
        const records = [143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, ...ipv6Bytes(group)];
        frames.push(icmpv6(LINK, "ff02::16", records, more));
        const upper = [0x16, 0, 0, 0, 239, 1, i >> 8, i & 255];
        upper.splice(2, 2, ...be16(checksum(upper)));
        const to = `239.1.${i >> 8}.${i & 255}`;
        const options = [0x94, 4, 0, 0];
        frames.push(
          packet({
            from: OWN[0],
            to,
            ttl: 1,
            protocol: 2,
            upper,
            options,
            macFrom: MAC,
            macTo: "01:00:5e:01:00:00",
          }),
        );
      }
      const flood = say(made, "pod3", "eth0", frames);
      for (let i = 0; i < 5; i++) {
        const { ok, text } = await made.ask("pod1", "tcp", "10.0.2.10", 8080);
        assert.ok(ok, text);
      }
      await flood;
      assert.ok(node.counted(0, abi.DIRECTION_EGRESS) - passed >= times, "whole reports pass to the host");
      assert.equal(node.counted(abi.DROP_CT_UNKNOWN_PROTO) - dropped, times, "IGMP does not");
      const now = node.eventCounts(2);
      assert.ok(now.made - events >= times, "and each is an event that is the pod's, told or refused");
      assert.equal(node.held(2), held);
      assert.ok(node.flows().length - flows <= 6, "the other's connections alone");
      assert.equal(await groups(), before, "the host has joined nothing");
    }),
);
