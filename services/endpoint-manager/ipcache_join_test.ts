import assert from "node:assert/strict";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { diffIpcache, type IpcacheSources, joinIpcache } from "./ipcache_join.ts";

const sources: IpcacheSources = {
  nodeName: "node-1",
  gateways: ["10.0.1.1"],
  nodes: [
    Node.create({ name: "node-1", ipv4: "192.0.2.1", podCidrV4: "10.0.1.0/24" }),
    Node.create({ name: "node-2", ipv4: "192.0.2.2", ipv6: "2001:db8::2", podCidrV4: "10.0.2.0/24" }),
  ],
  cidrs: [
    { prefix: "10.0.2.7/32", identity: 16777300, labels: [] },
    { prefix: "203.0.113.0/24", identity: 16777301, labels: [] },
    { prefix: "192.0.2.2/32", identity: 16777302, labels: [] },
  ],
  ipcache: [
    IpcacheEntry.create({ prefix: "10.0.1.5/32", identity: 300, node: "node-1", nodeIpv4: "192.0.2.1" }),
    IpcacheEntry.create({ prefix: "10.0.2.7/32", identity: 301, node: "node-2", nodeIpv4: "192.0.2.2" }),
  ],
};

Deno.test("joinIpcache() lets pods win over nodes and nodes over CIDRs, and sends remote pods through their node", () => {
  const joined = joinIpcache(sources);
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
    assert.deepEqual([joined.get(prefix)?.identity, joined.get(prefix)?.nodeIpv4], [identity, node], prefix);
  }
  assert.equal(joined.size, cases.length);
});

Deno.test("joinIpcache() on a node with IPv6 alone reaches the others, and knows them, by that", () => {
  const joined = joinIpcache({
    ...sources,
    nodes: [
      Node.create({ name: "node-1", ipv6: "2001:db8::1", podCidrV4: "10.0.1.0/24" }),
      Node.create({ name: "node-2", ipv4: "192.0.2.2", ipv6: "2001:db8::2", podCidrV4: "10.0.2.0/24" }),
      Node.create({ name: "node-3", ipv4: "192.0.2.3" }),
    ],
  });
  for (const prefix of ["192.0.2.2/32", "2001:db8::2/128", "10.0.2.1/32"]) {
    const { nodeIpv4, nodeIpv6 } = joined.get(prefix)!;
    assert.deepEqual([nodeIpv4, nodeIpv6], ["", "2001:db8::2"], prefix);
  }
  assert.equal(joined.get("192.0.2.3/32")?.nodeIpv4, "192.0.2.3", "the only one that it has");
});

Deno.test("diffIpcache() names only what changed", () => {
  const before = joinIpcache(sources);
  assert.deepEqual(diffIpcache(before, joinIpcache(sources)), { upserts: [], deletes: [] });
  const after = joinIpcache({
    ...sources,
    ipcache: [IpcacheEntry.create({ prefix: "10.0.1.5/32", identity: 999, node: "node-1" })],
  });
  const diff = diffIpcache(before, after);
  assert.deepEqual(diff.upserts.map((u) => [u.prefix, u.identity]), [["10.0.2.7/32", 16777300], [
    "10.0.1.5/32",
    999,
  ]]);
  assert.deepEqual(diff.deletes, []);
});
