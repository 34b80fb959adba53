/** Neighbours that hang, come back empty, older or anew, and disks that are full: what runs goes on, and is told. */
import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { Endpoint, type EndpointConditionKind } from "@weir/proto/endpoint";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { MapState } from "@weir/proto/policy";
import { TestNode } from "./testing.ts";

const pod = (name: string, app = name) =>
  Endpoint.create({ name: `default/${name}`, netns: `/run/netns/${name}`, labels: [`k8s:app=${app}`] });
const statusOf = (node: TestNode, name: string) => node.manager.table.view.get(`default/${name}`)?.status;
const condition = (node: TestNode, name: string, kind: EndpointConditionKind) =>
  statusOf(node, name)?.conditions.find((c) => c.kind === kind)?.message;
const stateOf = (node: TestNode, peer: string) => node.manager.peers().find((p) => p.name === peer)!;

async function withPods(...names: string[]): Promise<TestNode> {
  const node = await new TestNode().start();
  for (const name of names) await node.manager.put(`default/${name}`, pod(name));
  await node.settle();
  for (const name of names) assert.equal(statusOf(node, name)?.state, "READY");
  node.neighbours.take();
  return node;
}

const REMOTE = IpcacheEntry.create({
  prefix: "10.0.2.7/32",
  identity: 400,
  node: "node-2",
  nodeIpv4: "192.0.2.2",
  labels: ["k8s:app=far"],
});

Deno.test("an allocator that comes back empty is filled again within a heartbeat, with the same numbers", async () => {
  await using node = await withPods("a", "b");
  const { neighbours } = node;
  neighbours.loseDirectory();
  assert.equal(neighbours.heldNumbers.size, 0);
  await node.pass(10_500);
  assert.deepEqual([...neighbours.heldNumbers], [["default/a", 256], ["default/b", 257]]);
  assert.deepEqual([...neighbours.ipcacheTable.rows.keys()].sort(), [
    "10.0.1.2/32",
    "10.0.1.3/32",
    "fd00:1::2/128",
    "fd00:1::3/128",
  ]);
  assert.ok(neighbours.nodeTable.rows.has("node-1"));
  const calls = neighbours.take();
  assert.ok(calls.findIndex((c) => c.startsWith("claim")) >= 0);
  assert.equal(
    calls.filter((c) => c.startsWith("allocate")).length,
    0,
    "what runs is claimed, not asked anew",
  );
  assert.deepEqual(
    calls.filter((c) => /^(putEndpoint|putPolicy|deleteEndpoint)/.test(c)),
    [],
    "the kernel keeps its peace",
  );
  assert.equal(neighbours.kernelIpcache.get("10.0.1.2/32"), 256);
});

Deno.test("an announcement that somebody deleted or changed is written again at once", async () => {
  await using node = await withPods("a");
  const { ipcacheTable } = node.neighbours;
  const mine = ipcacheTable.rows.get("10.0.1.2/32")!;
  ipcacheTable.delete("10.0.1.2/32");
  await node.settle();
  assert.deepEqual(ipcacheTable.rows.get("10.0.1.2/32"), mine);
  ipcacheTable.put("10.0.1.2/32", { ...mine, identity: 9999, node: "liar" });
  await node.settle();
  assert.deepEqual(ipcacheTable.rows.get("10.0.1.2/32"), mine);
  ipcacheTable.put("10.0.1.77/32", { ...mine, prefix: "10.0.1.77/32", endpoint: "default/gone" });
  await node.settle();
  assert.equal(ipcacheTable.rows.has("10.0.1.77/32"), false, "left by an endpoint that is gone");
});

Deno.test("a number that is another's now moves the endpoint, its new policy first", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.taken.add(256);
  neighbours.resolves = false;
  neighbours.loseDirectory();
  neighbours.take();
  await node.pass(10_500);
  assert.deepEqual(
    neighbours.kernel.get("default/a"),
    { identity: 256, policy: "256" },
    "no policy of the new one yet",
  );
  assert.match(condition(node, "a", "POLICY_STALE")!, /nothing \(yet\) of identity 257/);
  neighbours.take();
  neighbours.mapStateTable.put(
    "257",
    MapState.create({ identity: 257, policyRevision: 2, enforceIngress: true }),
  );
  await node.settle();
  const calls = neighbours.take().filter((c) => /^(putPolicy|putEndpoint|announce)/.test(c));
  assert.deepEqual(calls, [
    "putPolicy 257",
    "putEndpoint default/a 257 257",
    "announce 10.0.1.2/32=257 fd00:1::2/128=257",
  ]);
  assert.equal(condition(node, "a", "POLICY_STALE"), undefined);
  assert.equal(node.disk.files.get("default/a")?.endpoint.status?.identity, 257);
});

