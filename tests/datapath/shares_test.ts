/** Fair shares of conntrack and of translation, packet by packet: who takes all it can leaves the others room. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { PASS, REDIRECT, type Run, SHOT, type TestNode } from "./node.ts";
import { ACK, packet, type PacketSpec, RST, SYN, TCP, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const OUTSIDE = abi.SHARE_OUTSIDE, NODE = abi.SHARE_NODE;
const CT_MAX = 256;

/** Counts as they should be, from the entries themselves. */
function counted(node: TestNode): Map<number, number> {
  const held = new Map<number, number>();
  for (const { entry } of node.flows()) {
    const share = (entry.ends[0].share | entry.ends[1].share << 8) & (abi.SHARES_MAX - 1);
    held.set(share, (held.get(share) ?? 0) + 1);
  }
  return held;
}
function assertExact(node: TestNode, why: string): void {
  const wanted = counted(node);
  for (const share of new Set([...wanted.keys(), NODE, A, B, OUTSIDE, OUTSIDE + A, OUTSIDE + B])) {
    assert.equal(node.held(share), wanted.get(share) ?? 0, `${why}: share ${share}`);
  }
  assert.equal(node.held(abi.HOLDING_MAX - 2), node.flows().length, `${why}: all`);
  const nat = natEntries(node);
  assert.equal(node.held(abi.HOLDING_MAX - 1), nat.length, `${why}: all pairs`);
}
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    return (x >>> 0) % below;
  };
}
const reason = (run: Run) => run.events.at(-1)?.subtype;

