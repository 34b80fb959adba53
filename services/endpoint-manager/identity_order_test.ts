import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { IpcacheEntry } from "@weir/proto/identity";
import { MapState } from "@weir/proto/policy";
import { IdentityOrder } from "./identity_order.ts";
import { TestNode } from "./testing.ts";

const entry = (identity: number, endpoint = "default/far", node = "node-2") =>
  IpcacheEntry.create({ prefix: "10.0.2.7/32", identity, node, nodeIpv4: "192.0.2.2", endpoint });

function setUp() {
  const log: string[] = [], told = new Set<string>();
  const state = { isApplied: true };
  const order = new IdentityOrder({
    onEntry: (name, entry) => log.push(`${name}=${entry?.identity ?? "gone"}`),
    onOwn: (endpoint, entries) => log.push(`${endpoint}=${entries.map(({ identity }) => identity)}`),
    onPages: () => log.push(`pages ${[...order.pages]}`),
    isTold: (page) => told.has(page),
    isApplied: () => state.isApplied,
  });
  return { order, told, state, take: () => log.splice(0) };
}

Deno.test("IdentityOrder lets an address in when its identity was told, all before it too, and is in force", () => {
  const { order, state, take } = setUp();
  order.page("known-0", [5]);
  order.whole();
  order.change("a", entry(300), undefined);
  order.change("b", entry(9), undefined);
  order.change("c", entry(0x0100_0001), undefined);
  assert.deepEqual(
    take(),
    ["pages known-0,known-1", "b=9", "c=16777217"],
    "what is no pod's waits for nothing",
  );
  state.isApplied = false;
  order.page("known-1", [300]);
  order.look();
  assert.deepEqual(take(), [], "map states of before may still come");
  order.whole();
  order.look();
  assert.deepEqual(take(), []);
  state.isApplied = true;
  order.look();
  assert.deepEqual([take(), order.waiting], [["a=300"], 0]);
  state.isApplied = false;
  order.change("d", entry(300), undefined);
  assert.deepEqual(take(), ["d=300"], "it is known");
  order.change("a", entry(301), entry(300));
  order.change("a", undefined, entry(301));
  assert.deepEqual(take(), ["a=gone"]);
});

Deno.test("IdentityOrder lets an address in at once that comes after its identity was told", async () => {
  const { order, state, take } = setUp();
  order.page("known-0", []);
  order.whole();
  order.change("a", entry(300), undefined);
  order.page("known-1", [300, 301, 302]);
  order.whole();
  assert.deepEqual(take(), ["pages known-0,known-1", "a=300"]);
  order.change("b", entry(301), undefined);
  order.changeOwn("default/near", [entry(302)]);
  await Promise.resolve();
  assert.deepEqual(take(), ["b=301", "default/near=302"]);
  state.isApplied = false;
  order.page("known-1", [300, 301, 302, 303]);
  order.whole();
  order.change("c", entry(303), undefined);
  await Promise.resolve();
  assert.deepEqual(take(), [], "policies come first");
});

Deno.test("IdentityOrder keeps what an endpoint was while it waits, and nothing of another one", () => {
  const { order, take } = setUp();
  order.page("known-0", []);
  order.page("known-1", [300]);
  order.whole();
  order.change("a", entry(300), undefined);
  order.look();
  take();
  order.change("a", entry(301), entry(300));
  assert.deepEqual(take(), []);
  order.change("a", entry(301, "default/other"), entry(301));
  assert.deepEqual(take(), ["a=gone"]);
});

Deno.test("IdentityOrder lets one that the engine does not know any more wait again, and all go where there are no pages", () => {
  const { order, take } = setUp();
  order.page("known-0", []);
  order.page("known-1", [300]);
  order.change("a", entry(300), undefined);
  order.whole();
  assert.deepEqual(take(), ["pages known-0,known-1", "a=300"]);
  order.page("known-1", []);
  order.whole();
  order.change("b", entry(300), undefined);
  assert.deepEqual(take(), []);
  // The engine is an older one now, or one that is on the way back.
  order.page("known-0", undefined);
  order.page("known-1", undefined);
  order.whole();
  order.change("c", entry(302), undefined);
  assert.deepEqual(take(), ["b=300", "c=302"]);
});

