/** Services from outside at XDP: what xdp_netdev makes of packets, what it leaves to from_netdev, and that both agree. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { must } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { REDIRECT } from "./node.ts";
import { ACK, address, FIN, fixIpv4, ICMP, ICMPV6, macBytes, packet, SYN, TCP, UDP } from "./packet.ts";
import { serviceCounters, setBackend, setFrontend, setSelection } from "./services.ts";
import {
  CLIENT_MAC,
  DSR,
  FAMILIES,
  fromClient,
  LOCAL,
  LOST,
  NOBODY,
  OWN_MAC,
  PEER_MAC,
  RANGES,
  SNAT,
  TCP_UDP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  XdpNode,
} from "./xdp_node.ts";

type Family = typeof FAMILIES[number];

function xdpTest(name: string, run: (made: XdpNode, family: Family) => void): void {
  kernelTest(name, async () => {
    const made = await XdpNode.open();
    try {
      for (const family of FAMILIES) run(made, family);
    } finally {
      await made.close();
    }
  });
}

xdpTest(
  "xdp_netdev() sends to a backend far away from an address of the node, and its answers back",
  (made, f) => {
    const { node } = made;
    for (const protocol of TCP_UDP) {
      const request = { from: f.client, to: f.node, dport: SNAT, protocol, payload: [1, 2, 3] };
      const before = serviceCounters(node, SNAT % 100);
      const first = made.xdp(fromClient({ ...request, flags: SYN }));
      assert.equal(first.verdict, XDP_TX, `${f.name} ${protocol}`);
      // The port is one that translated sources get, so it stays.
      const sent = {
        from: f.node,
        to: f.far,
        sport: 40000,
        dport: 8080,
        protocol,
        ttl: 63,
        payload: [1, 2, 3],
      };
      assert.deepEqual(first.data, packet({ ...sent, flags: SYN, macTo: PEER_MAC, macFrom: OWN_MAC }));
      assert.deepEqual(
        first.events.map(({ type, subtype, reason, service }) => [type, subtype, reason, service]),
        [
          [abi.EVENT_TRACE, abi.TRACE_FROM_NETWORK, abi.REASON_NEW, SNAT % 100],
        ],
      );
      assert.equal(first.events[0].lengthCaptured, first.data.length);

      const second = made.xdp(fromClient({ ...request, flags: ACK }));
      assert.deepEqual(second.data, packet({ ...sent, flags: ACK, macTo: PEER_MAC, macFrom: OWN_MAC }));
      assert.equal(second.events.length, 0);

      const answer = {
        from: f.far,
        to: f.node,
        sport: 8080,
        dport: 40000,
        protocol,
        flags: SYN | ACK,
        payload: [9],
      };
      const back = made.xdp(packet({ ...answer, macTo: OWN_MAC, macFrom: PEER_MAC }));
      assert.equal(back.verdict, XDP_TX);
      assert.deepEqual(
        back.data,
        packet({
          from: f.node,
          to: f.client,
          sport: SNAT,
          dport: 40000,
          protocol,
          flags: SYN | ACK,
          ttl: 63,
          payload: [9],
          macTo: CLIENT_MAC,
          macFrom: OWN_MAC,
        }),
      );
      const after = serviceCounters(node, SNAT % 100);
      assert.deepEqual([after.connections - before.connections, after.packets - before.packets], [1n, 3n]);
    }
  },
);

xdpTest(
  "xdp_netdev() leaves a known client of a port that passed to another service to from_netdev()",
  (made, f) => {
    const { node } = made, id = 90, port = 30090;
    const frontend = {
      address: f.any,
      port,
      protocol: UDP,
      flags: abi.FRONTEND_EXTERNAL | abi.FRONTEND_NODE_PORT,
      external: id,
    };
    const frame = fromClient({ from: f.client, to: f.node, dport: port, protocol: UDP, payload: [1] });
    const backendPort = (data: Uint8Array) => {
      const at = f.name === "IPv4" ? 36 : 56;
      return data[at] << 8 | data[at + 1];
    };
    setBackend(node, { id, address: f.far, port: 9000, protocol: UDP });
    setSelection(node, id, [id]);
    setFrontend(node, { ...frontend, service: 90 });
    assert.equal(backendPort(made.xdp(frame).data), 9000);
    setBackend(node, { id: id + 1, address: f.far, port: 9001, protocol: UDP });
    setSelection(node, id + 1, [id + 1]);
    setFrontend(node, { ...frontend, service: 91, external: id + 1 });
    assert.equal(made.xdp(frame).verdict, XDP_PASS);
    assert.equal(backendPort(made.tc(frame).data), 9001);
    const later = made.xdp(frame);
    assert.deepEqual([later.verdict, backendPort(later.data)], [XDP_TX, 9001]);
  },
);

xdpTest("xdp_netdev() and from_netdev() make the same of a packet, whoever saw the flow first", (made, f) => {
  for (const protocol of TCP_UDP) {
    for (const port of [SNAT, DSR]) {
      for (const [i, order] of [["xdp", "tc"], ["tc", "xdp"]].entries()) {
        const frame = fromClient({
          from: f.client,
          to: f.node,
          sport: 41000 + i,
          dport: port,
          protocol,
          flags: SYN,
        });
        const [first, second] = order.map((hook) => hook === "xdp" ? made.xdp(frame) : made.tc(frame));
        assert.deepEqual(
          [first.verdict, second.verdict],
          order.map((hook) => hook === "xdp" ? XDP_TX : REDIRECT),
          `${f.name} ${protocol} ${port} ${order}`,
        );
        assert.deepEqual(
          first.data.subarray(14),
          second.data.subarray(14),
          `${f.name} ${protocol} ${port} ${order}`,
        );
      }
    }
  }
});

xdpTest(
  "xdp_netdev() finds another port when the client's is taken, and tells no two clients together",
  (made, f) => {
    const other = f.client.replace(/7$/, "8");
    const ports = [f.client, other].map((from) => {
      const run = made.xdp(fromClient({ from, to: f.node, dport: SNAT, sport: 45000, flags: SYN }));
      assert.equal(run.verdict, XDP_TX);
      const at = f.name === "IPv4" ? 34 : 54;
      return run.data[at] << 8 | run.data[at + 1];
    });
    assert.equal(ports[0], 45000);
    assert.notEqual(ports[1], 45000);
    for (const [i, to] of [f.client, other].entries()) {
      const answer = { from: f.far, to: f.node, sport: 8080, dport: ports[i], flags: SYN | ACK };
      const back = made.xdp(packet({ ...answer, macTo: OWN_MAC, macFrom: PEER_MAC }));
      const expected = { from: f.node, to, sport: SNAT, dport: 45000, flags: SYN | ACK, ttl: 63 };
      assert.deepEqual(back.data, packet({ ...expected, macTo: CLIENT_MAC, macFrom: OWN_MAC }));
    }
  },
);

xdpTest("xdp_netdev() keeps the client's address with DSR, and puts the frontend beside it", (made, f) => {
  const own = address(f.node), port = [DSR >> 8, DSR & 255];
  for (const protocol of TCP_UDP) {
    const request = { from: f.client, to: f.node, dport: DSR, protocol, payload: [5] };
    const sent = { from: f.client, to: f.far, sport: 40000, dport: 8080, protocol, ttl: 63, payload: [5] };
    const option = f.name === "IPv4"
      ? { options: [0x9a, 8, ...port, ...own.subarray(12)] }
      : { options: [protocol, 2, 0x1b, 20, ...own, ...port, 0, 0], nextHeader: 60 };
    const macs = { macTo: PEER_MAC, macFrom: OWN_MAC };
    const first = made.xdp(fromClient({ ...request, flags: SYN }));
    assert.equal(first.verdict, XDP_TX);
    assert.deepEqual(
      first.data,
      packet({ ...sent, ...option, flags: SYN, ...macs }),
      `${f.name} ${protocol}`,
    );
    // TCP: in what opens the connection only.
    const second = made.xdp(fromClient({ ...request, flags: ACK }));
    assert.deepEqual(
      second.data,
      packet({ ...sent, ...(protocol === UDP ? option : {}), flags: ACK, ...macs }),
    );
  }
  // No room for the option: the node's address instead.
  const v4 = f.name === "IPv4", payload = Array(v4 ? 1470 : 1450).fill(1);
  const long = { from: f.client, to: f.node, sport: 47000, dport: DSR, protocol: UDP, payload };
  assert.deepEqual(
    made.xdp(fromClient(long)).data,
    packet({ ...long, from: f.node, to: f.far, dport: 8080, ttl: 63, macTo: PEER_MAC, macFrom: OWN_MAC }),
  );
});

xdpTest("xdp_netdev() moves a flow on when its backend is gone, as from_netdev() does", (made, f) => {
  const frame = (flags: number) =>
    fromClient({ from: f.client, to: f.node, dport: SNAT, sport: 48000, flags });
  assert.equal(made.xdp(frame(SYN)).verdict, XDP_TX);
  const { entry } = natEntries(made.node).find(({ key }) =>
    key.portSourceBe === 48000 && String(key.source) === String(address(f.client))
  )!;
  const record = abi.Backend.decode(made.node.map("weir_backends").lookup(u32(entry.backend))!);
  const spec = { id: entry.backend, address: f.far, port: 8080, protocol: TCP };
  setBackend(made.node, { ...spec, state: abi.BACKEND_TERMINATING });
  assert.equal(made.xdp(frame(ACK)).verdict, XDP_TX);
  assert.equal(made.xdp(frame(SYN)).verdict, XDP_PASS);
  setBackend(made.node, { ...spec, state: abi.BACKEND_GONE });
  assert.equal(made.xdp(frame(SYN)).verdict, XDP_PASS);
  made.node.map("weir_backends").update(u32(entry.backend), abi.Backend.encode(record));
  // A connection that has closed, and the same ports again: from_netdev begins the pair anew.
  assert.equal(made.xdp(frame(ACK | FIN)).verdict, XDP_TX);
});

xdpTest("xdp_netdev() passes on untouched what it cannot or may not do", (made, f) => {
  const { node } = made, v4 = f.name === "IPv4";
  const base = { from: f.client, to: f.node, dport: SNAT, sport: 49000, flags: SYN };
  const partial = fromClient({ ...base, sport: 49001 });
  {
    // As a local sender leaves it for a device to finish: the sum of the pseudo header alone.
    const at = (v4 ? 34 : 54) + 16, length = partial.length - (v4 ? 34 : 54);
    let sum = 6 + length;
    for (let i = v4 ? 26 : 22; i < (v4 ? 34 : 54); i += 2) sum += partial[i] << 8 | partial[i + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    partial.set([sum >> 8, sum & 255], at);
  }
  const spoiled = fromClient({ ...base, sport: 49002 });
  spoiled[v4 ? 24 : 14] ^= 0xff;
  const cases: [string, Uint8Array<ArrayBuffer>][] = [
    ["a backend here", fromClient({ ...base, dport: LOCAL })],
    ["nobody there", fromClient({ ...base, dport: NOBODY })],
    ["not in the source ranges", fromClient({ ...base, dport: RANGES })],
    ["no neighbour", fromClient({ ...base, dport: LOST })],
    ["no frontend", fromClient({ ...base, dport: 30099 })],
    ["an endpoint", fromClient({ ...base, to: f.here })],
    ["another protocol", fromClient({ ...base, protocol: 132 })],
    ["ping", fromClient({ ...base, protocol: v4 ? ICMP : ICMPV6 })],
    ["the last hop", fromClient({ ...base, ttl: 1 })],
    ["no flag", fromClient({ ...base, flags: 0 })],
    [
      "options",
      fromClient({
        ...base,
        options: v4 ? [1, 1, 1, 0] : [6, 0, 1, 4, 0, 0, 0, 0],
        nextHeader: v4 ? undefined : 60,
      }),
    ],
    ["a checksum to be finished", partial],
    ["a header that is not one", spoiled],
    ["cut short", fromClient(base).subarray(0, 40).slice()],
    ["another link protocol", fromClient(base).fill(0x08, 12, 13).fill(0x06, 13, 14)],
  ];
  const own = v4 ? ["127.0.0.1"] : ["::1", "::ffff:c633:6407"];
  for (const source of [f.node, f.here, ...own]) {
    cases.push([`from ${source}`, fromClient({ ...base, from: source, sport: 49002 })]);
  }
  if (!v4) cases.push(["to IPv4 in IPv6", fromClient({ ...base, to: "::ffff:c000:201", sport: 49002 })]);
  if (v4) {
    cases.push(["a fragment", fromClient({ ...base, fragment: 0x2000 })]);
    const multicast = fromClient({ ...base, from: "224.0.0.5" });
    cases.push(["from everybody", fixIpv4(multicast)]);
  }
  for (const [what, frame] of cases) {
    const run = made.xdp(frame);
    assert.equal(run.verdict, XDP_PASS, `${f.name} ${what}`);
    assert.deepEqual(run.data, frame, `${f.name} ${what}`);
  }
  // The pair may be there already when it turns out that there is no way; from_netdev goes on with it.
  const pairs = natEntries(node).filter(({ key }) => [49000, 49002].includes(key.portSourceBe));
  assert.deepEqual(pairs.map(({ key }) => key.portDestinationBe).filter((port) => port !== LOST), []);
  node.writeConfig({ flags: abi.CONFIG_TUNNEL });
  assert.equal(made.xdp(fromClient({ ...base, sport: 49003 })).verdict, XDP_PASS);
  node.writeConfig({ flags: abi.CONFIG_DIRECT });
  assert.equal(made.xdp(fromClient({ ...base, sport: 49003 })).verdict, XDP_TX);
});

kernelTest("xdp_netdev() leads out of another device when that takes frames from XDP", async () => {
  const made = await XdpNode.open();
  try {
    const ip = (...args: string[]) => must("ip", "-n", made.name, ...args);
    await ip("link", "add", "second", "type", "veth", "peer", "name", "away");
    await ip("address", "add", "192.0.3.1/24", "dev", "second");
    await ip("link", "set", "away", "up");
    await ip("link", "set", "second", "up");
    await ip("neigh", "add", "192.0.3.2", "lladdr", PEER_MAC, "dev", "second", "nud", "permanent");
    await ip("route", "replace", "10.0.2.0/24", "via", "192.0.3.2");
    const second = Number(
      (await must("ip", "netns", "exec", made.name, "cat", "/sys/class/net/second/ifindex")).trim(),
    );
    const frame = fromClient({ from: FAMILIES[0].client, to: FAMILIES[0].node, dport: SNAT, flags: SYN });
    const left = made.xdp(frame);
    assert.deepEqual([left.verdict, left.data], [XDP_PASS, frame]);
    made.node.map("weir_xdp_devices").update(u32(second), u32(1));
    const sent = made.xdp(frame);
    assert.equal(sent.verdict, XDP_REDIRECT);
    assert.deepEqual([...sent.data.subarray(0, 6)], [...macBytes(PEER_MAC)]);
    assert.deepEqual([...sent.data.subarray(30, 34)], [10, 0, 2, 10]);
  } finally {
    await made.close();
  }
});
