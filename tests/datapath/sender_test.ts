/** Who may say who they are: forged packets, each through the program that must refuse it. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { decapsulator } from "./decapsulator.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, type Run, SHOT } from "./node.ts";
import { ACK, address, be16, ipPacket, packet, type PacketSpec, SYN, TCP, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const NODE2 = "192.0.2.2", NODE3 = "192.0.2.3", STRANGER = "192.0.2.100";
const reasonOf = (run: { events: abi.Event[] }) =>
  run.events.filter((event) => event.type === abi.EVENT_DROP).at(-1)?.subtype;
const outerOf = (event: abi.Event) => event.payload.subarray(abi.EVENT_OUTER_OFFSET);

/** Two pods here; 10.0.2.20 (1002) and node 2's addresses on node 2, 10.0.3.20 (1003) on node 3. */
async function cluster() {
  const made = await twoEndpoints();
  const { node } = made;
  for (const [n, underlay] of [[2, NODE2], [3, NODE3]] as const) {
    for (const own of [underlay, `2001:db8::${n}`, `10.0.${n}.1`, `fd00:${n}::1`]) {
      node.setIpcache(own, 6, underlay);
    }
  }
  node.setIpcache("10.0.3.20", 1003, NODE3);
  node.setIpcache("fd00:3::20", 1003, NODE3);
  return made;
}
const third = (f: Family) => f.name === "IPv4" ? "10.0.3.20" : "fd00:3::20";
const second = (f: Family) => f.name === "IPv4" ? NODE2 : "2001:db8::2";

/** A VXLAN packet between two machines, whole as on the wire. */
function vxlan(
  outer: {
    from: string;
    to: string;
    sport?: number;
    dport?: number;
    fragment?: number;
    options?: number[];
    nextHeader?: number;
  },
  vni: number,
  inner: PacketSpec,
) {
  const payload = [8, 0, 0, 0, ...be16(vni >> 8), vni & 255, 0, ...packet(inner)];
  return packet({ sport: 50000, dport: 8472, ...outer, protocol: UDP, payload });
}

