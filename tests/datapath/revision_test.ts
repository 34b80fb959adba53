/** Changes of the ipcache bite on the next packet of the flows that they concern, and leave the others alone. */
import assert from "node:assert/strict";
import { u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { PASS, REDIRECT, SHOT, type TestNode } from "./node.ts";
import { ACK, address, SYN, UDP } from "./packet.ts";
import { A, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** A small seeded generator (xorshift32): the same run every time. */
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    return (x >>> 0) % below;
  };
}
const revisionOf = (node: TestNode) => node.flows()[0].entry.revision;

for (const f of FAMILIES) {
  const v4 = f.name === "IPv4", bits = (length: number) => v4 ? 96 + length : length;

  kernelTest(`${f.name}: a changed identity and a changed node bite on the next packet`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress", identity: 1002 }] });
    node.changeEndpoint(A, { policy: 1 });
    const next = () => from(A, { from: f.a, to: f.remote, flags: ACK });
    assert.equal(from(A, { from: f.a, to: f.remote, flags: SYN }).verdict, REDIRECT);
    assert.equal(next().verdict, REDIRECT);
    node.setIpcache(f.remote, 1002, "192.0.2.3");
    assert.equal(next().verdict, REDIRECT);
    assert.deepEqual(node.flows()[0].entry.node, address("192.0.2.3"));
    node.setIpcache(f.remote, 1003, "192.0.2.3");
    assert.equal(next().verdict, SHOT);
    node.setIpcache(f.remote, 1002, "192.0.2.3");
    assert.equal(next().verdict, REDIRECT);
    // its own entry goes, and a prefix takes over: of every length
    node.map("weir_ipcache_exact").delete(address(f.remote));
    node.revise(address(f.remote), 128);
    assert.equal(next().verdict, SHOT);
    for (const length of v4 ? [0, 1, 7, 8, 15, 23, 24, 31] : [0, 3, 31, 32, 48, 63, 64, 127]) {
      const prefix = `${masked(f.remote, length)}/${length}`;
      node.setIpcache(prefix, 1002, "192.0.2.2");
      assert.equal(next().verdict, REDIRECT, `allowed by ${prefix}`);
      node.setIpcache(prefix, 1003, "192.0.2.2");
      assert.equal(next().verdict, SHOT, `denied by ${prefix}`);
    }
  });

  kernelTest(`${f.name}: a prefix revises the elements of every address in it`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const below = random(v4 ? 0x57454952 : 0x1234567);
    for (let i = 0; i < 150; i++) {
      const to = v4
        ? `${1 + below(223)}.${below(256)}.${below(256)}.${1 + below(254)}`
        : `2${below(4096).toString(16).padStart(3, "0")}:${below(65536).toString(16)}:${
          below(65536).toString(16)
        }::${1 + below(65535)}`;
      if (v4 && /^(10|127)\./.test(to)) continue;
      node.gc(abi.GC_ALL);
      assert.equal(from(A, { from: f.a, to, protocol: UDP }).verdict, PASS, to);
      const before = revisionOf(node), length = below(bits(v4 ? 32 : 128) - bits(0) + 1);
      node.revise(address(to), bits(length));
      assert.equal(from(A, { from: f.a, to, protocol: UDP }).verdict, PASS);
      assert.ok(((revisionOf(node) - before) >>> 0) === 1, `${to}/${length}`);
    }
  });

  kernelTest(`${f.name}: changes elsewhere leave a flow alone`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const send = () => from(A, { from: f.a, to: f.world, protocol: UDP });
    send();
    const changes = [
      ...[...Array(256).keys()].map((i) => [v4 ? `10.7.${i}.9` : `fd00:7:${i}::9`, bits(v4 ? 32 : 128)]),
      ...[...Array(32).keys()].map((i) => [v4 ? `10.${i}.8.0` : `fd00:8:${i}::`, bits(v4 ? 24 : 64)]),
      ...[20, 30, 40].map((i) => [v4 ? `${i}.0.0.0` : `20${i}::`, bits(v4 ? 8 : 32)]),
    ] as [string, number][];
    let moved = 0, total = 0;
    for (const [text, length] of changes) {
      const before = revisionOf(node);
      assert.ok(node.revise(address(text), length) <= 1024, `${text}: few elements, not all flows`);
      send();
      total++;
      if (revisionOf(node) !== before) moved++;
    }
    assert.ok(moved <= total / 20, `${moved} of ${total} changes sent it through the slow path`);
  });

  kernelTest(
    `${f.name}: revisions may wrap, and flows of before there were any are judged anew`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.setPolicy(1, { enforceEgress: true, rules: [{ direction: "egress", identity: 1002 }] });
      node.changeEndpoint(A, { policy: 1 });
      const next = () => from(A, { from: f.a, to: f.remote, flags: ACK }).verdict;
      next();
      const element = node.flows()[0].entry.revisionElement - 1;
      node.map("weir_revisions").update(u32(element), u32(0xffffffff));
      assert.equal(next(), REDIRECT);
      assert.equal(revisionOf(node), 0xffffffff);
      node.setIpcache(f.remote, 1003, "192.0.2.2");
      assert.equal(next(), SHOT);
      node.setIpcache(f.remote, 1002, "192.0.2.2");
      assert.equal(next(), REDIRECT);
      // as an older program would have left it, with a revision that fits by chance
      const [{ key, entry }] = node.flows();
      node.map("weir_ipcache_exact").update(
        address(f.remote),
        abi.IpcacheEntry.encode({ identity: 1003, flags: 0, movedFrom: 0, node: address("192.0.2.2") }),
      );
      assert.equal(next(), REDIRECT);
      node.map("weir_ct").update(abi.CtKey.encode(key), abi.CtEntry.encode({ ...entry, revisionElement: 0 }));
      assert.equal(next(), SHOT);
    },
  );
}

/** The prefix that an address lies in, as text. */
function masked(text: string, length: number): string {
  const bytes = address(text), from = text.includes(":") ? 0 : 12;
  for (let bit = from * 8 + length; bit < 128; bit++) bytes[bit >> 3] &= ~(0x80 >> (bit & 7));
  if (from) return [...bytes.subarray(12)].join(".");
  return [...Array(8).keys()].map((i) => (bytes[i * 2] << 8 | bytes[i * 2 + 1]).toString(16)).join(":");
}
