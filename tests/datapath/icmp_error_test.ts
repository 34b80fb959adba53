/**
 * ICMP errors are believed for flows that their receiver has, and for what a router could say of them: every hook that takes
 * one, every way to forge one.
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, type Run, SHOT } from "./node.ts";
import {
  ACK,
  be16,
  be32,
  checksum,
  ICMP,
  ipPacket,
  packet,
  type PacketSpec,
  SYN,
  TCP,
  UDP,
} from "./packet.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const FLOW = abi.DROP_ICMP_ERROR_FLOW, INVALID = abi.DROP_ICMP_ERROR_INVALID;

interface Quote {
  /** MTU of a "packet too big"; without: unreachable. */
  mtu?: number;
  /** Length that the quoted header claims; default 1400. */
  length?: number;
  /** Bytes of the quoted packet behind its header; default 8. */
  bytes?: number;
  mayFragment?: boolean;
  /** IPv6: extension headers of the quoted packet. */
  headers?: number[];
  next?: number;
}

/** The ICMP message about a packet. */
function error(f: Family, from: string, to: string, about: PacketSpec, quote: Quote = {}): PacketSpec {
  const v4 = f.icmp === ICMP;
  const packet = ipPacket({ ...about, options: quote.headers ?? [], nextHeader: quote.next });
  const quoted = packet.slice(0, (v4 ? 20 : 40) + (quote.headers?.length ?? 0) + (quote.bytes ?? 8));
  quoted.set(be16((quote.length ?? 1400) - (v4 ? 0 : 40)), v4 ? 2 : 4);
  if (v4) quoted[6] = quote.mayFragment ? 0 : 0x40;
  const kind = quote.mtu === undefined ? (v4 ? [3, 3] : [1, 4]) : v4 ? [3, 4] : [2, 0];
  const word = quote.mtu === undefined ? [0, 0, 0, 0] : v4 ? [0, 0, ...be16(quote.mtu)] : be32(quote.mtu);
  const upper = [...kind, 0, 0, ...word, ...quoted];
  const sum = checksum(upper);
  upper.splice(2, 2, sum >> 8, sum & 255);
  return { from, to, protocol: f.icmp, upper };
}
const said = (
  run: Run,
) => [
  run.verdict,
  ...run.events.filter((e) => e.type !== abi.EVENT_TROUBLE).map((e) =>
    e.type === abi.EVENT_DROP ? e.subtype : e.reason
  ),
];