Deno.test("others' addresses that a lost database took along stay for a grace; an orderly deletion counts at once", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  const node2 = Node.create({ name: "node-2", ipv4: "192.0.2.2", podCidrV4: "10.0.2.0/24" });
  neighbours.nodeTable.put("node-2", node2);
  neighbours.ipcacheTable.put("10.0.2.7/32", REMOTE);
  neighbours.ipcacheTable.put("10.0.2.8/32", { ...REMOTE, prefix: "10.0.2.8/32" });
  await node.settle();
  assert.equal(neighbours.kernelIpcache.get("10.0.2.7/32"), 400);
  neighbours.ipcacheTable.delete("10.0.2.8/32");
  await node.settle();
  assert.equal(neighbours.kernelIpcache.has("10.0.2.8/32"), false);
  neighbours.loseDirectory();
  await node.pass(30_000);
  assert.equal(neighbours.kernelIpcache.get("10.0.2.7/32"), 400, "nobody deleted it");
  assert.equal(neighbours.kernelIpcache.get("192.0.2.2/32"), 6);
  const peer = stateOf(node, "identity-allocator");
  assert.equal(peer.state, "STALE");
  assert.match(peer.error, /lost 1 (nodes|addresses of other nodes)/);
  neighbours.nodeTable.put("node-2", node2);
  neighbours.take();
  await node.pass(40_000);
  assert.equal(neighbours.kernelIpcache.has("10.0.2.7/32"), false, "its node did not name it again");
  assert.equal(neighbours.kernelIpcache.get("192.0.2.2/32"), 6, "the node is there again");
  assert.deepEqual(neighbours.take().filter((c) => /RemoteNode/.test(c)), [], "its routes never went");
  assert.equal(stateOf(node, "identity-allocator").state, "OK");
});

Deno.test("the datapath sweeps nothing before it was told of the other nodes: their routes are no leftovers", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.nodeTable.put("node-2", Node.create({ name: "node-2", podCidrV4: "10.0.2.0/24" }));
  await node.settle();
  neighbours.fail = "putRemoteNode";
  neighbours.take();
  neighbours.reconnect();
  await node.pass(30_000);
  const calls = neighbours.take();
  assert.ok(calls.includes("updateIpcache replace +8 -0"), calls.join(", "));
  assert.ok(!calls.includes("sync"), calls.join(", "));
  assert.match(
    node.manager.waitingFor().join(),
    /first full sync with the datapath: putRemoteNode node-2 failed/,
  );
  neighbours.fail = undefined;
  await node.pass(20_000);
  assert.deepEqual(neighbours.take().filter((call) => /RemoteNode|sync/.test(call)), [
    "putRemoteNode node-2",
    "sync",
  ]);
  neighbours.fail = "putRemoteNode";
  neighbours.failure = new ProblemError("NODE_INVALID", { status: 422, detail: "It has no address" });
  neighbours.reconnect();
  await node.pass(1_000);
  assert.ok(neighbours.take().includes("sync"), "who is refused keeps nobody waiting");
});

Deno.test("a process of the datapath that was told nothing sweeps nothing, whoever asked the one before it", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.fail = "sync";
  await node.restart();
  await node.pass(5_000);
  assert.ok(
    !neighbours.take().includes("sync"),
    "everything was told, and the sweep is tried again and again",
  );
  neighbours.restartDatapath();
  neighbours.fail = undefined;
  await node.pass(15_000);
  assert.deepEqual(neighbours.take().filter((call) => /^(sync|putE)/.test(call)), []);
  assert.match(node.manager.waitingFor().join(), /the first full sync with the datapath/);
  neighbours.reconnect();
  await node.pass(15_000);
  assert.deepEqual(neighbours.take().filter((call) => /^(sync|putE)/.test(call)), [
    "putEndpoint default/a 256 256",
    "sync",
  ]);
});

