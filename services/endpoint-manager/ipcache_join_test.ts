import assert from "node:assert/strict";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";
import { IpcacheJoin } from "./ipcache_join.ts";

const PLACE = { nodeName: "node-1", nodeIpv4: "192.0.2.1", nodeIpv6: "" };
const NODES = [
  Node.create({ name: "node-1", ipv4: "192.0.2.1", podCidrV4: "10.0.1.0/24" }),
  Node.create({ name: "node-2", ipv4: "192.0.2.2", ipv6: "2001:db8::2", podCidrV4: "10.0.2.0/24" }),
];
const CIDRS: CidrIdentity[] = [
  { prefix: "10.0.2.7/32", identity: 16777300, labels: [] },
  { prefix: "203.0.113.0/24", identity: 16777301, labels: [] },
  { prefix: "192.0.2.2/32", identity: 16777302, labels: [] },
];
const ENTRIES = [
  IpcacheEntry.create({ prefix: "10.0.1.5/32", identity: 300, node: "node-1", nodeIpv4: "192.0.2.1" }),
  IpcacheEntry.create({ prefix: "10.0.2.7/32", identity: 301, node: "node-2", nodeIpv4: "192.0.2.2" }),
];

function filled(place = PLACE, nodes = NODES): IpcacheJoin {
  const join = new IpcacheJoin(place);
  for (const node of nodes) join.setNode(node.name, node);
  for (const cidr of CIDRS) join.setCidr(cidr.prefix, cidr);
  for (const entry of ENTRIES) join.setEntry(entry.prefix, entry);
  join.setGateways(["10.0.1.1"]);
  return join;
}

Deno.test("IpcacheJoin lets pods win over nodes and nodes over CIDRs, and sends remote pods through their node", () => {
  const join = filled();
  const cases: [string, number, string][] = [
    ["0.0.0.0/0", 9, ""],
    ["::/0", 10, ""],
    ["203.0.113.0/24", 16777301, ""],
    ["192.0.2.1/32", 1, ""],
    ["192.0.2.2/32", 6, "192.0.2.2"],
    ["2001:db8::2/128", 6, "192.0.2.2"],
    ["10.0.1.1/32", 1, ""],
    ["10.0.2.1/32", 6, "192.0.2.2"],
    ["10.0.1.5/32", 300, ""],
    ["10.0.2.7/32", 301, "192.0.2.2"],
  ];
  for (const [prefix, identity, node] of cases) {
    assert.deepEqual([join.get(prefix)?.identity, join.get(prefix)?.nodeIpv4], [identity, node], prefix);
  }
  assert.equal(join.takeAll().length, cases.length);
  assert.equal(join.dirty, false);
});

Deno.test("IpcacheJoin on a node with IPv6 alone reaches the others, and knows them, by that", () => {
  const join = filled({ nodeName: "node-1", nodeIpv4: "", nodeIpv6: "2001:db8::1" }, [
    Node.create({ name: "node-1", ipv6: "2001:db8::1", podCidrV4: "10.0.1.0/24" }),
    Node.create({ name: "node-2", ipv4: "192.0.2.2", ipv6: "2001:db8::2", podCidrV4: "10.0.2.0/24" }),
    Node.create({ name: "node-3", ipv4: "192.0.2.3" }),
  ]);
  for (const prefix of ["192.0.2.2/32", "2001:db8::2/128", "10.0.2.1/32"]) {
    const { nodeIpv4, nodeIpv6 } = join.get(prefix)!;
    assert.deepEqual([nodeIpv4, nodeIpv6], ["", "2001:db8::2"], prefix);
  }
  assert.equal(join.get("192.0.2.3/32")?.nodeIpv4, "192.0.2.3", "the only one that it has");
});