for (const f of FAMILIES) {
  const FLOODS: Record<string, (i: number) => PacketSpec> = {
    "SYNs": (i) => ({ from: f.a, to: f.world, sport: 1024 + i, flags: SYN }),
    "lone ACKs": (i) => ({ from: f.a, to: f.world, sport: 1024 + i, flags: ACK }),
    "datagrams": (i) => ({ from: f.a, to: f.world, protocol: UDP, sport: 1024 + i, dport: 9 + i % 7 }),
    "SYNs to a pod": (i) => ({ from: f.a, to: f.b, sport: 1024 + i, flags: SYN }),
  };
  for (const [what, spec] of Object.entries(FLOODS)) {
    kernelTest(`${f.name}: a pod's ${what} end at its share; others, probes and the node go on`, async () => {
      const { node, from, to } = await twoEndpoints({ weir_ct: CT_MAX });
      using _ = node;
      let passed = 0, last: Run | undefined;
      for (let i = 0; i < 4 * CT_MAX; i++) {
        last = from(A, spec(i));
        if (last.verdict !== SHOT) passed++;
      }
      assert.deepEqual([last!.verdict, reason(last!)], [SHOT, abi.DROP_CT_SHARE]);
      // two thirds of what is not the node's own
      assert.equal(passed, Math.ceil((CT_MAX - CT_MAX / 16) * 2 / 3));
      assert.equal(node.held(A), passed);
      assert.equal(node.refused(A).ct, BigInt(4 * CT_MAX - passed));
      assert.equal(node.counted(abi.DROP_CT_SHARE), 4 * CT_MAX - passed);
      // its own flows stay
      assert.notEqual(from(A, { ...spec(0), flags: ACK }).verdict, SHOT);
      for (let i = 0; i < 40; i++) {
        assert.notEqual(from(B, { from: f.b, to: f.world, sport: 2000 + i }).verdict, SHOT, `other ${i}`);
      }
      // a third one floods what is left: the node's own still gets in
      for (let i = 0; i < CT_MAX; i++) from(B, { from: f.b, to: f.world, sport: 3000 + i });
      for (let i = 0; i < CT_MAX / 16; i++) {
        assert.equal(to(A, { from: f.host, to: f.a, sport: 4000 + i }).verdict, PASS, `probe ${i}`);
      }
      assert.equal(node.held(NODE), CT_MAX / 16);
      assertExact(node, "after the flood");
    });
  }

  kernelTest(`${f.name}: who floods a pod from outside keeps neither others nor other pods out`, async () => {
    const { node } = await twoEndpoints({ weir_ct: CT_MAX });
    using _ = node;
    node.writeConfig({ flags: abi.CONFIG_DIRECT });
    const v4 = f.name === "IPv4";
    const come = (from: string, to: string, sport: number) =>
      node.run("from_netdev", packet({ from, to, sport, flags: SYN }));
    const attacker = (i: number) => v4 ? `198.51.100.${1 + i % 200}` : `2001:db8:9::${1 + i % 200}`;
    for (let i = 0; i < 4 * CT_MAX; i++) come(attacker(i), f.a, 1024 + i);
    assert.ok(node.refused(OUTSIDE + A).ct > 0n);
    assert.ok(node.held(OUTSIDE + A) < CT_MAX * 2 / 3);
    const good = v4 ? "203.0.113.9" : "2001:db8:77::9";
    for (let i = 0; i < 8; i++) {
      assert.equal(come(good, f.a, 2000 + i).verdict, REDIRECT, `another source ${i}`);
      assert.equal(come(attacker(i), f.b, 2000 + i).verdict, REDIRECT, `another pod ${i}`);
    }
    // another node, when everything but the reserve is gone
    node.setIpcache(f.remote, 6);
    for (let i = 0; i < 4 * CT_MAX; i++) come(v4 ? `203.0.${i & 255}.9` : `2001:db8:${i}::9`, f.b, 1024 + i);
    assert.equal(come(f.remote, f.b, 9).verdict, REDIRECT, "another node");
    assertExact(node, "after the flood");
  });

  kernelTest(`${f.name}: an entry lives long only once both ends have spoken`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const life = () => node.lifetime(node.flows()[0].entry);
    const tcp = { from: f.a, to: f.b, sport: 5, dport: 80 },
      back = { from: f.b, to: f.a, sport: 80, dport: 5 };
    from(A, { ...tcp, flags: ACK });
    from(A, { ...tcp, flags: ACK, payload: [1] });
    assert.equal(life(), 60, "lone ACKs");
    // a connection that is older than its entry
    from(B, { ...back, flags: ACK });
    assert.equal(life(), 8000, "mid-stream, answered");
    node.gc(abi.GC_ALL);
    from(A, { ...tcp, flags: SYN });
    from(B, { ...back, flags: SYN | ACK });
    assert.equal(life(), 60, "handshake not over");
    from(A, { ...tcp, flags: ACK });
    assert.equal(life(), 8000, "established");
    node.gc(abi.GC_ALL);
    from(A, { ...tcp, flags: ACK });
    from(B, { ...back, flags: RST });
    assert.equal(life(), 10, "refused");
    node.gc(abi.GC_ALL);
    from(A, { ...tcp, protocol: UDP });
    from(A, { ...tcp, protocol: UDP });
    assert.equal(life(), 30, "datagrams that nobody answers");
    from(B, { ...back, protocol: UDP });
    assert.equal(life(), 60, "answered");
  });

  kernelTest(
    `${f.name}: hours that a version before gave to what was never answered are taken back`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6 });
      for (const sport of [40001, 40002]) {
        node.run("to_netdev", from(A, { from: f.a, to: f.world, sport, flags: ACK }).data);
      }
      const back = { from: f.world, to: f.host, sport: 80, dport: 40002, flags: ACK };
      assert.equal(node.run("from_netdev", packet(back)).verdict, REDIRECT);
      const ct = node.map("weir_ct"), nat = node.map("weir_nat"), hours = 8000 * node.config.hz;
      for (const [key, value] of ct.entries()) {
        const entry = abi.CtEntry.decode(value);
        ct.update(key, abi.CtEntry.encode({ ...entry, expires: (entry.created + hours) >>> 0 }));
      }
      for (const [key, value] of nat.entries()) {
        const entry = abi.NatEntry.decode(value);
        nat.update(key, abi.NatEntry.encode({ ...entry, expires: (entry.created + hours) >>> 0 }));
      }
      node.gc(abi.GC_EXPIRED);
      const lives = (entries: { expires: number; created: number }[]) =>
        entries.map(({ expires, created }) => Math.round(((expires - created) >>> 0) / node.config.hz / 60))
          .sort((a, b) => a - b);
      assert.deepEqual(lives(node.flows().map(({ entry }) => entry)), [1, 133], "minutes of flows");
      assert.deepEqual(
        lives(natEntries(node).map(({ entry }) => entry)),
        [1, 1, 133, 133],
        "of translated ones",
      );
    },
  );

  kernelTest(`${f.name}: under pressure unanswered flows go, of who holds most first`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    for (let i = 0; i < 40; i++) {
      from(A, { from: f.a, to: f.world, sport: 100 + i, flags: i % 2 ? SYN : ACK });
    }
    for (let i = 0; i < 4; i++) from(B, { from: f.b, to: f.a, sport: 100 + i, flags: SYN });
    from(A, { from: f.a, to: f.b, sport: 80, dport: 100, flags: SYN | ACK });
    from(B, { from: f.b, to: f.a, sport: 100, flags: ACK });
    await new Promise((done) => setTimeout(done, 50));
    assert.equal(node.gc(abi.GC_PRESSURE, { age: 3600, ageOver: 0, heldMax: 41 }).deleted, 0);
    assert.equal(
      node.gc(abi.GC_PRESSURE, { age: 3600, ageOver: 0, heldMax: 10 }).deleted,
      30,
      "A's, down to that",
    );
    assert.deepEqual([node.held(A), node.held(B)], [10, 4]);
    assert.equal(node.gc(abi.GC_PRESSURE, { age: 0 }).deleted, 13, "all, but for the connection that stands");
    assert.equal(node.held(B), 1);
  });

  kernelTest(`${f.name}: counts stay exact through random traffic and collections, and heal`, async () => {
    const { node, from, to } = await twoEndpoints({ weir_ct: 128, weir_nat: 128 });
    using _ = node;
    node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6 });
    setBackend(node, { id: 1, address: f.b, port: 8080 });
    setSelection(node, 1, [1]);
    const vip = f.name === "IPv4" ? "10.96.0.10" : "fd00:10:96::10";
    setFrontend(node, { address: vip, port: 80, service: 7, internal: 1 });
    const below = random(0x5eed + f.icmp);
    for (let i = 0; i < 1500; i++) {
      const sport = 1000 + below(60), flags = [SYN, ACK, RST][below(3)];
      const kind = below(6);
      if (kind === 0) from(A, { from: f.a, to: vip, sport, flags });
      else if (kind === 1) from(B, { from: f.b, to: f.a, sport, protocol: below(2) ? TCP : UDP, flags });
      else if (kind === 2) to(A, { from: f.host, to: f.a, sport, flags });
      else if (kind === 3) to(B, { from: f.world, to: f.b, sport, flags });
      else if (kind === 4) {
        const out = from(A, { from: f.a, to: f.world, sport, flags });
        if (out.verdict === PASS) node.run("to_netdev", out.data);
      } else if (below(30) === 0) {
        [
          () => node.expireFlows(),
          () => node.gc(abi.GC_EXPIRED),
          () => node.gc(abi.GC_ENDPOINT, { endpoint: B }),
          () => node.gc(abi.GC_PRESSURE, { age: 0 }),
          () => node.gc(abi.GC_ADDRESS, { address: f.world }),
        ][below(5)]();
      }
      if (i % 100 === 0) assertExact(node, `step ${i}`);
    }
    assertExact(node, "at the end");
    // counts that went wrong, in either direction, are right after the next walk
    for (
      const [share, wrong] of [[A, 1000], [B, 0], [abi.HOLDING_MAX - 2, 5], [abi.HOLDING_MAX - 1, 0xffffffff]]
    ) {
      node.map("weir_holdings").update(
        u32(share),
        abi.Holding.encode({ now: wrong, base: 0, seen: 0, removed: 0 }),
      );
    }
    node.gc(abi.GC_EXPIRED);
    assertExact(node, "after counting anew");
    node.gc(abi.GC_ALL);
    for (const [key, value] of node.map("weir_holdings").entries()) {
      assert.equal(
        abi.Holding.decode(value).now,
        0,
        `element ${new DataView(key.buffer).getUint32(0, true)}`,
      );
    }
  });

  kernelTest(`${f.name}: a service's entries count for who asked, both of them`, async () => {
    const { node, from } = await twoEndpoints({ weir_ct: CT_MAX });
    using _ = node;
    const vip = f.name === "IPv4" ? "10.96.0.10" : "fd00:10:96::10";
    setBackend(node, { id: 1, address: f.b, port: 8080 });
    setBackend(node, { id: 2, address: f.a, port: 8080 });
    for (const [slot, port] of [[1, 80], [2, 81]]) {
      setSelection(node, slot, [slot]);
      setFrontend(node, { address: vip, port, service: 7, internal: slot });
    }
    from(A, { from: f.a, to: vip, dport: 80 });
    from(A, { from: f.a, to: vip, dport: 81 }); // itself
    assert.equal(node.held(A), 4);
    for (let i = 0; i < 2 * CT_MAX; i++) from(A, { from: f.a, to: vip, sport: 1024 + i, dport: 80 + i % 2 });
    assert.ok(node.refused(A).ct > 0n);
    assert.ok(node.held(A) <= CT_MAX * 2 / 3);
    for (let i = 0; i < 10; i++) {
      assert.equal(from(B, { from: f.b, to: vip, sport: 1024 + i, dport: 81 }).verdict, REDIRECT);
    }
    assertExact(node, "after the flood");
  });

  kernelTest(
    `${f.name}: a pod's questions to a resolver leave ports for others and for the node`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.writeConfig({
        flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6,
        natPortMin: 50000,
        natPortMax: 50255,
      });
      const question = { to: f.world, protocol: UDP, dport: 53, payload: [1] };
      const out = (endpoint: number, spec: PacketSpec): Run => {
        const first = from(endpoint, spec);
        assert.equal(first.verdict, PASS);
        return node.run("to_netdev", first.data);
      };
      const portOf = (run: Run) => {
        const at = f.name === "IPv4" ? 34 : 54;
        return run.data[at] << 8 | run.data[at + 1];
      };
      let last: Run | undefined;
      for (let i = 0; i < 400; i++) last = out(A, { from: f.a, ...question, sport: 1000 + i });
      assert.deepEqual([last!.verdict, reason(last!)], [SHOT, abi.DROP_NAT_SHARE]);
      assert.equal(node.held(A, true), 2 * 112, "half of 224 ports, two entries each");
      assert.equal(node.refused(A).ports, 400n - 112n);
      // the same ports towards another server are free
      assert.equal(out(A, { from: f.a, ...question, sport: 1, dport: 54 }).verdict, PASS);
      const other = [...Array(20).keys()].map((i) => out(B, { from: f.b, ...question, sport: 1000 + i }));
      assert.ok(other.every((run) => run.verdict === PASS), "others");
      for (const run of other) assert.ok(portOf(run) >= 50032, "the first eighth is the node's own");
      // all the ports that pods may have are taken: the node's own questions still go out, from ports of their own
      const taken = natEntries(node).filter(({ entry, key }) =>
        entry.flags & abi.NAT_REVERSE && key.portSourceBe === 53
      ).map(({ key }) => key.portDestinationBe);
      for (const port of taken.slice(0, 30)) {
        const own = node.run("to_netdev", packet({ from: f.host, ...question, sport: port }));
        assert.equal(own.verdict, PASS);
        assert.ok(portOf(own) >= 50000 && portOf(own) < 50032, `port ${portOf(own)} for ${port}`);
      }
      assertExact(node, "after the flood");
    },
  );

  kernelTest(`${f.name}: a port is found although nine of ten are taken in a row`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.writeConfig({
      flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6,
      natPortMin: 50000,
      natPortMax: 54095,
    });
    const out = (sport: number) => {
      const first = from(A, { from: f.a, to: f.world, protocol: UDP, sport, dport: 53, payload: [1] });
      return node.run("to_netdev", first.data);
    };
    assert.equal(out(1).verdict, PASS);
    const pair = natEntries(node).find(({ entry }) => entry.flags & abi.NAT_REVERSE)!;
    const nat = node.map("weir_nat");
    const first = 50000 + 4096 / 8, taken = (4096 - 4096 / 8) * 9 / 10;
    for (let i = 0; i < taken; i++) {
      nat.update(
        abi.NatKey.encode({ ...pair.key, portDestinationBe: first + i }),
        abi.NatEntry.encode(pair.entry),
      );
    }
    for (let i = 0; i < 60; i++) assert.equal(out(1000 + i).verdict, PASS, `flow ${i}`);
  });

  kernelTest(`${f.name}: a question that was answered gives its port back soon`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.writeConfig({ flags: abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6 });
    const ask = (spec: Partial<PacketSpec> = {}) =>
      node.run(
        "to_netdev",
        from(A, { from: f.a, to: f.world, protocol: UDP, sport: 40000, dport: 53, ...spec }).data,
      );
    const answer = (spec: Partial<PacketSpec> = {}) =>
      node.run(
        "from_netdev",
        packet({ from: f.world, to: f.host, protocol: UDP, sport: 53, dport: 40000, ...spec }),
      );
    const lives = () => natEntries(node).map(({ entry }) => node.lifetime(entry));
    ask(), ask();
    assert.deepEqual(lives(), [30, 30], "not answered");
    assert.equal(answer().verdict, REDIRECT);
    assert.deepEqual(lives(), [10, 10], "answered");
    ask();
    assert.deepEqual(lives(), [60, 60], "it goes on");
    node.gc(abi.GC_ALL);
    ask({ protocol: TCP, flags: ACK });
    assert.deepEqual(lives(), [60, 60], "a lone ACK");
    answer({ protocol: TCP, flags: ACK });
    assert.deepEqual(lives(), [8000, 8000], "mid-stream, answered");
  });

  kernelTest(`${f.name}: pairs of one pod, or of one client outside, do not fill the table`, async () => {
    const { node, from } = await twoEndpoints({ weir_nat: CT_MAX });
    using _ = node;
    node.writeConfig({ flags: abi.CONFIG_DIRECT | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6 });
    const out = (endpoint: number, spec: PacketSpec): Run => node.run("to_netdev", from(endpoint, spec).data);
    for (let i = 0; i < CT_MAX; i++) out(A, { from: f.a, to: f.world, sport: 40000 + i, dport: 1000 + i });
    assert.ok(node.held(A, true) <= CT_MAX * 2 / 3);
    assert.ok(node.refused(A).nat > 0n);
    for (let i = 0; i < 10; i++) {
      assert.equal(out(B, { from: f.b, to: f.world, sport: 40000 + i }).verdict, PASS);
    }
    node.gc(abi.GC_ALL);
    // from outside, to a service whose backend is far away
    setBackend(node, { id: 1, address: f.remote, port: 8080 });
    setSelection(node, 1, [1]);
    const any = f.name === "IPv4" ? "0.0.0.0" : "::";
    setFrontend(node, { address: any, port: 30080, service: 7, external: 1, flags: abi.FRONTEND_EXTERNAL });
    const come = (client: string, sport: number) =>
      node.run("from_netdev", packet({ from: client, to: f.host, sport, dport: 30080 }));
    let last: Run | undefined;
    for (let i = 0; i < CT_MAX; i++) last = come(f.world, 1024 + i);
    assert.equal(reason(last!), abi.DROP_NAT_SHARE);
    const before = natEntries(node).length;
    const good = f.name === "IPv4" ? "203.0.113.9" : "2001:db8:77::9";
    for (let i = 0; i < 8; i++) come(good, 1024 + i);
    assert.equal(natEntries(node).length, before + 16, "another client's pairs");
    assertExact(node, "after the flood");
  });
}
