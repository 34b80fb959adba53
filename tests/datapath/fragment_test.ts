/** Fragments before their first one, over headers that policy has read, and from senders who want to take everybody's room. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT, type TestNode } from "./node.ts";
import { packet, type PacketSpec, TCP, UDP } from "./packet.ts";
import { A, B, FAMILIES, type Family, twoEndpoints } from "./two_endpoints.ts";

/** Layout of `struct held_fragment` (lib/fragment_order.h). */
const FULL = 2, MADE_AT = 4, PLACES = 48;

interface Piece {
  from: string;
  to: string;
  id: number;
  /** In units of 8 bytes. */
  position: number;
  more?: boolean;
  dport?: number;
  protocol?: number;
  /** Bytes of the piece; default: 64, with a UDP header at position 0. */
  upper?: number[];
  /** IPv6: next header of the fragment header, when it is not the protocol. */
  next?: number;
}

function piece(f: Family, p: Piece): PacketSpec {
  const data = Array(64).fill(1), protocol = p.protocol ?? UDP, more = p.more ?? true;
  const upper = p.upper ?? (p.position === 0 ? [0, 5, 0, p.dport ?? 53, 1, 0, 0, 0, ...data.slice(8)] : data);
  const common = { from: p.from, to: p.to, protocol, upper };
  if (f.name === "IPv4") {
    return { ...common, datagram: p.id, fragment: p.position | (more ? 0x2000 : 0) };
  }
  const field = p.position << 3 | (more ? 1 : 0);
  const options = [p.next ?? protocol, 0, field >> 8, field & 255, 0, 0, p.id >> 8, p.id & 255];
  return { ...common, nextHeader: 44, options };
}

const places = (node: TestNode) =>
  node.map("weir_held").entries().map(([key, value]) => ({
    index: new DataView(key.buffer, key.byteOffset).getUint32(0, true),
    value,
    full: value[0] === FULL,
  })).filter((place) => place.full);