Deno.test("an endpoint on its way when the datapath died is awaited before the sweep, while its policy is not known", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.fail = "putEndpoint";
  neighbours.mapStateTable.put(
    "256",
    MapState.create({ identity: 256, policyRevision: 2, enforceIngress: true }),
  );
  neighbours.datapathTable.delete("default/a");
  await node.pass(12_000);
  neighbours.mapStateTable.rows.delete("256");
  neighbours.fail = undefined;
  neighbours.restartDatapath();
  neighbours.reconnect();
  neighbours.take();
  await node.pass(15_000);
  assert.ok(!neighbours.take().includes("sync"), "the kernel has it, and nobody has asked for it yet");
  neighbours.mapStateTable.put("256", MapState.create({ identity: 256, policyRevision: 3 }));
  await node.pass(15_000);
  assert.deepEqual(neighbours.take().filter((call) => /^(sync|putE)/.test(call)), [
    "putEndpoint default/a 256 256",
    "sync",
  ]);
});

Deno.test("a hung allocator delays neither policies nor deletions, and is shown as silent with what follows", async () => {
  await using node = await withPods("a", "b");
  const { neighbours } = node;
  for (const call of ["allocate", "claim", "announce", "heartbeat", "release", "putNode ", "holders"]) {
    neighbours.hang.add(call);
  }
  await node.manager.put("default/late", pod("late"));
  neighbours.mapStateTable.put("256", MapState.create({ identity: 256, policyRevision: 2 }));
  await node.turns();
  assert.ok(neighbours.take().includes("putPolicy 256"), "before any deadline has passed");
  const deleted = node.manager.delete("default/b");
  await node.turns();
  assert.ok(neighbours.take().includes("deleteEndpoint default/b"));
  await node.pass(25_000);
  await deleted;
  assert.equal(statusOf(node, "b")?.state, "DISCONNECTED", "the cluster must still hear of it");
  await assert.rejects(
    node.manager.put("default/b", pod("b")),
    (e: ProblemError) => e.code === "ENDPOINT_DELETING",
  );
  const peer = stateOf(node, "identity-allocator");
  assert.equal(peer.state, "SILENT");
  assert.match(peer.error, /did not answer within 10000 ms/);
  assert.match(peer.effect, /new endpoints of node-1 wait for an identity and pass nothing/);
  assert.ok(peer.sinceUnixS > 1_700_000_000 && peer.lastHeardUnixS > 0);
  assert.equal(statusOf(node, "late")?.state, "WAITING_FOR_IDENTITY");
  assert.equal(neighbours.kernel.has("default/late"), false);
  neighbours.hang.clear();
  await node.pass(25_000);
  assert.equal(statusOf(node, "late")?.state, "READY");
  assert.equal(statusOf(node, "b"), undefined);
  assert.equal(stateOf(node, "identity-allocator").state, "OK");
  assert.equal(
    statusOf(node, "late")?.ipv4,
    "10.0.1.4",
    "the address of one that is not gone yet was not given again",
  );
});

Deno.test("a hung policy engine delays no deletion, and the policy in force stays", async () => {
  await using node = await withPods("a", "b");
  const { neighbours } = node;
  neighbours.hang.add("acknowledge");
  neighbours.mapStateTable.error = new ProblemError("STREAM_SILENT", {
    detail: "Nothing was heard for 25 s",
  });
  await node.pass(25_000);
  assert.match(
    condition(node, "a", "POLICY_STALE")!,
    /policy of revision 1 stays in force: Nothing was heard/,
  );
  assert.equal(statusOf(node, "a")?.state, "READY");
  const peer = stateOf(node, "policy-engine");
  assert.equal(peer.state, "SILENT");
  assert.match(
    peer.effect,
    /new policies do not reach node-1 since .*; what is in force there is revision 1/,
  );
  const deleted = node.manager.delete("default/b");
  await node.settle();
  await deleted;
  assert.equal(neighbours.kernel.has("default/b"), false);
  neighbours.mapStateTable.error = undefined;
  neighbours.hang.clear();
  await node.pass(12_000);
  assert.equal(condition(node, "a", "POLICY_STALE"), undefined);
  assert.equal(stateOf(node, "policy-engine").state, "OK");
});

Deno.test("a hung datapath is shown as such, and DELETE ends with a deadline and goes on", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  for (const call of ["putEndpoint", "putPolicy", "deleteEndpoint", "updateIpcache"]) {
    neighbours.hang.add(call);
  }
  const deleting = assert.rejects(
    node.manager.delete("default/a"),
    (e: ProblemError) => e.code === "DELETE_PENDING" && e.status === 504,
  );
  await node.turns();
  await node.pass(10_500);
  await deleting;
  await node.pass(10_500);
  const peer = stateOf(node, "datapath");
  assert.equal(peer.state, "SILENT");
  assert.match(peer.effect, /nothing can be changed in the kernel of node-1/);
  assert.equal(node.disk.files.get("default/a")?.deleting, true);
  neighbours.hang.clear();
  await node.pass(25_000);
  assert.equal(node.manager.table.view.size, 0);
  assert.equal(neighbours.kernel.size, 0);
});