for (const f of FAMILIES) {
  const router = f.icmp === ICMP ? "203.0.113.1" : "2001:db8:ffff::1";
  /** A, B with a live UDP and a TCP flow of A's to the world; hooks that errors reach A by. */
  const live = async () => {
    const made = await twoEndpoints();
    const { node, from } = made;
    const udp: PacketSpec = { from: f.a, to: f.world, protocol: UDP, sport: 5, dport: 53 };
    const tcp: PacketSpec = { from: f.a, to: f.world, sport: 6, dport: 80, seq: 0xfffffff0 };
    assert.equal(from(A, udp).verdict, PASS);
    assert.equal(from(A, { ...tcp, flags: SYN }).verdict, PASS);
    const hooks = {
      from_netdev: (spec: PacketSpec) => node.run("from_netdev", packet(spec), 1),
      to_endpoint: (spec: PacketSpec) => made.to(A, spec),
    };
    return { ...made, udp, tcp, hooks };
  };

  kernelTest(
    `${f.name}: "too big" reaches who sent the quoted packet, and is reported with its flow`,
    async () => {
      const { node, udp, tcp, hooks } = await live();
      using _ = node;
      node.setPolicy(1, { enforceIngress: true, rules: [] });
      node.changeEndpoint(A, { policy: 1 });
      for (const [hook, run] of Object.entries(hooks)) {
        const passed = hook === "to_endpoint" ? PASS : REDIRECT;
        for (const about of [udp, tcp]) {
          for (const mtu of [undefined, 1280, 1399]) {
            const got = run(error(f, router, f.a, about, { mtu }));
            assert.deepEqual(said(got), [passed, abi.REASON_RELATED], `${hook} ${about.protocol} ${mtu}`);
            assert.equal(got.events[0].destinationEndpoint, A);
          }
        }
        // BIG TCP: a length that the field cannot say
        assert.equal(
          run(error(f, router, f.a, tcp, { mtu: 1280, length: f.icmp === ICMP ? 0 : 40 })).verdict,
          passed,
        );
        if (f.icmp !== ICMP) {
          // behind destination options, in the first fragment; not in a later one
          const more = { mtu: 1280, headers: [17, 0, 1, 4, 0, 0, 0, 0], next: 60 };
          assert.equal(run(error(f, router, f.a, udp, more)).verdict, passed);
          const first = { mtu: 1280, headers: [17, 0, 0, 1, 0, 0, 0, 9], next: 44 };
          assert.equal(run(error(f, router, f.a, udp, first)).verdict, passed);
          const later = { mtu: 1280, headers: [17, 0, 8, 1, 0, 0, 0, 9], next: 44 };
          assert.deepEqual(said(run(error(f, router, f.a, udp, later))), [SHOT, FLOW]);
        }
      }
    },
  );

  kernelTest(`${f.name}: an error about a packet that its receiver never sent is dropped (244)`, async () => {
    const { node, from, to, udp, tcp, hooks } = await live();
    using _ = node;
    // The world speaks to A's port 7, and nobody answers.
    assert.equal(to(A, { from: f.world, to: f.a, protocol: UDP, sport: 9, dport: 7 }).verdict, PASS);
    const cases: [string, PacketSpec][] = [
      ["another port", { ...udp, sport: 4 }],
      ["another destination", { ...udp, to: router }],
      ["another protocol", { ...udp, protocol: TCP }],
      ["another sender", { ...udp, from: f.b }],
      ["an answer that was never sent", { from: f.a, to: f.world, protocol: UDP, sport: 7, dport: 9 }],
      ["a sequence number far ahead", { ...tcp, seq: 0x10000000 }],
      ["a sequence number far behind", { ...tcp, seq: 0xf0000000 }],
      ["half the numbers away", { ...tcp, seq: 0x7ffffff0 }],
      ["a protocol without ports", { ...udp, protocol: 47, upper: Array(8).fill(0) }],
    ];
    for (const [name, about] of cases) {
      for (const [hook, run] of Object.entries(hooks)) {
        for (const mtu of [undefined, 1300]) {
          assert.deepEqual(
            said(run(error(f, router, f.a, about, { mtu }))),
            [SHOT, FLOW],
            `${hook}: ${name}, ${mtu}`,
          );
        }
      }
    }
    // What is sent later may be quoted, what was sent long before no more.
    for (let seq = 0; seq <= 0x3000000; seq += 0x400000) from(A, { ...tcp, seq, flags: ACK });
    const about = (seq: number) =>
      said(hooks.from_netdev(error(f, router, f.a, { ...tcp, seq }, { mtu: 1300 })))[0];
    assert.deepEqual([0x3000000, 0x2fff000, 0x2400000, 0x1000000, 0xfffffff0].map(about), [
      REDIRECT,
      REDIRECT,
      REDIRECT,
      SHOT,
      SHOT,
    ]);
    // An expired flow is none.
    node.expireFlows();
    assert.deepEqual(said(hooks.from_netdev(error(f, router, f.a, udp))), [SHOT, FLOW]);
    assert.equal(node.flows().length, 3);
  });

  kernelTest(`${f.name}: a pod speaks about its own flows, to who is at their other end`, async () => {
    const { node, from, udp } = await live();
    using _ = node;
    const own: PacketSpec = { from: f.b, to: f.a, protocol: UDP, sport: 9, dport: 10 };
    const tcp: PacketSpec = { from: f.b, to: f.a, sport: 9, dport: 10, seq: 5 << 16 };
    assert.equal(from(B, own).verdict, REDIRECT);
    assert.equal(from(B, { ...tcp, flags: SYN }).verdict, REDIRECT);
    assert.deepEqual(said(from(A, error(f, f.a, f.b, own))), [REDIRECT, abi.REASON_RELATED]);
    assert.deepEqual(said(from(A, error(f, f.a, f.b, own, { mtu: 1300 }))), [REDIRECT, abi.REASON_RELATED]);
    assert.deepEqual(said(from(A, error(f, f.a, f.b, tcp, { mtu: 1300 }))), [REDIRECT, abi.REASON_RELATED]);
    assert.deepEqual(said(from(A, error(f, f.a, f.b, { ...tcp, seq: 0x80000000 }, { mtu: 1300 }))), [
      SHOT,
      FLOW,
    ]);
    for (const mtu of [undefined, 1300]) {
      // A's flow to the world: B lowers A's path MTU, or ends A's connection
      assert.deepEqual(said(from(B, error(f, f.b, f.a, udp, { mtu }))), [SHOT, FLOW]);
      // a flow that there is not, to another pod, to the world and to the node
      for (const to of [f.a, f.world, f.host, f.remote]) {
        assert.deepEqual(said(from(B, error(f, f.b, to, { ...udp, from: to, to: f.b }, { mtu }))), [
          SHOT,
          FLOW,
        ], to);
      }
    }
    // Whatever policy allows: an error alone is no message.
    node.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress" }] });
    node.changeEndpoint(B, { policy: 1 });
    assert.deepEqual(said(from(B, error(f, f.b, f.world, { ...udp, from: f.world, to: f.b }))), [SHOT, FLOW]);
  });

  kernelTest(`${f.name}: an error that no router says is dropped (245)`, async () => {
    const { node, udp, hooks } = await live();
    using _ = node;
    const max = f.icmp === ICMP ? 576 : 1280, header = f.icmp === ICMP ? 20 : 40;
    const big = { ...udp, payload: Array(2000).fill(0x41) };
    const room = max - 2 * header - 8;
    const cases: [string, Quote][] = [
      ["longer than errors may be", { mtu: 1300, bytes: room + 1 }],
      ["of another type, too", { bytes: room + 1 }],
      ["a letter of 1120 bytes", { mtu: 1300, bytes: f.icmp === ICMP ? 1120 : 1220 }],
      ["an MTU of 0", { mtu: 0 }],
      ["an MTU of 68", { mtu: 68 }],
      ["an MTU below the least", { mtu: f.icmp === ICMP ? 551 : 1279 }],
      ["an MTU that the packet fits", { mtu: 1400 }],
      ["an MTU above every packet", { mtu: 65000 }],
    ];
    if (f.icmp === ICMP) cases.push(["a packet that may be fragmented", { mtu: 1300, mayFragment: true }]);
    for (const [name, quote] of cases) {
      for (const [hook, run] of Object.entries(hooks)) {
        assert.deepEqual(said(run(error(f, router, f.a, big, quote))), [SHOT, INVALID], `${hook}: ${name}`);
      }
    }
    for (const [hook, run] of Object.entries(hooks)) {
      assert.notEqual(run(error(f, router, f.a, big, { mtu: 1300, bytes: room })).verdict, SHOT, hook);
    }
    // in pieces
    const whole = error(f, router, f.a, big, { mtu: 1300, bytes: f.icmp === ICMP ? 12 : 8 });
    const piece: PacketSpec = f.icmp === ICMP
      ? { ...whole, fragment: 0x2000 }
      : { ...whole, nextHeader: 44, options: [58, 0, 0, 1, 0, 0, 0, 9] };
    assert.deepEqual(said(hooks.from_netdev(piece)), [SHOT, INVALID]);
  });

  kernelTest(
    `${f.name}: so many errors a second say "too big" to an endpoint, and no more (198)`,
    async () => {
      const { node, from, udp, hooks } = await live();
      using _ = node;
      const tell = () => said(hooks.from_netdev(error(f, router, f.a, udp, { mtu: 1300 })))[1];
      let heard: ReturnType<typeof tell>[] = [];
      await until("a hundred are told of within a second", async () => {
        await new Promise((done) => setTimeout(done, 1100));
        const startMs = performance.now();
        heard = Array.from({ length: 100 }, tell);
        return performance.now() - startMs < 900;
      });
      assert.equal(heard.filter((what) => what === abi.REASON_RELATED).length, abi.ERRORS_PER_SECOND);
      assert.equal(heard.at(-1), abi.DROP_RATE_LIMITED);
      // Others have their own, and other errors are not counted.
      const other: PacketSpec = { from: f.b, to: f.world, protocol: UDP, sport: 5, dport: 53 };
      assert.equal(from(B, other).verdict, PASS);
      assert.equal(
        node.run("from_netdev", packet(error(f, router, f.b, other, { mtu: 1300 })), 1).verdict,
        REDIRECT,
      );
      assert.equal(hooks.from_netdev(error(f, router, f.a, udp)).verdict, REDIRECT);
      await new Promise((done) => setTimeout(done, 1100));
      assert.equal(tell(), abi.REASON_RELATED);
    },
  );
}