Deno.test("IpcacheJoin.take() names only what a change touched, and what lay under it", () => {
  const join = filled();
  join.takeAll();
  const identities = () => join.take(10).upserts.map((row) => [row.prefix, row.identity]);
  join.setEntry("10.0.1.5/32", { ...ENTRIES[0] });
  assert.deepEqual(join.take(10), { upserts: [], deletes: [] }, "the same again");
  join.setEntry("10.0.1.5/32", { ...ENTRIES[0], identity: 999 });
  assert.deepEqual(identities(), [["10.0.1.5/32", 999]]);
  join.setEntry("10.0.2.7/32", undefined);
  assert.deepEqual(identities(), [["10.0.2.7/32", 16777300]], "the CIDR of a policy lay under it");
  join.setNode("node-2", Node.create({ ...NODES[1], ipv6: "", podCidrV4: "10.0.3.0/24" }));
  assert.deepEqual(join.take(10), {
    upserts: [{ prefix: "10.0.3.1/32", identity: 6, nodeIpv4: "192.0.2.2", nodeIpv6: "" }, {
      prefix: "192.0.2.2/32",
      identity: 6,
      nodeIpv4: "192.0.2.2",
      nodeIpv6: "",
    }].sort((a, b) => b.prefix.localeCompare(a.prefix)),
    deletes: ["2001:db8::2/128", "10.0.2.1/32"],
  });
  join.setNode("node-2", undefined);
  assert.deepEqual(join.take(10), {
    upserts: [{ prefix: "192.0.2.2/32", identity: 16777302, nodeIpv4: "", nodeIpv6: "" }],
    deletes: ["10.0.3.1/32"],
  });
});

Deno.test("IpcacheJoin tells in batches, and again what was not told", () => {
  const join = filled();
  const first = join.take(4);
  assert.equal(first.upserts.length, 4);
  join.again(first);
  const all = new Set<string>();
  while (join.dirty) for (const { prefix } of join.take(3).upserts) all.add(prefix);
  assert.equal(all.size, 10);
  join.setEntry("10.0.1.5/32", undefined);
  const gone = join.take(1);
  assert.deepEqual(gone.deletes, ["10.0.1.5/32"]);
  join.again(gone);
  assert.deepEqual(join.take(1).deletes, ["10.0.1.5/32"], "whether it was done is not known");
});

Deno.test("IpcacheJoin keeps this node's own addresses whoever else claims them, in whatever order", () => {
  for (const order of [[0, 1], [1, 0]]) {
    const join = new IpcacheJoin(PLACE);
    const rows = [NODES[0], Node.create({ name: "liar", ipv4: "192.0.2.1", podCidrV4: "10.0.1.0/24" })];
    for (const i of order) join.setNode(rows[i].name, rows[i]);
    assert.equal(join.get("192.0.2.1/32")?.identity, 1);
    assert.equal(join.get("10.0.1.1/32")?.identity, 1);
    join.setOwn("web", [ENTRIES[0]]);
    join.setEntry("10.0.1.5/32", { ...ENTRIES[0], identity: 4242, node: "liar" });
    assert.equal(join.get("10.0.1.5/32")?.identity, 300);
    join.setOwn("web", []);
    assert.equal(join.get("10.0.1.5/32")?.identity, 4242);
  }
});

Deno.test("IpcacheJoin names rows that cannot be read and goes on with the others", () => {
  const join = filled();
  join.takeAll();
  join.setEntry("nonsense", IpcacheEntry.create({ prefix: "10.0.0.0/99", identity: 5 }));
  join.setCidr("bad", { prefix: "x", identity: 5, labels: [] });
  join.setNode("node-9", Node.create({ name: "node-9", ipv4: "192.0.2.999" }));
  join.setEntry("10.0.2.9/32", IpcacheEntry.create({ prefix: "10.0.2.9/32", identity: 302, node: "node-2" }));
  assert.deepEqual([...join.refused.keys()], ["ipcache entry nonsense", "CIDR bad", "node node-9"]);
  assert.deepEqual(join.take(10).upserts.map((row) => row.prefix), ["10.0.2.9/32"]);
  join.setEntry("nonsense", undefined);
  assert.equal(join.refused.size, 2);
});