for (const f of FAMILIES) {
  kernelTest(
    `from_overlay(): an inner ${f.name} source counts from its own node and with its own identity`,
    async () => {
      const { node } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      const far = third(f), own = second(f), unknown = f.name === "IPv4" ? "10.0.2.77" : "fd00:2::77";
      node.setIpcache("203.0.113.0/24", (1 << 24) + 5);
      const cases: [string, number | undefined, number, string, string][] = [
        ["its pod", undefined, 1002, f.remote, NODE2],
        ["its pod under another identity", abi.DROP_INVALID_IDENTITY, 1003, f.remote, NODE2],
        ["its pod as the world", abi.DROP_INVALID_IDENTITY, 2, f.remote, NODE2],
        ["its pod as the node", abi.DROP_INVALID_IDENTITY, 6, f.remote, NODE2],
        ["another node's pod", abi.DROP_TUNNEL_SOURCE, 1003, far, NODE2],
        ["another node's pod, as the world", abi.DROP_TUNNEL_SOURCE, 2, far, NODE2],
        ["a pod that nobody knows (yet)", abi.DROP_TUNNEL_SOURCE, 1002, unknown, NODE2],
        ["the world, with a pod's identity", abi.DROP_TUNNEL_SOURCE, 1002, f.world, NODE2],
        ["the world, that the node passes on", undefined, 2, f.world, NODE2],
        ["the node itself", undefined, 6, own, NODE2],
        ["the node itself, for the world that it translates", undefined, 2, own, NODE2],
        ["the node itself as a pod", abi.DROP_INVALID_IDENTITY, 1002, own, NODE2],
        ["another node", abi.DROP_TUNNEL_SOURCE, 6, own, NODE3],
        ["nobody knows the node", abi.DROP_TUNNEL_SOURCE, 1002, f.remote, STRANGER],
        ["our own pod", abi.DROP_INVALID_SIP, 1001, f.b, NODE2],
        ["our own node", abi.DROP_INVALID_SIP, 6, f.host, NODE2],
        [
          "who pods are to themselves",
          abi.DROP_INVALID_SIP,
          2,
          f.name === "IPv4" ? "169.254.42.1" : "fd00:5745:4952::1",
          NODE2,
        ],
        ["identity host", abi.DROP_INVALID_IDENTITY, 1, f.remote, NODE2],
        ["a world of one family", abi.DROP_INVALID_IDENTITY, 9, f.world, NODE2],
      ];
      let sport = 20000;
      for (const to of [f.a, f.host]) {
        for (const [what, reason, vni, source, sender] of cases) {
          const got = run(vni, {
            from: source,
            to,
            sport: sport++,
            protocol: UDP,
            payload: Array(100).fill(1),
          }, sender);
          assert.equal(reasonOf(got), reason, `${what} to ${to}`);
          assert.equal(got.verdict, reason ? SHOT : to === f.a ? REDIRECT : PASS, `${what} to ${to}`);
          if (reason === undefined) continue;
          const event = got.events.at(-1)!;
          assert.ok(event.flags & abi.EVENT_TUNNEL, what);
          assert.deepEqual(outerOf(event), address(sender), `${what}: the event names who sent it`);
          assert.equal(event.vni, vni);
          assert.deepEqual(
            event.payload.subarray(0, 60),
            packet({ from: source, to, sport: sport - 1, protocol: UDP, payload: Array(100).fill(1) })
              .subarray(0, 60),
          );
        }
      }
      const tiny = run(1003, { from: f.remote, to: f.a, protocol: UDP });
      assert.deepEqual(outerOf(tiny.events.at(-1)!), address(NODE2), "a short packet too");
      // as the ipcache says who it is: the world behind a prefix is that prefix
      if (f.name === "IPv4") {
        assert.equal(run(2, { from: "203.0.113.7", to: f.a }).events[0].sourceIdentity, (1 << 24) + 5);
      }
      assert.equal(
        run(2, { from: own, to: f.a, sport: 7 }).events[0].sourceIdentity,
        f.name === "IPv4" ? 9 : 10,
      );
    },
  );

  kernelTest(
    `from_overlay(): ${f.name} may name the identity before, and is judged by the one of now`,
    async () => {
      const { node } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      node.setPolicy(1, {
        enforceIngress: true,
        ingressCookie: 8,
        rules: [{ direction: "ingress", identity: 1002, protocol: 6, port: 80, cookie: 9 }],
      });
      node.changeEndpoint(A, { policy: 1 });
      assert.equal(run(1002, { from: f.remote, to: f.a, sport: 7 }).verdict, REDIRECT);
      // A flow of before, and new ones: who may is told by the ipcache alone.
      node.setIpcache(f.remote, 1003, NODE2, 0, 1002);
      for (const [vni, reason] of [[1002, abi.DROP_POLICY], [1003, abi.DROP_POLICY]]) {
        for (const spec of [{ sport: 7, flags: ACK }, { sport: 8 }]) {
          const got = run(vni, { from: f.remote, to: f.a, ...spec });
          assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, reason], `VNI ${vni}, port ${spec.sport}`);
        }
      }
      node.setIpcache(f.remote, 1002, NODE2, 0, 1003);
      for (const vni of [1002, 1003]) {
        for (
          const spec of [{ sport: 7, flags: ACK }, { sport: 100 + vni }, { sport: 100 + vni, flags: ACK }]
        ) {
          const got = run(vni, { from: f.remote, to: f.a, ...spec });
          assert.equal(got.verdict, REDIRECT, `VNI ${vni}, port ${spec.sport}`);
          assert.ok(got.events.every(({ sourceIdentity }) => sourceIdentity === 1002));
        }
      }
      // No third one, nor from another node, nor of another cluster; and none when the time is over.
      for (
        const [vni, sender, reason] of [
          [1004, NODE2, abi.DROP_INVALID_IDENTITY],
          [0x1_0000 + 1003, NODE2, abi.DROP_INVALID_IDENTITY],
          [2, NODE2, abi.DROP_INVALID_IDENTITY],
          [1003, NODE3, abi.DROP_TUNNEL_SOURCE],
        ] as const
      ) {
        const got = run(vni, { from: f.remote, to: f.a, sport: 9 }, sender);
        assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, reason], `VNI ${vni}`);
      }
      node.setIpcache(f.remote, 1002, NODE2);
      assert.equal(
        reasonOf(run(1003, { from: f.remote, to: f.a, sport: 7, flags: ACK })),
        abi.DROP_INVALID_IDENTITY,
      );
    },
  );

  kernelTest(
    `from_overlay(): a live ${f.name} flow cannot be taken over or spoken into by another node`,
    async () => {
      const { node, from } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      const nodeOf = () => [...node.flows()[0].entry.node.subarray(12)];
      assert.equal(run(1002, { from: f.remote, to: f.a }).verdict, REDIRECT);
      for (
        const change of [
          () => {},
          () => node.setIpcache("198.51.100.0/24", 1 << 24),
          () => node.setIpcache(f.remote, 1002, NODE2),
        ]
      ) {
        change();
        for (
          const [vni, sender, reason] of [
            [1002, STRANGER, abi.DROP_TUNNEL_SOURCE],
            [1002, NODE3, abi.DROP_TUNNEL_SOURCE],
            [2, NODE3, abi.DROP_TUNNEL_SOURCE],
            [1003, NODE2, abi.DROP_INVALID_IDENTITY],
          ] as const
        ) {
          const forged = run(vni, { from: f.remote, to: f.a, flags: ACK }, sender);
          assert.deepEqual([forged.verdict, reasonOf(forged)], [SHOT, reason]);
          assert.deepEqual(nodeOf(), [192, 0, 2, 2], "answers go where they went");
        }
        const answer = from(A, { from: f.a, to: f.remote, sport: 80, dport: 40000, flags: ACK });
        assert.deepEqual([answer.verdict, answer.mark], [REDIRECT, abi.MARK_OVERLAY]);
        assert.equal(run(1002, { from: f.remote, to: f.a, flags: ACK }).verdict, REDIRECT);
      }
      // when the pod moves, the ipcache says so, and only then
      node.setIpcache(f.remote, 1002, NODE3);
      assert.equal(reasonOf(run(1002, { from: f.remote, to: f.a, flags: ACK })), abi.DROP_TUNNEL_SOURCE);
      assert.equal(run(1002, { from: f.remote, to: f.a, flags: ACK }, NODE3).verdict, REDIRECT);
      assert.deepEqual(nodeOf(), [192, 0, 2, 3]);
    },
  );

  kernelTest(`from_netdev() and from_overlay(): ${f.name} errors come from who may speak`, async () => {
    const { node, from } = await cluster();
    using _ = node;
    const { object, run } = await decapsulator(node);
    using __ = object;
    const asked = { from: f.a, to: f.remote, sport: 30000, dport: 53, protocol: UDP };
    assert.equal(from(A, asked).verdict, REDIRECT);
    const v4 = f.name === "IPv4";
    const error = (source: string): PacketSpec => ({
      from: source,
      to: f.a,
      protocol: f.icmp,
      type: v4 ? 3 : 1,
      code: v4 ? 1 : 0,
      id: 0,
      payload: ipPacket(asked),
    });
    assert.equal(run(1002, error(f.remote)).verdict, REDIRECT, "the pod that was asked");
    assert.equal(run(6, error(second(f))).verdict, REDIRECT, "its node");
    assert.equal(run(2, error(f.world)).verdict, REDIRECT, "a router");
    for (
      const [source, vni, sender] of [[third(f), 1003, NODE2], [f.remote, 1002, NODE3], [
        f.b,
        1001,
        NODE2,
      ]] as const
    ) {
      assert.equal(run(vni, error(source), sender).verdict, SHOT, `${source} by ${sender}`);
    }
    assert.equal(node.run("from_netdev", packet(error(f.world))).verdict, REDIRECT, "a router outside");
    for (const source of [f.remote, third(f), f.b, f.host]) {
      assert.equal(
        node.run("from_netdev", packet(error(source))).verdict,
        SHOT,
        `${source} outside the tunnel`,
      );
    }
  });

  kernelTest(
    `from_netdev(): a pod's ${f.name} address is nobody's outside the tunnel, on live flows neither`,
    async () => {
      const { node, from } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      const wire = (spec: PacketSpec) => node.run("from_netdev", packet(spec));
      const refused = (got: Run, reason: number, what: string) =>
        assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, reason], what);
      refused(wire({ from: f.remote, to: f.a }), abi.DROP_INVALID_IDENTITY, "a new flow");
      assert.equal(run(1002, { from: f.remote, to: f.a }).verdict, REDIRECT);
      refused(wire({ from: f.remote, to: f.a, flags: ACK }), abi.DROP_INVALID_IDENTITY, "a live one");
      assert.equal(from(A, { from: f.a, to: f.remote, sport: 5, dport: 6, protocol: UDP }).verdict, REDIRECT);
      refused(
        wire({ from: f.remote, to: f.a, sport: 6, dport: 5, protocol: UDP }),
        abi.DROP_INVALID_IDENTITY,
        "an answer",
      );
      // two pods of this node
      assert.equal(from(A, { from: f.a, to: f.b }).verdict, REDIRECT);
      refused(wire({ from: f.a, to: f.b, flags: ACK }), abi.DROP_INVALID_SIP, "one of ours");
      // what is to be passed on: into the tunnel, or to where somebody believes us
      for (const source of [f.a, f.host]) {
        refused(wire({ from: source, to: f.remote }), abi.DROP_INVALID_SIP, `${source} by way of us`);
      }
      refused(
        wire({ from: third(f), to: f.remote }),
        abi.DROP_INVALID_IDENTITY,
        "another node's pod by way of us",
      );
      assert.equal(wire({ from: f.world, to: f.remote }).verdict, PASS);
      // the world and nodes go on as before
      assert.equal(wire({ from: f.world, to: f.a, sport: 9 }).verdict, REDIRECT);
      assert.equal(wire({ from: second(f), to: f.a, sport: 9 }).verdict, REDIRECT);
    },
  );

  kernelTest(
    `to_endpoint(): ${f.name} that the stack passes on from a network is as if it came by that`,
    async () => {
      const { node, devices } = await cluster();
      using _ = node;
      const outer = node.addDevice();
      const stack = (spec: PacketSpec, device: number) => {
        const ctx = new Uint8Array(192), view = new DataView(ctx.buffer);
        view.setUint32(36, device, true);
        view.setUint32(40, devices[0], true);
        node.drainEvents();
        const result = node.program("to_endpoint").testRun({ data: packet(spec), ctx });
        return { verdict: result.retval, events: node.drainEvents() };
      };
      for (
        const [source, reason] of [[f.b, abi.DROP_INVALID_SIP], [
          f.remote,
          abi.DROP_INVALID_IDENTITY,
        ]] as const
      ) {
        const got = stack({ from: source, to: f.a }, outer);
        assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, reason], source);
      }
      assert.equal(stack({ from: f.world, to: f.a }, outer).verdict, PASS);
      // masqueraded by the host; by an endpoint's device; by the tunnel, whose senders are checked
      assert.equal(stack({ from: f.host, to: f.a }, outer).verdict, PASS);
      assert.equal(stack({ from: f.b, to: f.a, sport: 7 }, devices[1]).verdict, PASS);
      assert.equal(stack({ from: f.remote, to: f.a, sport: 8 }, node.config.tunnelIfindex).verdict, PASS);
      // and such flows are not open to the network afterwards
      assert.equal(
        reasonOf(stack({ from: f.remote, to: f.a, sport: 8, flags: ACK }, outer)),
        abi.DROP_INVALID_IDENTITY,
      );
      assert.equal(
        reasonOf(node.run("from_netdev", packet({ from: f.remote, to: f.a, sport: 8, flags: ACK }))),
        abi.DROP_INVALID_IDENTITY,
      );
    },
  );

  kernelTest(`what a pod says to itself through a service comes by ${f.name} from nowhere else`, async () => {
    const { node, from, to } = await cluster();
    using _ = node;
    const { object, run } = await decapsulator(node);
    using __ = object;
    const v4 = f.name === "IPv4", vip = v4 ? "10.96.0.1" : "fd00:96::1";
    const self = v4 ? "169.254.42.1" : "fd00:5745:4952::1";
    setBackend(node, { id: 1, address: f.a, port: 8080, service: 7 });
    setSelection(node, 1, [1]);
    setFrontend(node, { address: vip, port: 80, service: 7, internal: 1 });
    node.setPolicy(1, { enforceIngress: true, rules: [] });
    node.changeEndpoint(A, { policy: 1 });
    assert.equal(from(A, { from: f.a, to: vip, sport: 33333 }).verdict, REDIRECT);
    for (const flags of [SYN, ACK]) {
      const spec = { from: self, to: f.a, sport: 33333, dport: 8080, flags };
      for (const got of [node.run("from_netdev", packet(spec)), run(2, spec), run(6, spec), to(A, spec)]) {
        assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, abi.DROP_INVALID_SIP]);
      }
      assert.equal(from(A, { from: f.a, to: vip, sport: 33333, flags: ACK }).verdict, REDIRECT);
    }
    node.changeEndpoint(B, { flags: abi.ENDPOINT_PEER | abi.ENDPOINT_NO_SOURCE_CHECK });
    for (const sport of [33333, 33334]) {
      const got = from(B, { from: self, to: f.a, sport, dport: 8080, flags: ACK });
      assert.deepEqual(
        [got.verdict, reasonOf(got)],
        [SHOT, abi.DROP_INVALID_SIP],
        "an endpoint that may use other addresses",
      );
    }
  });

  kernelTest(
    `a DSR option (${f.name}) says nothing about a live flow, and with a tunnel only nodes write it`,
    async () => {
      const { node, from } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      const v4 = f.name === "IPv4", vip = v4 ? "203.0.113.10" : "2001:db8:10::10";
      const bytes = [...address(vip).subarray(v4 ? 12 : 0)];
      const option: Partial<PacketSpec> = v4
        ? { options: [0x9a, 8, 0, 80, ...bytes] }
        : { nextHeader: 60, options: [6, 2, 0x1b, 20, ...bytes, 0, 80, 0, 0] };
      const flags = abi.FRONTEND_EXTERNAL | abi.FRONTEND_DSR;
      setFrontend(node, { address: vip, port: 80, service: 7, flags });
      const translated = () =>
        node.flows().map(({ entry }) => entry.flags & abi.CT_REPLY_NAT).filter((flag) => flag).length;
      // an answer, and later packets of a flow that began without
      assert.equal(from(A, { from: f.a, to: f.world, sport: 5000, dport: 443 }).verdict, PASS);
      for (const mode of [abi.CONFIG_TUNNEL, abi.CONFIG_DIRECT]) {
        node.writeConfig({ flags: mode });
        const answer = node.run(
          "from_netdev",
          packet({ from: f.world, to: f.a, sport: 443, dport: 5000, flags: SYN | ACK, ...option }),
        );
        assert.equal(answer.verdict, REDIRECT);
        assert.equal(
          node.run("from_netdev", packet({ from: f.world, to: f.a, sport: 1, dport: 8080 })).verdict,
          REDIRECT,
        );
        for (const again of [SYN, ACK]) {
          node.run(
            "from_netdev",
            packet({ from: f.world, to: f.a, sport: 1, dport: 8080, flags: again, ...option }),
          );
        }
        assert.equal(translated(), 0);
      }
      // with a tunnel: from whom?
      node.writeConfig({ flags: abi.CONFIG_TUNNEL });
      const open = (sport: number, source = f.world) => ({
        from: source,
        to: f.a,
        sport,
        dport: 8080,
        ...option,
      });
      assert.equal(node.run("from_netdev", packet(open(2))).verdict, REDIRECT);
      assert.equal(run(1002, open(3, f.remote)).verdict, REDIRECT);
      assert.equal(translated(), 0, "neither from outside nor from a pod");
      assert.equal(run(2, open(4)).verdict, REDIRECT);
      assert.equal(translated(), 1, "from a node that passes the world on");
      // without: nobody gets more than who asks the frontend
      node.writeConfig({ flags: abi.CONFIG_DIRECT });
      setFrontend(node, { address: vip, port: 80, service: 7, flags: flags | abi.FRONTEND_SOURCE_RANGES });
      assert.equal(node.run("from_netdev", packet(open(5))).verdict, REDIRECT);
      setFrontend(node, { address: vip, port: 80, service: 7, flags: abi.FRONTEND_DSR });
      assert.equal(node.run("from_netdev", packet(open(6))).verdict, REDIRECT);
      setFrontend(node, { address: vip, port: 80, service: 7, flags });
      assert.equal(node.run("from_netdev", packet(open(7, f.remote))).verdict, REDIRECT);
      assert.equal(translated(), 1);
      assert.equal(node.run("from_netdev", packet(open(8))).verdict, REDIRECT);
      assert.equal(translated(), 2);
    },
  );
}

