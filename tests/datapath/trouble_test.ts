/** Flows that policy allows and that fail all the same are told of, counted at both ends, and flood nobody. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { readPacket } from "../../services/flow-exporter/packet.ts";
import { kernelTest } from "./kernel_test_case.ts";
import type { TestNode } from "./node.ts";
import { ACK, ICMP, ipPacket, packet, type PacketSpec, RST, SYN, UDP } from "./packet.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

const OUTSIDE = abi.EVENT_OUTSIDE;
const KINDS = ["", "no-answer", "refused", "unreachable", "too-big", "unconfirmed", "retransmitted"];

/** Makes every flow older. */
function age(node: TestNode, seconds: number): void {
  for (const [key, value] of node.map("weir_ct").entries()) {
    const entry = abi.CtEntry.decode(value);
    entry.created = (entry.created - seconds * node.config.hz) >>> 0;
    node.map("weir_ct").update(key, abi.CtEntry.encode(entry));
  }
}
function sweep(node: TestNode): { found: number; waiting: number; told: abi.Event[] } {
  node.drainEvents();
  const { ctx, retval } = node.program("weir_unanswered").testRun({ ctx: new Uint8Array(16) });
  assert.equal(retval, 0);
  const { found, waiting } = abi.UnansweredRequest.decode(ctx);
  return { found, waiting, told: node.drainEvents().filter((event) => event.type === abi.EVENT_TROUBLE) };
}
/** What was counted for an element, by kind. */
function counts(node: TestNode, element: number): Record<string, number> {
  const value = node.map("weir_troubles").lookup(new Uint8Array(Uint32Array.of(element).buffer))!;
  return Object.fromEntries(
    abi.Troubles.decode(value).counts.map((count, kind) => [KINDS[kind], Number(count)]).filter(([, n]) => n),
  );
}
const troubles = (events: abi.Event[]) =>
  events.filter((event) => event.type === abi.EVENT_TROUBLE).map((event) => KINDS[event.subtype]);
/** The packet of a record. */
function seen(event: abi.Event) {
  const { ip, transport } = readPacket(event.payload.slice(0, event.lengthCaptured), event.flags & 2 ? 3 : 2);
  return { from: ip?.source, to: ip?.destination, transport };
}
/** Port unreachable, or "too big", about a packet. */
function error(f: Family, from: string, to: string, about: PacketSpec, mtu?: number): PacketSpec {
  const v4 = f.icmp === ICMP, quoted = ipPacket({ ...about, payload: Array(mtu ? 8 : 0).fill(0) });
  quoted.set([1400 >> 8, 1400 & 255], v4 ? 2 : 4);
  if (v4) quoted[6] = 0x40;
  const word = mtu === undefined ? [0, 0, 0, 0] : [0, 0, mtu >> 8, mtu & 255];
  const kind = mtu === undefined ? (v4 ? [3, 3] : [1, 4]) : v4 ? [3, 4] : [2, 0];
  return { from, to, protocol: f.icmp, upper: [...kind, 0, 0, ...word, ...quoted] };
}