Deno.test("a map state that is gone is never no policy", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.resolves = false;
  neighbours.mapStateTable.lose();
  await node.settle();
  assert.deepEqual(neighbours.kernel.get("default/a"), { identity: 256, policy: "256" });
  assert.equal(statusOf(node, "a")?.state, "READY");
  assert.match(condition(node, "a", "POLICY_STALE")!, /says nothing \(yet\) of identity 256/);
  assert.deepEqual(neighbours.take().filter((c) => /Policy|putEndpoint/.test(c)), []);
  // Nor is it after a restart: the kernel keeps what it has.
  const restarted = await node.restart();
  assert.equal(statusOf(node, "a")?.state, "RESTORING");
  assert.match(condition(node, "a", "POLICY_STALE")!, /stays in force: the policy engine says nothing/);
  assert.equal(node.neighbours.take().includes("sync"), false, "nothing is swept that was not told");
  assert.match(restarted.waitingFor().join(), /endpoint default\/a is not told yet/);
});

Deno.test("a policy engine that comes back older opens nothing before the grace is over", async () => {
  await using node = await withPods("a");
  const { mapStateTable } = node.neighbours;
  const strict = MapState.create({ identity: 256, policyRevision: 9, enforceIngress: true });
  mapStateTable.put("256", strict);
  await node.settle();
  assert.equal(statusOf(node, "a")?.ingressEnforced, true);
  mapStateTable.put("256", MapState.create({ identity: 256, policyRevision: 3 }));
  await node.pass(30_000);
  assert.equal(statusOf(node, "a")?.ingressEnforced, true);
  assert.match(condition(node, "a", "POLICY_STALE")!, /came back older/);
  mapStateTable.put("256", { ...strict, policyRevision: 10 });
  await node.settle();
  assert.equal(condition(node, "a", "POLICY_STALE"), undefined, "the policies were applied again");
  mapStateTable.put("256", MapState.create({ identity: 256, policyRevision: 3 }));
  await node.pass(61_000);
  assert.equal(statusOf(node, "a")?.ingressEnforced, false, "it is taken at its word in the end");
  mapStateTable.put("256", MapState.create({ identity: 256, policyRevision: 4, enforceIngress: true }));
  await node.settle();
  assert.equal(statusOf(node, "a")?.ingressEnforced, true, "what is stricter counts at once");
});

Deno.test("an endpoint that is relabelled while the allocator is away keeps its policy, through a restart too", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.fail = "allocate";
  await node.manager.put("default/a", pod("a", "else"));
  await node.settle();
  assert.deepEqual(neighbours.kernel.get("default/a"), { identity: 256, policy: "256" });
  assert.match(condition(node, "a", "IDENTITY_IN_DOUBT")!, /It keeps identity 256 and its policy/);
  neighbours.mapStateTable.put(
    "256",
    MapState.create({ identity: 256, policyRevision: 5, enforceEgress: true }),
  );
  await node.settle();
  assert.equal(statusOf(node, "a")?.policyRevision, 5, "it follows the policy of who it was");
  for (const call of ["claim", "allocate"]) neighbours.hang.add(call);
  await node.restart();
  assert.deepEqual(neighbours.kernel.get("default/a"), { identity: 256, policy: "256" });
  neighbours.fail = undefined;
  neighbours.hang.clear();
  await node.pass(25_000);
  assert.deepEqual(neighbours.kernel.get("default/a"), { identity: 257, policy: "257" });
  assert.equal(condition(node, "a", "IDENTITY_IN_DOUBT"), undefined);
});

Deno.test("a device or cgroup that is there already passes nothing until it is known who it is", async () => {
  await using node = await new TestNode().start();
  const { neighbours } = node;
  neighbours.fail = "allocate";
  await node.manager.put(
    "vm",
    Endpoint.create({ name: "vm", device: "tap0", mac: "02:00:00:00:00:01", ipv4: "10.9.0.1" }),
  );
  await node.settle();
  assert.deepEqual(neighbours.kernel.get("vm"), { identity: 5, policy: "closed" });
  assert.deepEqual([...neighbours.ipcacheTable.rows.keys()], []);
  neighbours.fail = undefined;
  await node.pass(1_000);
  assert.deepEqual(neighbours.kernel.get("vm"), { identity: 256, policy: "256" });
  assert.ok(neighbours.take().includes("deletePolicy closed"));
});