kernelTest("from_netdev(): a tunnel packet is a node's or nobody's, whatever it is wrapped in", async () => {
  const { node } = await cluster();
  using _ = node;
  node.setIpcache("2001:db8::4", 6, "2001:db8::4");
  const inner: PacketSpec = { from: "10.0.2.20", to: "10.0.1.10" };
  const wire = (from: string, to: string, more = {}) =>
    node.run("from_netdev", vxlan({ from, to, ...more }, 1002, inner));
  assert.equal(wire(NODE2, "192.0.2.1").verdict, PASS);
  assert.equal(wire("2001:db8::4", "2001:db8::1").verdict, PASS);
  for (
    const [from, to] of [
      [STRANGER, "192.0.2.1"],
      ["10.0.2.1", "192.0.2.1"], // a node's gateway is not where its packets come from
      ["10.0.2.20", "192.0.2.1"],
      ["198.51.100.7", "10.0.1.1"],
      ["2001:db8::100", "2001:db8::1"],
    ]
  ) {
    for (const more of [{}, from.includes(":") ? {} : { fragment: 0x2000, datagram: 7 }]) {
      const got = wire(from, to, more);
      assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, abi.DROP_TUNNEL_SENDER], from);
      const event = got.events.at(-1)!;
      assert.deepEqual(
        event.payload.subarray(0, 54),
        vxlan({ from, to, ...more }, 1002, inner).subarray(0, 54),
      );
      assert.equal(event.flags & abi.EVENT_TUNNEL, 0);
    }
  }
  assert.equal(node.counted(abi.DROP_TUNNEL_SENDER, abi.DIRECTION_INGRESS), 10);
  // a pod may have the port, and where there is no tunnel it is as any other
  assert.equal(wire("198.51.100.7", "10.0.1.10").verdict, REDIRECT);
  node.writeConfig({ flags: abi.CONFIG_DIRECT });
  assert.equal(wire(STRANGER, "192.0.2.1").verdict, PASS);
});