/** Everything that is held has been so for a minute. */
function age(node: TestNode): void {
  for (const { index, value } of places(node)) {
    const view = new DataView(value.buffer, value.byteOffset);
    view.setUint32(MADE_AT, view.getUint32(MADE_AT, true) - 60 * node.config.hz >>> 0, true);
    node.map("weir_held").update(u32(index), value);
  }
}
const lost = (node: TestNode) => node.counted(abi.DROP_FRAG_NOT_FOUND);

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: a fragment that comes before its first one is held, and is lost after 2 s`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      const run = from(A, piece(f, { from: f.a, to: f.b, id: 1, position: 8, more: false }));
      assert.deepEqual([run.verdict, run.events.length, lost(node)], [SHOT, 0, 0]);
      assert.equal(places(node).length, 1);
      node.gc(abi.GC_EXPIRED);
      assert.deepEqual([places(node).length, lost(node)], [1, 0]);
      age(node);
      node.gc(abi.GC_EXPIRED);
      assert.deepEqual([places(node).length, lost(node)], [0, 1]);
      const [event] = node.drainEvents();
      assert.deepEqual(
        [event.type, event.subtype, event.hookEndpoint, event.sourceIdentity],
        [abi.EVENT_DROP, abi.DROP_FRAG_NOT_FOUND, A, 1000],
      );
      assert.deepEqual(event.payload.slice(0, run.data.length), run.data.slice(0, abi.EVENT_PAYLOAD_MAX));
      assert.equal(node.endpointCounters(A).droppedPackets, 1n);
      assert.equal(from(A, piece(f, { from: f.b, to: f.a, id: 1, position: 8 })).verdict, SHOT);
      assert.equal(node.counted(abi.DROP_INVALID_SIP), 1, "nobody holds under another's name");
      assert.equal(places(node).length, 0);
    },
  );

  kernelTest(`${f.name}: who sends lone late fragments takes no room of others`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    for (let id = 1; id <= 100; id++) {
      assert.equal(from(A, piece(f, { from: f.a, to: f.b, id, position: 8 })).verdict, SHOT);
    }
    assert.deepEqual([places(node).length, lost(node)], [PLACES, 100 - PLACES]);
    from(B, piece(f, { from: f.b, to: f.a, id: 1, position: 8 }));
    assert.deepEqual([places(node).length, lost(node)], [PLACES + 1, 100 - PLACES]);
    // From outside: as many senders as there are, they share half of the groups.
    const sender = (n: number) =>
      f.name === "IPv4" ? `198.51.${n >> 8}.${n & 255}` : `2001:db8:9::${n.toString(16)}`;
    for (let n = 1; n < 400; n++) {
      for (let id = 1; id <= 8; id++) {
        node.run("from_netdev", packet(piece(f, { from: sender(n), to: f.b, id, position: 8 })));
      }
    }
    const held = places(node).map((place) => Math.floor(place.index / PLACES));
    assert.ok(held.length > 600 && held.length <= 32 * PLACES + PLACES + 1, `${held.length}`);
    assert.deepEqual([...new Set(held.filter((group) => group < 32))], [A, B]);
    // B's second one waits beside the first, unless that has waited for too long on a machine that is slow: then it is counted.
    let before = lost(node);
    from(B, piece(f, { from: f.b, to: f.a, id: 2, position: 8 }));
    const ofB = places(node).filter(({ index }) => Math.floor(index / PLACES) === B);
    assert.equal(ofB.length + lost(node) - before, 2);
    before = lost(node);
    // What has waited for too long makes room, and is counted then.
    age(node);
    from(A, piece(f, { from: f.a, to: f.b, id: 200, position: 8 }));
    assert.equal(lost(node), before + 1);
    const all = places(node).length;
    node.gc(abi.GC_EXPIRED);
    assert.deepEqual([places(node).length, lost(node)], [1, before + all]);
    const count = node.map("weir_held_groups").entries().map(([, value]) => value[0]).reduce((a, b) => a + b);
    assert.equal(count, 1);
  });

  kernelTest(`${f.name}: no fragment replaces headers that policy has read`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceIngress: true, rules: [{ direction: "ingress", protocol: UDP, port: 53 }] });
    node.changeEndpoint(B, { policy: 1 });
    const send = (p: Omit<Piece, "from" | "to">) => from(A, piece(f, { from: f.a, to: f.b, ...p })).verdict;
    assert.equal(send({ id: 1, position: 0 }), REDIRECT);
    assert.equal(send({ id: 1, position: 8 }), REDIRECT);
    // The first one once more, with other ports: policy is asked about these, and about all that follows.
    assert.equal(send({ id: 1, position: 0, dport: 22 }), SHOT);
    assert.equal(node.counted(abi.DROP_POLICY), 1);
    // Tiny first fragments: the upper layer's header ends beyond.
    for (
      const [protocol, upper] of [[UDP, []], [TCP, [0, 5, 0, 53, 0, 0, 0, 1]], [
        TCP,
        Array(16).fill(1),
      ]] as const
    ) {
      const before = node.counted(abi.DROP_CT_INVALID_HDR);
      assert.equal(send({ id: 2, position: 0, protocol, upper: [...upper] }), SHOT);
      assert.equal(node.counted(abi.DROP_CT_INVALID_HDR), before + 1);
    }
    for (const position of [1, 2]) assert.equal(send({ id: 3, position, protocol: TCP }), SHOT);
    assert.equal(node.counted(abi.DROP_INVALID), 2);
    assert.equal(places(node).length, 0);
  });
}

kernelTest(
  "IPv6: destination options in what is fragmented, and fragments that name another next header",
  async () => {
    const f = FAMILIES[1];
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceIngress: true, rules: [{ direction: "ingress", protocol: UDP, port: 53 }] });
    node.changeEndpoint(B, { policy: 1 });
    const send = (p: Partial<Piece>) =>
      from(A, piece(f, { from: f.a, to: f.b, id: 1, position: 0, ...p })).verdict;
    const options = (blocks: number) => [17, blocks - 1, 1, 8 * blocks - 4, ...Array(8 * blocks - 4).fill(0)];
    const udp = (dport: number) => [0, 5, 0, dport, 1, 0, 0, 0];
    const later = { position: 8, upper: Array(64).fill(1) };
    assert.equal(send({ next: 60, upper: [...options(1), ...udp(53)] }), REDIRECT);
    for (const next of [60, 17, 6, 59]) {
      assert.equal(
        send({ ...later, next }),
        REDIRECT,
        `next header ${next}`,
      );
    }
    // UDP's header lies at 8 here: a fragment at 8 would replace its ports.
    assert.equal(send({ position: 1, next: 60, upper: udp(22) }), SHOT);
    assert.equal(node.counted(abi.DROP_INVALID), 1);
    assert.equal(send({ id: 2, next: 60, upper: [...options(3), ...udp(53)] }), REDIRECT);
    for (const position of [1, 2, 3]) assert.equal(send({ id: 2, position, next: 60, upper: udp(22) }), SHOT);
    assert.equal(node.counted(abi.DROP_INVALID), 4);
    assert.equal(send({ ...later, id: 2, position: 4, next: 60 }), REDIRECT);
    // Denied in every piece.
    assert.equal(send({ id: 3, next: 60, upper: [...options(1), ...udp(54)] }), SHOT);
    assert.equal(send({ ...later, id: 3, next: 60 }), SHOT);
    assert.equal(node.counted(abi.DROP_POLICY), 2);
    // A fragment header without fragments (RFC 6946) is no fragment.
    assert.equal(send({ id: 4, more: false, upper: [0, 5, 0, 53, 0, 8, 0, 0] }), REDIRECT);
    assert.equal(send({ ...later, id: 4 }), SHOT);
    assert.equal(places(node).length, 1);
  },
);

for (const f of FAMILIES) {
  kernelTest(
    `${f.name}: of the host's own datagrams none is held for good, and none that only passes by`,
    async () => {
      const { node } = await twoEndpoints();
      using _ = node;
      const late = (to: string, id: number) =>
        node.run("from_netdev", packet(piece(f, { from: f.world, to, id, position: 8 }))).verdict;
      // Perhaps a NodePort's: its first one will tell. Whose group is full goes to the host's stack as it is.
      for (let id = 1; id <= PLACES; id++) assert.equal(late(f.host, id), SHOT);
      assert.equal(late(f.host, 99), PASS);
      assert.equal(places(node).length, PLACES);
      assert.equal(late(f.name === "IPv4" ? "198.51.100.99" : "2001:db8:9::99", 100), PASS);
      assert.deepEqual([places(node).length, lost(node)], [PLACES, 0]);
    },
  );
}

