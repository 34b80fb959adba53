import assert from "node:assert/strict";
import {
  AllocateRequest,
  AllocateResponse,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
} from "@weir/proto/identity";
import { ClaimRequest, ClaimResponse, HeartbeatRequest, HeartbeatResponse } from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import { WeirClient } from "@weir/client";
import { Prefix, setPeer } from "@weir/common";
import { type Case, open, testOnBoth } from "./testing.ts";

type Opened = Awaited<ReturnType<typeof open>>;

/** A node's own client, as its certificate names it. */
function as(a: Opened, node: string) {
  const client = new WeirClient({
    handler: (request) => {
      setPeer(request, { role: "node", node });
      return a.allocator.api.fetch(request);
    },
  });
  return {
    nodes: client.collection("nodes", Node),
    ipcache: client.collection("ipcache", IpcacheEntry),
    update: (batch: Init<IpcacheBatch>) =>
      client.call("/v1/ipcache:update", {
        request: { message: IpcacheBatch, value: batch },
        response: IpcacheBatchResponse,
      }),
    announce: async (entry: Init<IpcacheEntry>) => {
      const { refused } = await client.call("/v1/ipcache:update", {
        request: { message: IpcacheBatch, value: { node, upserts: [{ node, ...entry }] } },
        response: IpcacheBatchResponse,
      });
      return refused[0] === undefined ? "" : `${refused[0].code} ${refused[0].detail}`;
    },
    allocate: async (label: string, holder = label, of = node) =>
      (await client.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels: [label], node: of, holder } },
        response: AllocateResponse,
      })).identity!,
    claim: (of: string) =>
      client.call("/v1/identities:claim", {
        request: { message: ClaimRequest, value: { node: of } },
        response: ClaimResponse,
      }),
    heartbeat: (of: string) =>
      client.call("/v1/nodes:heartbeat", {
        request: { message: HeartbeatRequest, value: { node: of } },
        response: HeartbeatResponse,
      }),
  };
}

/** Two nodes that registered themselves, and what the second one runs. */
async function cluster(url: string) {
  const a = await open(url, { protectedPrefixes: [Prefix.parse("198.51.100.0/24")] });
  const evil = as(a, "evil"), good = as(a, "good");
  const self = await evil.nodes.put("evil", { ipv4: "192.0.2.1", ipv6: "2001:db8::1" });
  const other = await good.nodes.put("good", { ipv4: "192.0.2.2", ipv6: "2001:db8::2" });
  const mine = await evil.allocate("k8s:app=evil"), theirs = await good.allocate("k8s:app=good");
  const pod = (node: Node, at: number) => Prefix.host(Prefix.parse(node.podCidrV4).addressAt(at)).text;
  assert.equal(
    await good.announce({ prefix: pod(other, 7), identity: theirs.number, nodeIpv4: "192.0.2.2" }),
    "",
  );
  return { a, evil, good, self, other, mine, theirs, pod };
}