Deno.test("a deletion survives a crash: it is resumed, and its number and address rest until it is done", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.hang.add("deleteEndpoint");
  void node.manager.delete("default/a").catch(() => {});
  await node.turns();
  await node.restart();
  assert.equal(statusOf(node, "a")?.state, "DISCONNECTING");
  const put = await node.manager.put("default/b", pod("b"));
  assert.equal(put.status?.ipv4, "10.0.1.3");
  assert.equal(put.status?.id, 2);
  neighbours.hang.clear();
  await node.pass(25_000);
  assert.equal(statusOf(node, "a"), undefined);
  assert.deepEqual([...neighbours.kernel.keys()], ["default/b"]);
  assert.equal(neighbours.heldNumbers.has("default/a"), false);
  assert.equal(neighbours.ipcacheTable.rows.has("10.0.1.2/32"), false);
  assert.deepEqual([...node.disk.files.keys()], ["default/b"]);
});

Deno.test("a full disk refuses PUT and DELETE with a clear error and leaves nothing half-done", async () => {
  await using node = await withPods("a");
  node.disk.full = new ProblemError("ENDPOINT_STORE_FAILED", {
    status: 507,
    detail: "Cannot write /x: no space left",
  });
  const failed = (e: ProblemError) => e.code === "ENDPOINT_STORE_FAILED";
  await assert.rejects(node.manager.put("default/b", pod("b")), failed);
  assert.equal(statusOf(node, "b"), undefined);
  await assert.rejects(node.manager.put("default/a", pod("a", "else")), failed);
  await node.settle();
  assert.deepEqual(
    node.manager.table.view.get("default/a")?.labels,
    ["k8s:app=a"],
    "what is not written does not hold",
  );
  await assert.rejects(node.manager.delete("default/a"), failed);
  assert.equal(statusOf(node, "a")?.state, "READY");
  assert.deepEqual(node.neighbours.take(), []);
  node.disk.full = undefined;
  const put = await node.manager.put("default/b", pod("b"));
  assert.equal(put.status?.ipv4, "10.0.1.4", "the address of the PUT that was refused rests");
  assert.equal(node.manager.addresses()[0].used, 2);
});

Deno.test("what is in force is acknowledged, never ahead of the datapath, with why it is behind", async () => {
  await using node = await withPods("a", "b");
  const { neighbours } = node;
  /** The engine's tables share one counter. */
  const publish = () => {
    neighbours.cidrTable.revision = neighbours.mapStateTable.revision;
    neighbours.cidrTable.beat();
    neighbours.mapStateTable.beat();
  };
  publish();
  await node.pass(2_500);
  const first = neighbours.acknowledged.at(-1)!;
  assert.deepEqual([first.revision, first.error, first.endpoints], [
    neighbours.mapStateTable.revision,
    "",
    2,
  ]);
  neighbours.fail = "putPolicy 257";
  neighbours.mapStateTable.put(
    "257",
    MapState.create({ identity: 257, policyRevision: 7, enforceIngress: true }),
  );
  publish();
  await node.pass(5_000);
  const behind = neighbours.acknowledged.at(-1)!;
  assert.equal(behind.revision, first.revision);
  assert.match(behind.error, /^default\/b: The policy of revision 1 stays in force: putPolicy 257 failed/);
  assert.match(condition(node, "b", "POLICY_FAILED")!, /putPolicy 257 failed/);
  neighbours.fail = undefined;
  await node.pass(12_000);
  const after = neighbours.acknowledged.at(-1)!;
  assert.deepEqual([after.revision, after.error], [neighbours.mapStateTable.revision, ""]);
  assert.ok(after.sinceUnixS > first.sinceUnixS);
  assert.equal(condition(node, "b", "POLICY_FAILED"), undefined);
  const count = neighbours.acknowledged.length;
  await node.pass(20_000);
  assert.ok(neighbours.acknowledged.length >= count + 2, "a sign of life, again and again");
  // A large cluster's engine wants it less often, and is not let alone for ever.
  for (const [repeatS, most] of [[28, 5], [1e9, 3]]) {
    neighbours.repeatS = repeatS;
    await node.pass(70_000);
    const before = neighbours.acknowledged.length;
    await node.pass(130_000);
    const times = neighbours.acknowledged.length - before;
    assert.ok(times >= 2 && times <= most, `${times} times in 130 s, ${repeatS} s were wanted`);
  }
});