for (const f of FAMILIES) {
  kernelTest(`${f.name}: who floods first fragments loses its own datagrams only`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const first = (sender: number, address: string, id: number) =>
      from(sender, piece(f, { from: address, to: f.world, id, position: 0 })).verdict;
    const rest = (sender: number, address: string, id: number) =>
      from(sender, piece(f, { from: address, to: f.world, id, position: 9, more: false }));
    // what 16 neighbours in number leave is all there, of both
    for (let id = 0; id < 16; id++) {
      assert.equal(first(B, f.b, 5000 + id), PASS);
      assert.equal(first(A, f.a, 5000 + id), PASS);
    }
    for (let id = 16; id < 3000; id++) first(A, f.a, 5000 + id);
    for (let id = 0; id < 16; id++) assert.equal(rest(B, f.b, 5000 + id).verdict, PASS, `${id}`);
    const before = places(node).length;
    rest(A, f.a, 5000);
    assert.equal(places(node).length, before + 1, "it waits for its first fragment, which is forgotten");
    // one from outside does the same
    const attacker = f.name === "IPv4" ? "203.0.113.5" : "2001:db8:5::5";
    for (let id = 0; id < 500; id++) {
      node.run("from_netdev", packet(piece(f, { from: attacker, to: f.b, id, position: 0 })));
    }
    for (let id = 0; id < 16; id++) assert.equal(rest(B, f.b, 5000 + id).verdict, PASS, `${id}`);
  });
}