for (const f of FAMILIES) {
  const echo = f.icmp === ICMP ? { type: 8 } : { type: 128 };

  kernelTest(`${f.name}: a flow that got no answer is told of after a second and after ten`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const syn: PacketSpec = { from: f.a, to: f.remote, sport: 4001, dport: 80, flags: SYN };
    const tried: [PacketSpec, number][] = [
      [syn, 3],
      [{ from: f.a, to: f.world, protocol: UDP, sport: 4002, dport: 53 }, 2],
      [{ from: f.a, to: f.world, protocol: f.icmp, id: 77, ...echo }, 1],
    ];
    for (const [spec, times] of tried) for (let i = 0; i < times; i++) from(A, spec);
    assert.deepEqual(sweep(node), { found: 0, waiting: 0, told: [] }, "too early");
    age(node, 2);
    const { found, waiting, told } = sweep(node);
    assert.deepEqual([found, waiting, troubles(told)], [3, 3, Array(3).fill("no-answer")]);
    for (const [spec, times] of tried) {
      const event = told.find((event) => event.protocol === (spec.protocol ?? 6))!;
      assert.equal(event.line, times, "packets that were sent");
      assert.ok(event.lengthOriginal >= 2000 && event.lengthOriginal < 30_000, `${event.lengthOriginal} ms`);
      assert.deepEqual([event.sourceEndpoint, event.destinationEndpoint, event.holder], [A, 0, A]);
      assert.equal(event.sourceIdentity, 1000);
      const { from: source, to, transport } = seen(event);
      assert.deepEqual([source, to], [spec.from, spec.to]);
      if (transport && "sourcePort" in transport) {
        assert.deepEqual([transport.sourcePort, transport.destinationPort], [spec.sport, spec.dport]);
      } else assert.equal(transport && "type" in transport && transport.type, echo.type);
    }
    assert.deepEqual(sweep(node).told, [], "once");
    age(node, 10);
    const again = sweep(node);
    assert.deepEqual([again.found, troubles(again.told)], [0, Array(3).fill("no-answer")]);
    age(node, 10);
    assert.deepEqual(sweep(node).told, [], "and once more");
    assert.deepEqual(counts(node, A), { "no-answer": 3 });
  });

  kernelTest(`${f.name}: an answer, however it came, ends the waiting`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const incoming = (spec: PacketSpec) => node.run("from_netdev", packet(spec), 1);
    const syn: PacketSpec = { from: f.a, to: f.world, sport: 4001, dport: 80, flags: SYN };
    const udp: PacketSpec = { from: f.a, to: f.world, protocol: UDP, sport: 4002, dport: 53 };
    from(A, syn);
    from(A, udp);
    const answer = { from: f.world, to: f.a };
    incoming({ ...answer, sport: 80, dport: 4001, flags: SYN | ACK });
    from(A, { ...syn, flags: ACK });
    incoming({ ...answer, protocol: UDP, sport: 53, dport: 4002 });
    // The answer takes another way; that who asked goes on shows that there was one.
    from(A, { ...syn, sport: 4003 });
    from(A, { ...syn, sport: 4003, flags: ACK });
    age(node, 20);
    assert.deepEqual(sweep(node), { found: 0, waiting: 0, told: [] });
  });

  kernelTest(
    `${f.name}: an endpoint that does not answer, and one whose answer nobody confirms`,
    async () => {
      const { node, from, to } = await twoEndpoints();
      using _ = node;
      to(A, { from: f.world, to: f.a, sport: 5001, dport: 80, flags: SYN });
      to(A, { from: f.world, to: f.a, sport: 5002, dport: 80, flags: SYN });
      from(A, { from: f.a, to: f.world, sport: 80, dport: 5002, flags: SYN | ACK });
      age(node, 2);
      const { told } = sweep(node);
      assert.deepEqual(troubles(told).toSorted(), ["no-answer", "unconfirmed"]);
      for (const event of told) {
        assert.deepEqual([event.sourceEndpoint, event.destinationEndpoint, event.holder], [
          0,
          A,
          OUTSIDE + A,
        ]);
        assert.deepEqual([seen(event).from, seen(event).to], [f.world, f.a]);
      }
      assert.deepEqual(counts(node, OUTSIDE + A), { "no-answer": 1, unconfirmed: 1 });
      assert.deepEqual(counts(node, A), {});
    },
  );

  kernelTest(`${f.name}: a reset as the first answer is a refusal, any other is not`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const syn: PacketSpec = { from: f.a, to: f.b, sport: 6001, dport: 81, flags: SYN };
    const rst: PacketSpec = { from: f.b, to: f.a, sport: 81, dport: 6001, flags: RST | ACK };
    from(A, syn);
    const { events } = from(B, rst);
    assert.deepEqual(troubles(events), ["refused"]);
    const event = events.find((event) => event.type === abi.EVENT_TROUBLE)!;
    assert.deepEqual(
      [event.sourceEndpoint, event.hookEndpoint, event.holder],
      [B, B, A],
      "by the pod itself",
    );
    assert.deepEqual(counts(node, A), { refused: 1 });
    assert.deepEqual(counts(node, OUTSIDE + B), { refused: 1 });
    assert.deepEqual(troubles(from(B, rst).events), [], "once");
    // One that was open and is reset.
    from(A, { ...syn, sport: 6002 });
    from(B, { ...rst, dport: 6002, flags: SYN | ACK });
    from(A, { ...syn, sport: 6002, flags: ACK });
    assert.deepEqual(troubles(from(B, { ...rst, dport: 6002 }).events), []);
    assert.deepEqual(troubles(from(A, { ...syn, sport: 6002, flags: RST }).events), []);
    assert.deepEqual(sweep(node).found, 0);
  });

  kernelTest(`${f.name}: unreachable and too big are told with their flow`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const udp: PacketSpec = { from: f.a, to: f.b, protocol: UDP, sport: 7001, dport: 53 };
    from(A, udp);
    assert.deepEqual(troubles(from(B, error(f, f.b, f.a, udp)).events), ["unreachable"]);
    assert.deepEqual(troubles(from(B, error(f, f.b, f.a, udp)).events), [], "once");
    const big: PacketSpec = { from: f.a, to: f.world, protocol: UDP, sport: 7002, dport: 53 };
    from(A, big);
    const router = f.icmp === ICMP ? "203.0.113.1" : "2001:db8:ffff::1";
    const { events } = node.run("from_netdev", packet(error(f, router, f.a, big, 1300)), 1);
    assert.deepEqual(troubles(events), ["too-big"]);
    assert.deepEqual(counts(node, A), { unreachable: 1, "too-big": 1 });
    age(node, 2);
    assert.deepEqual(
      sweep(node).told.map((event) => seen(event).to),
      [f.world],
      "the other one has its answer",
    );
  });

  kernelTest(`${f.name}: a scan is counted whole and told of in part; others are all told of`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const spec: PacketSpec = { from: f.a, to: f.world, dport: 80, flags: SYN };
    for (let port = 1; port <= 200; port++) from(A, { ...spec, sport: 10_000 + port });
    for (let port = 1; port <= 10; port++) from(B, { ...spec, from: f.b, sport: 10_000 + port });
    age(node, 2);
    const { told, found } = sweep(node);
    assert.equal(found, 210);
    const of = (id: number) => told.filter((event) => event.holder === id).length;
    assert.equal(of(B), 10);
    assert.ok(of(A) >= abi.TROUBLES_PER_SECOND && of(A) <= 2 * abi.TROUBLES_PER_SECOND, `${of(A)}`);
    assert.deepEqual([counts(node, A), counts(node, B)], [{ "no-answer": 200 }, { "no-answer": 10 }]);
  });
}