Deno.test("IdentityOrder is ready when nothing waits but what the engine does not know", () => {
  const { order, told, state } = setUp();
  assert.equal(order.isReady, false);
  order.change("a", entry(300), undefined);
  order.change("b", entry(600), undefined);
  order.page("known-0", []);
  order.whole();
  assert.equal(order.isReady, false, "pages are on their way");
  order.page("known-1", [300]);
  told.add("known-1").add("known-2");
  state.isApplied = false;
  order.whole();
  assert.equal(order.isReady, false, "one that is known is not in force yet");
  state.isApplied = true;
  order.look();
  assert.equal(order.isReady, true);
});

Deno.test("IdentityOrder lets an endpoint of this node wait like the others, and go at once", () => {
  const { order, take } = setUp();
  order.page("known-0", []);
  order.whole();
  order.changeOwn("a", [entry(300)]);
  order.changeOwn("b", [entry(300)]);
  take();
  order.look();
  order.changeOwn("b", []);
  order.page("known-1", [300]);
  order.whole();
  assert.deepEqual(take(), ["b=", "a=300"]);
});

Deno.test("An address never is in the kernel before the policy that denies it, and stays through a restart", async () => {
  const node = new TestNode();
  await using _ = node;
  const { neighbours } = node, { mapStateTable, ipcacheTable, kernelIpcache, kernelPolicies } = neighbours;
  const policy = (...denied: number[]) =>
    MapState.create({
      identity: 256,
      policyRevision: 1,
      enforceEgress: true,
      entries: [
        { direction: "EGRESS", precedence: 0xffffff01 },
        ...denied.map((identity) => ({
          direction: "EGRESS" as const,
          identity,
          deny: true,
          precedence: 0xffffffff,
        })),
      ],
    });
  const page = (...knownIdentities: number[]) => MapState.create({ knownIdentities });
  neighbours.resolves = false;
  mapStateTable.put("known-0", page(5));
  mapStateTable.put("known-1", page(256));
  mapStateTable.put("256", policy());
  await node.start();
  const pod = Endpoint.create({ name: "default/a", netns: "/run/netns/a", labels: ["k8s:app=a"] });
  await node.manager.put("default/a", pod);
  await node.settle();
  assert.equal(kernelIpcache.get("10.0.1.2/32"), 256);
  const wrong: string[] = [];
  let isOpenSeen = 0;
  neighbours.onKernel = () => {
    if (kernelIpcache.get("10.0.2.7/32") !== 400) return;
    isOpenSeen++;
    const knows = kernelPolicies.get("256")!.entries.some(({ identity }) => identity === 400);
    if (!knows) wrong.push("an address that is denied passes");
  };
  ipcacheTable.put("10.0.2.7/32", entry(400));
  await node.pass(20_000);
  assert.equal(kernelIpcache.has("10.0.2.7/32"), false, "the policy engine has not told of it");
  assert.match(
    node.manager.peers().find(({ name }) => name === "policy-engine")!.error,
    /1 address waits?.* identit/,
  );
  mapStateTable.put("known-1", page(256, 400));
  mapStateTable.put("256", policy(400));
  mapStateTable.beat();
  await node.settle();
  assert.equal(kernelIpcache.get("10.0.2.7/32"), 400);
  let isGone = false;
  const judge = neighbours.onKernel;
  neighbours.onKernel = () => {
    judge();
    isGone ||= !kernelIpcache.has("10.0.2.7/32");
  };
  await node.restart();
  await node.pass(5_000);
  assert.deepEqual([wrong, isGone, isOpenSeen > 0], [[], false, true]);
});