kernelTest("from_overlay(): what from_netdev has not seen is nobody's", async () => {
  const { node } = await cluster();
  using _ = node;
  const { object, run } = await decapsulator(node);
  using __ = object;
  const spec = { from: "10.0.2.20", to: "10.0.1.10" };
  assert.equal(run(1002, spec).verdict, REDIRECT);
  // a socket's mark without the origin; the origin that another namespace has given it, without the mark
  for (
    const [origin, mark] of [[0, abi.MARK_TUNNEL], [abi.ORIGIN_OVERLAY, abi.MARK_TUNNEL], [
      abi.ORIGIN_NODE,
      0,
    ], [
      abi.ORIGIN_NODE,
      abi.MARK_DELIVERED,
    ], [0, abi.MARK_FRAGMENT]]
  ) {
    const got = run(1002, spec, NODE2, origin, mark);
    assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, abi.DROP_TUNNEL_DEVICE]);
    assert.deepEqual(outerOf(got.events[0]), address(NODE2));
    assert.equal(got.events[0].vni, 1002);
  }
});

for (const f of FAMILIES) {
  kernelTest(`nobody on this node but its tunnel sends ${f.name} to the tunnel port`, async () => {
    const { node, from } = await cluster();
    using _ = node;
    const v4 = f.name === "IPv4", to = second(f);
    const forged = (spec: PacketSpec, mark = 0, why = "") => {
      const got = node.run("to_netdev", packet(spec), 1, mark);
      assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, abi.DROP_ENCAP_PROHIBITED], why);
    };
    const udp = (source: string, more: Partial<PacketSpec> = {}): PacketSpec => ({
      from: source,
      to,
      protocol: UDP,
      sport: 50000,
      dport: 8472,
      payload: [8, 0, 0, 0],
      ...more,
    });
    forged(udp(f.host), 0, "a process");
    for (const mark of [abi.MARK_TRANSLATED, abi.MARK_DELIVERED, abi.MARK_OVERLAY, abi.MARK_TUNNEL]) {
      forged(udp(f.host), mark, "with a mark");
    }
    forged(udp(f.a), 0, "a pod's address");
    forged(udp(v4 ? NODE3 : "2001:db8::3"), 0, "another node's address");
    forged(udp(f.world), 0, "passed on");
    forged(
      udp(f.host, v4 ? { fragment: 0x2000 } : { nextHeader: 44, options: [17, 0, 0, 1, 0, 0, 0, 9] }),
      0,
      "a first fragment",
    );
    // other ports and protocols are the host's business
    for (const spec of [udp(f.host, { dport: 8473 }), { from: f.host, to, dport: 8472, protocol: TCP }]) {
      assert.equal(node.run("to_netdev", packet(spec)).verdict, PASS);
    }
    assert.equal(
      node.run("to_overlay", packet({ from: f.host, to: f.remote, protocol: UDP, dport: 8472 })).verdict,
      SHOT,
    );
    // pods: directly, through a service, from the port
    setBackend(node, { id: 1, address: to, port: 8472, protocol: UDP });
    setBackend(node, { id: 2, address: f.host, port: 8472, protocol: UDP });
    for (const id of [1, 2]) {
      setSelection(node, id, [id]);
      setFrontend(node, {
        address: v4 ? "0.0.0.0" : "::",
        port: 30000 + id,
        protocol: UDP,
        internal: id,
        external: id,
        flags: abi.FRONTEND_EXTERNAL,
      });
      for (const dsr of [0, abi.FRONTEND_DSR]) {
        setFrontend(node, {
          address: v4 ? "203.0.113.1" : "2001:db8:10::1",
          port: id,
          protocol: UDP,
          internal: id,
          external: id,
          flags: abi.FRONTEND_EXTERNAL | dsr,
        });
        for (
          const [where, port] of [[f.host, 30000 + id], [v4 ? "203.0.113.1" : "2001:db8:10::1", id]] as const
        ) {
          const got = node.run(
            "from_netdev",
            packet({ from: f.world, to: where, protocol: UDP, sport: 9, dport: port }),
          );
          assert.deepEqual(
            [got.verdict, reasonOf(got)],
            [SHOT, abi.DROP_ENCAP_PROHIBITED],
            `outside to ${where} ${port}`,
          );
          const pod = from(A, { from: f.a, to: where, protocol: UDP, sport: 9, dport: port });
          assert.deepEqual(
            [pod.verdict, reasonOf(pod)],
            [SHOT, abi.DROP_ENCAP_PROHIBITED],
            `a pod to ${where} ${port}`,
          );
        }
      }
    }
    for (const where of [to, f.host, f.world, f.remote, f.b]) {
      const pod = from(A, { from: f.a, to: where, protocol: UDP, dport: 8472 });
      assert.deepEqual([pod.verdict, reasonOf(pod)], [SHOT, abi.DROP_ENCAP_PROHIBITED], where);
    }
    // who asks from the port would be answered there, from this node's address
    setBackend(node, { id: 3, address: f.remote, port: 53, protocol: UDP });
    setBackend(node, { id: 4, address: f.a, port: 53, protocol: UDP });
    for (const id of [3, 4]) {
      setSelection(node, id, [id]);
      setFrontend(node, {
        address: v4 ? "0.0.0.0" : "::",
        port: 30000 + id,
        protocol: UDP,
        internal: id,
        external: id,
        flags: abi.FRONTEND_EXTERNAL,
      });
      const got = node.run(
        "from_netdev",
        packet({ from: to, to: f.host, protocol: UDP, sport: 8472, dport: 30000 + id }),
      );
      assert.deepEqual([got.verdict, reasonOf(got)], [SHOT, abi.DROP_ENCAP_PROHIBITED], "from the port");
    }
    const asks = node.run(
      "from_netdev",
      packet({ from: f.world, to: f.a, protocol: UDP, sport: 8472, dport: 53 }),
    );
    assert.deepEqual([asks.verdict, reasonOf(asks)], [SHOT, abi.DROP_ENCAP_PROHIBITED]);
  });

  kernelTest(
    `a pair of weir_nat is used by ${f.name} of who may: the backend's answers and the client's packets`,
    async () => {
      const { node } = await cluster();
      using _ = node;
      const { object, run } = await decapsulator(node);
      using __ = object;
      const any = f.name === "IPv4" ? "0.0.0.0" : "::";
      for (const protocol of [TCP, UDP]) {
        setBackend(node, { id: protocol, address: f.remote, port: 8080, protocol });
        setSelection(node, protocol, [protocol]);
        setFrontend(node, {
          address: any,
          port: 30080,
          protocol,
          internal: protocol,
          external: protocol,
          flags: abi.FRONTEND_EXTERNAL,
        });
        const wire = (spec: PacketSpec) => node.run("from_netdev", packet({ protocol, ...spec }));
        // for the test's tunnel device: 1, lo
        assert.equal(wire({ from: f.world, to: f.host, sport: 40000, dport: 30080 }).verdict, REDIRECT);
        const answer: PacketSpec = {
          protocol,
          from: f.remote,
          to: f.host,
          sport: 8080,
          dport: 40000,
          flags: SYN | ACK,
        };
        const forged = wire(answer);
        assert.deepEqual(
          [forged.verdict, reasonOf(forged)],
          [SHOT, abi.DROP_INVALID_IDENTITY],
          "outside the tunnel",
        );
        assert.equal(reasonOf(run(1002, answer, NODE3)), abi.DROP_TUNNEL_SOURCE, "by another node");
        assert.equal(reasonOf(run(1003, answer)), abi.DROP_INVALID_IDENTITY, "as somebody else");
        assert.notEqual(reasonOf(run(1002, answer)), abi.DROP_INVALID_IDENTITY);
        // who asks through the tunnel
        assert.equal(
          run(1003, { protocol, from: third(f), to: f.host, sport: 41000, dport: 30080 }, NODE3).verdict,
          REDIRECT,
        );
        const spoken = wire({ from: third(f), to: f.host, sport: 41000, dport: 30080, flags: ACK });
        assert.deepEqual(
          [spoken.verdict, reasonOf(spoken)],
          [SHOT, abi.DROP_INVALID_IDENTITY],
          "into a live flow",
        );
        for (
          const [source, reason] of [[third(f), abi.DROP_INVALID_IDENTITY], [f.b, abi.DROP_INVALID_SIP], [
            f.host,
            abi.DROP_INVALID_SIP,
          ]] as const
        ) {
          assert.equal(
            reasonOf(wire({ from: source, to: f.host, sport: 42000, dport: 30080 })),
            reason,
            `${source} asks outside the tunnel`,
          );
        }
      }
    },
  );
}