const CASES: Record<string, Case> = {
  async "a node announces its pods, with what it holds"(url) {
    const { a, evil, self, mine, pod } = await cluster(url);
    const entry = { identity: mine.number, labels: mine.labels };
    assert.equal(
      await evil.announce({ ...entry, prefix: pod(self, 9), nodeIpv4: "192.0.2.1", nodeIpv6: "2001:db8::1" }),
      "",
    );
    const v6 = Prefix.parse(self.podCidrV6).addressAt(9).text;
    assert.equal(await evil.announce({ ...entry, prefix: `${v6}/128` }), "");
    assert.equal(await evil.announce({ ...entry, prefix: "203.0.113.5/32" }), "", "a device's own address");
    assert.equal(await evil.announce({ prefix: pod(self, 10), identity: 5 }), "", "init");
    assert.equal(
      await evil.announce({
        prefix: pod(self, 11),
        identity: 130,
        labels: ["k8s:io.cilium.fixed-identity=130"],
      }),
      "",
    );
    const entries = (await evil.ipcache.list({ node: "evil" })).items;
    assert.equal(entries.length, 5);
    await evil.ipcache.delete(pod(self, 9));
    assert.equal((await evil.update({ node: "evil", deletes: [pod(self, 10)] })).deleted, 1);
    await a.close();
  },

  async "a node that was taken over draws no address to itself that is another's"(url) {
    const { a, evil, self, other, mine, pod } = await cluster(url);
    await a.ipcache.put("203.0.113.0/24", { identity: 7 }); // the API server's network, as an admin put it
    await a.ipcache.put("203.0.113.77/32", { identity: 7 });
    const gateway = Prefix.host(Prefix.parse(other.podCidrV4).addressAt(1)).text;
    const refused: [string, RegExp][] = [
      [pod(other, 7), /^ENTRY_OF_OTHER .*belongs to node good/],
      [pod(other, 8), /^PREFIX_NOT_OWN .*pod CIDR, of node good/],
      [gateway, /^PREFIX_NOT_OWN .*node good/],
      [other.podCidrV4, /^PREFIX_NOT_OWN .*wider than one address/],
      [other.podCidrV6, /^PREFIX_NOT_OWN/],
      ["192.0.2.2/32", /^PREFIX_NOT_OWN .*node good/],
      ["2001:db8::2/128", /^PREFIX_NOT_OWN .*node good/],
      ["203.0.113.77/32", /^ENTRY_OF_OTHER .*outside the cluster/],
      ["203.0.113.8/32", /^PREFIX_NOT_OWN .*203\.0\.113\.0\/24 .*outside the cluster/],
      ["198.51.100.1/32", /^PREFIX_RESERVED .*198\.51\.100\.0\/24/],
      ["0.0.0.0/0", /^PREFIX_NOT_OWN .*wider/],
      ["::/0", /^PREFIX_NOT_OWN .*wider/],
      ["0.0.0.0/32", /^PREFIX_RESERVED/],
      ["127.0.0.1/32", /^PREFIX_RESERVED/],
      ["169.254.169.254/32", /^PREFIX_RESERVED/],
      ["224.0.0.1/32", /^PREFIX_RESERVED/],
      ["255.255.255.255/32", /^PREFIX_RESERVED/],
      ["::1/128", /^PREFIX_RESERVED/],
      ["::ffff:192.0.2.2/128", /^PREFIX_RESERVED/],
      ["fe80::1/128", /^PREFIX_RESERVED/],
      ["ff02::1/128", /^PREFIX_RESERVED/],
      ["10.200.0.7/32", /^PREFIX_NOT_OWN .*pool 10\.0\.0\.0\/8/],
      ["192.0.0.0/8", /^PREFIX_NOT_OWN .*wider/],
      ["192.0.2.1/31", /^PREFIX_NOT_OWN .*wider/],
    ];
    for (const [prefix, why] of refused) {
      assert.match(await evil.announce({ prefix, identity: mine.number }), why, prefix);
      await assert.rejects(evil.ipcache.put(prefix, { node: "evil", identity: mine.number }), prefix);
    }
    await assert.rejects(evil.ipcache.delete(pod(other, 7)), { code: "NOT_OWNER", status: 403 });
    await assert.rejects(evil.ipcache.delete("203.0.113.77/32"), { code: "NOT_OWNER" });
    assert.equal(
      (await evil.update({ node: "evil", deletes: [pod(other, 7)] })).refused[0].code,
      "ENTRY_OF_OTHER",
    );
    await assert.rejects(evil.update({ node: "good", deletes: [pod(other, 7)] }), { code: "NOT_OWNER" });
    assert.equal(a.allocator.ipcache.size, 3, "nothing was written");
    assert.equal(a.allocator.ipcache.get(pod(other, 7))!.node, "good");
    assert.equal(
      await evil.announce({ prefix: pod(self, 9), identity: mine.number }),
      "",
      "its own still is",
    );
    await a.close();
  },

  async "a node gives its pods no identity that it does not hold, and sends nobody through another node"(
    url,
  ) {
    const { a, evil, self, mine, theirs, pod } = await cluster(url);
    const prefix = pod(self, 9);
    for (
      const identity of [
        theirs.number,
        0,
        1,
        2,
        6,
        7,
        9,
        64,
        0x0100_0001,
        (1 << 16) + 300,
        mine.number + 1000,
      ]
    ) {
      assert.match(await evil.announce({ prefix, identity }), /^IDENTITY_NOT_HELD/, `${identity}`);
    }
    const say = (more: Init<IpcacheEntry>) => evil.announce({ prefix, identity: mine.number, ...more });
    assert.match(await say({ labels: theirs.labels }), /^LABELS_NOT_OF_IDENTITY/);
    assert.match(await say({ labels: ["broken label"] }), /^LABELS_NOT_OF_IDENTITY/);
    assert.match(
      await evil.announce({ prefix, identity: 130, labels: theirs.labels }),
      /^LABELS_NOT_OF_IDENTITY/,
    );
    assert.match(await say({ nodeIpv4: "192.0.2.2" }), /^TUNNEL_END_NOT_OWN/);
    assert.match(await say({ nodeIpv6: "2001:db8::2" }), /^TUNNEL_END_NOT_OWN/);
    const shop = await evil.allocate("k8s:io.kubernetes.pod.namespace=shop");
    assert.match(
      await evil.announce({ prefix, identity: shop.number, labels: shop.labels, namespace: "bank" }),
      /^LABELS_NOT_OF_IDENTITY .*namespace/,
    );
    assert.match(await say({ labels: [], endpoint: "x".repeat(40_000) }), /^ENTRY_TOO_LARGE/);
    assert.match(await say({ node: "good" }), /^INVALID_ARGUMENT|^NOT_OWNER/);
    assert.equal(a.allocator.ipcache.has(prefix), false);
    await a.close();
  },

  async "a node registers as itself, with addresses and a pod CIDR that nobody else has"(url) {
    const { a, evil, self, other, pod } = await cluster(url);
    await a.ipcache.put("203.0.113.77/32", { identity: 7 });
    const put = (node: Init<Node>) => evil.nodes.put("evil", { ipv4: "192.0.2.1", ...node });
    await assert.rejects(evil.nodes.put("good", {}), { code: "NOT_OWNER", status: 403 });
    await assert.rejects(evil.nodes.delete("good"), { code: "NOT_OWNER" });
    await assert.rejects(put({ ipv4: "192.0.2.2" }), { code: "PREFIX_NOT_OWN" });
    await assert.rejects(put({ ipv6: "2001:db8::2" }), { code: "PREFIX_NOT_OWN" });
    await assert.rejects(put({ ipv4: pod(other, 7).slice(0, -3) }), { code: "PREFIX_NOT_OWN" });
    await assert.rejects(put({ ipv4: "203.0.113.77" }), { code: "PREFIX_NOT_OWN" });
    await assert.rejects(put({ ipv4: "198.51.100.1" }), { code: "PREFIX_RESERVED" });
    await assert.rejects(put({ ipv4: "127.0.0.1" }), { code: "PREFIX_RESERVED" });
    await assert.rejects(put({ podCidrV4: "0.0.0.0/0" }), { code: "POD_CIDR_NOT_IN_POOL" });
    await assert.rejects(put({ podCidrV4: "10.0.0.0/8" }), { code: "POD_CIDR_NOT_IN_POOL" });
    await assert.rejects(put({ podCidrV4: "192.0.2.0/24" }), { code: "POD_CIDR_NOT_IN_POOL" });
    await assert.rejects(put({ podCidrV6: "::/0" }), { code: "POD_CIDR_NOT_IN_POOL" });
    await assert.rejects(put({ podCidrV4: other.podCidrV4 }), { code: "POD_CIDR_TAKEN" });
    await assert.rejects(put({ labels: ["k8s:a=" + "x".repeat(20_000)] }), {
      code: "NODE_TOO_LARGE",
      status: 413,
    });
    assert.equal((await put({ podCidrV4: "10.9.9.0/24" })).podCidrV4, "10.9.9.0/24", "a part of the pool");
    await put({ podCidrV4: "" });
    assert.equal(a.allocator.nodes.get("evil")!.ipv4, self.ipv4);
    // What an admin has put it keeps.
    await a.nodes.put("evil", { ipv4: "192.0.2.1", podCidrV4: "172.20.0.0/16" });
    assert.equal((await put({ podCidrV4: "172.20.0.0/16" })).podCidrV4, "172.20.0.0/16");
    await a.close();
  },

  async "a node speaks for itself alone, and announces nothing before it has registered"(url) {
    const { a, evil, mine } = await cluster(url);
    await assert.rejects(evil.allocate("k8s:app=good", "x", "good"), { code: "NOT_OWNER" });
    await assert.rejects(evil.claim("good"), { code: "NOT_OWNER" });
    await assert.rejects(evil.heartbeat("good"), { code: "NOT_OWNER" });
    const stranger = as(a, "stranger");
    await assert.rejects(stranger.announce({ prefix: "203.0.113.9/32", identity: mine.number }), {
      code: "NODE_UNKNOWN",
      status: 409,
    });
    await a.close();
  },
};

testOnBoth("Ownership", CASES);

Deno.test("A node announces at most 8,190 prefixes over the network", async () => {
  const a = await open("sqlite::memory:");
  const evil = as(a, "evil");
  const node = await evil.nodes.put("evil", {});
  const pool = Prefix.parse(node.podCidrV6);
  const batch = (from: number, count: number) =>
    evil.update({
      node: "evil",
      upserts: Array.from({ length: count }, (_, i) => ({
        prefix: `${pool.addressAt(from + i)}/128`,
        identity: 5,
        node: "evil",
      })),
    });
  for (let at = 0; at < 8190; at += 1024) {
    const count = Math.min(1024, 8190 - at);
    assert.deepEqual((await batch(at + 2, count)).upserted, count);
  }
  const { upserted, refused } = await batch(8190, 4);
  assert.deepEqual([upserted, refused.map(({ code }) => code)], [2, [
    "NODE_ENTRIES_FULL",
    "NODE_ENTRIES_FULL",
  ]]);
  assert.equal(a.allocator.ipcache.size, 8190);
  await a.close();
});