Deno.test("the newest policy set that the engine named is said for ever: by the next process, after a full disk, and in spite of an older one", async () => {
  await using node = await withPods("a");
  const { neighbours, disk } = node;
  const publish = () => {
    neighbours.cidrTable.revision = neighbours.mapStateTable.revision;
    neighbours.cidrTable.beat();
    neighbours.mapStateTable.beat();
  };
  const said = () => node.manager.evidence();
  const named = { policyRevision: 5, policySet: "5:0123456789abcdef" };
  neighbours.policySet = named;
  disk.full = new Error("full");
  publish();
  await node.pass(8_000);
  assert.equal(disk.policySet, undefined);
  assert.deepEqual(said(), {
    "weir-node": "node-1",
    "weir-policy-revision": "5",
    "weir-policy-set": named.policySet,
  });
  disk.full = undefined;
  await node.pass(8_000);
  assert.deepEqual(disk.policySet, named);
  neighbours.policySet = { policyRevision: 4, policySet: "4:fedcba9876543210" };
  await node.pass(8_000);
  assert.equal(said()["weir-policy-set"], named.policySet, "an engine with an older database");
  await node.restart();
  assert.deepEqual([said()["weir-policy-revision"], said()["weir-policy-set"]], ["5", named.policySet]);
});

Deno.test("what is in force is acknowledged also while map states and prefixes come from different replicas", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.mapStateTable.beat();
  neighbours.cidrTable.beat();
  await node.pass(2_500);
  const { mapStateTable, cidrTable } = neighbours;
  assert.notEqual(mapStateTable.epoch, undefined);
  cidrTable.epoch = "of another replica";
  cidrTable.beat();
  mapStateTable.beat();
  await node.pass(8_000);
  const { epoch, revision, prefixes } = neighbours.acknowledged.at(-1)!;
  assert.deepEqual([epoch, revision], [mapStateTable.epoch, mapStateTable.revision]);
  assert.deepEqual(prefixes, { epoch: "of another replica", revision: cidrTable.revision });
});

Deno.test("a call to the datapath that takes effect after a newer one is made good", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  await neighbours.putEndpoint({ name: "default/a", identity: 4242, policy: "4242" });
  await node.pass(12_000);
  assert.deepEqual(neighbours.kernel.get("default/a"), { identity: 256, policy: "256" });
  neighbours.take();
  await node.pass(12_000);
  assert.deepEqual(neighbours.take().filter((c) => /putEndpoint/.test(c)), [], "and not touched again");
});

Deno.test("a claim waits for the node, and a number for the claims that are pending", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  neighbours.fail = "putNode";
  neighbours.loseDirectory();
  await node.manager.put("default/new", pod("new"));
  await node.pass(12_000);
  assert.deepEqual(neighbours.take().filter((c) => /^claim/.test(c)), [], "it knows no such node");
  neighbours.fail = undefined;
  await node.pass(12_000);
  const calls = neighbours.take();
  assert.ok(calls.indexOf("putNode") < calls.indexOf("claim default/a=256"), calls.join(", "));
  assert.equal(statusOf(node, "new")?.state, "READY");
  assert.equal(statusOf(node, "a")?.identity, 256);
});

Deno.test("a file of an older version, without the identity's labels, is claimed before it is announced", async () => {
  await using node = await withPods("a");
  const { neighbours } = node;
  node.disk.files.get("default/a")!.endpoint.status!.identityLabels = [];
  const entry = structuredClone(neighbours.ipcacheTable.rows.get("10.0.1.2/32"));
  neighbours.hang.add("claim");
  await node.restart();
  await node.pass(1_000);
  assert.equal(neighbours.kernel.get("default/a")?.identity, 256);
  assert.deepEqual(neighbours.ipcacheTable.rows.get("10.0.1.2/32"), entry, "not without its labels");
  neighbours.hang.clear();
  await node.pass(25_000);
  assert.deepEqual(neighbours.ipcacheTable.rows.get("10.0.1.2/32"), entry);
  assert.equal(statusOf(node, "a")?.state, "READY");
  assert.deepEqual(
    node.disk.files.get("default/a")?.endpoint.status?.identityLabels,
    entry?.labels,
    "kept from now on",
  );
});
