/** Policies with L7 rules: the proxy has them first, and what it shows counts, not what it was told. */
import assert from "node:assert/strict";
import { PRECEDENCE_ALLOW, PRECEDENCE_REDIRECT } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { RuleSet } from "@weir/proto/l7";
import { MapState, MapStateEntry } from "@weir/proto/policy";
import { TestNode } from "./testing.ts";

const RULES = RuleSet.create({
  id: 77,
  kind: "HTTP",
  http: [{ cookie: 5, method: "GET", path: "/a" }] as RuleSet["http"],
});

const pod = (name: string, port = 8080) =>
  Endpoint.create({
    name: `default/${name}`,
    netns: `/run/netns/${name}`,
    labels: ["k8s:app=web"],
    namedPorts: [{ name: "http", port, protocol: "TCP" }],
  });

/** A map state of identity 256 with an entry for everyone. @param rules it has L7 rules */
function state(policyRevision: number, rules: boolean, entry: Partial<MapStateEntry> = {}): MapState {
  return MapState.create({
    identity: 256,
    policyRevision,
    enforceIngress: true,
    entries: [MapStateEntry.create({
      direction: "INGRESS",
      protocol: 6,
      port: 80,
      portPrefixLength: 16,
      cookie: 4,
      precedence: rules ? PRECEDENCE_REDIRECT : PRECEDENCE_ALLOW,
      ruleSet: rules ? RULES.id : 0,
      ...entry,
    })],
    ruleSets: rules ? [RULES] : [],
  });
}

async function withPods(...names: string[]): Promise<TestNode> {
  const node = await new TestNode({ proxy: true }).start();
  for (const name of names) await node.manager.put(`default/${name}`, pod(name));
  await node.settle();
  node.neighbours.take();
  return node;
}

const told = (node: TestNode) =>
  node.neighbours.take().filter((call) => /^(proxy|putPolicy|putEndpoint)/.test(call));
const statusOf = (node: TestNode, name: string) => node.manager.table.view.get(`default/${name}`)!.status!;
const failed = (node: TestNode, name: string) =>
  statusOf(node, name).conditions.find(({ kind }) => kind === "POLICY_FAILED")?.message;

Deno.test("the proxy has the endpoints and the rules before the datapath has the policy, and the newest until nobody uses it", async () => {
  await using node = await withPods("a", "b");
  const { mapStateTable, kernelPolicies } = node.neighbours, { policyTable, endpointTable } = node.proxy;
  mapStateTable.put("256", state(2, true));
  await node.settle();
  const calls = told(node);
  assert.deepEqual(calls.slice(0, 4).sort(), [
    "proxy endpoint default/a",
    "proxy endpoint default/b",
    "proxy policy 256",
    "putPolicy 256",
  ]);
  assert.equal(calls.at(3), "putPolicy 256");
  assert.deepEqual(policyTable.rows.get("256")!.ruleSets, [RULES]);
  assert.deepEqual(endpointTable.rows.get("default/a"), {
    name: "default/a",
    id: statusOf(node, "a").id,
    identity: 256,
    policy: "256",
    labels: statusOf(node, "a").identityLabels,
    addresses: ["10.0.1.2", "fd00:1::2"],
  });
  // Open connections are judged by the newest policy, also one without rules.
  mapStateTable.put("256", state(3, false));
  await node.settle();
  assert.deepEqual(told(node), ["proxy policy 256", "putPolicy 256"]);
  assert.deepEqual(policyTable.rows.get("256")!.ruleSets, []);
  for (const name of ["a", "b"]) await node.manager.delete(`default/${name}`);
  await node.settle();
  await node.pass(3_000);
  assert.deepEqual([[...policyTable.rows.keys()], [...endpointTable.rows.keys()]], [[], []]);
  assert.equal(kernelPolicies.has("256"), false);
});

Deno.test("without the proxy the datapath keeps what it has, the endpoint says why, and others go on; back, it is told at once", async () => {
  await using node = await withPods("a");
  const { mapStateTable, kernelPolicies } = node.neighbours;
  for (const way of ["fails", "hangs"] as const) {
    node.proxy.failure = way === "fails" ? new Error("connection refused") : undefined;
    node.proxy.hangs = way === "hangs";
    const before = kernelPolicies.get("256")!.policyRevision;
    const revision = way === "fails" ? 2 : 4;
    mapStateTable.put("256", state(revision, true, { port: 80 + revision }));
    await node.turns();
    await node.pass(4_000);
    assert.equal(kernelPolicies.get("256")!.policyRevision, before, way);
    assert.match(
      failed(node, "a")!,
      /^The policy of revision \d stays in force: Cannot apply (endpoint default\/a|policy 256): its L7 rules are not in force at the L7 proxy/,
    );
    // One that needs no proxy has its policy all the same.
    const other = Endpoint.create({
      name: `default/${way}`,
      netns: `/run/netns/${way}`,
      labels: [`k8s:app=${way}`],
    });
    await node.manager.put(other.name, other);
    await node.pass(4_000);
    assert.equal(statusOf(node, way).state, "READY", way);
    node.proxy.failure = undefined;
    node.proxy.hangs = false;
    await node.pass(12_000);
    assert.equal(kernelPolicies.get("256")!.policyRevision, revision, way);
    assert.equal(failed(node, "a"), undefined);
    mapStateTable.put("256", state(revision + 1, false));
    await node.settle();
  }
});

Deno.test("a proxy that comes back empty, or was changed by somebody, is told again without the datapath", async () => {
  await using node = await withPods("a");
  node.neighbours.mapStateTable.put("256", state(2, true));
  await node.settle();
  told(node);
  node.proxy.restartEmpty();
  await node.settle();
  assert.deepEqual(told(node).sort(), ["proxy endpoint default/a", "proxy policy 256"]);
  node.proxy.policyTable.put("256", { ...node.proxy.policyTable.rows.get("256")!, ruleSets: [] });
  node.proxy.endpointTable.delete("default/a");
  await node.settle();
  assert.deepEqual(told(node).sort(), ["proxy endpoint default/a", "proxy policy 256"]);
  assert.deepEqual(node.proxy.policyTable.rows.get("256")!.ruleSets, [RULES]);
  // Another process of this service finds everything there, and takes what is left over once it knows everybody.
  node.proxy.policyTable.put("999", { ...node.proxy.policyTable.rows.get("256")!, name: "999" });
  node.proxy.endpointTable.put("default/gone", {
    ...node.proxy.endpointTable.rows.get("default/a")!,
    name: "default/gone",
  });
  await node.restart();
  await node.pass(3_000);
  assert.deepEqual(told(node).filter((call) => call.startsWith("proxy")), [
    "proxy -endpoint default/gone",
    "proxy -policy 999",
  ]);
});

Deno.test("a node without a proxy puts no policy with L7 rules in force, and says so", async () => {
  await using node = await new TestNode().start();
  node.neighbours.mapStateTable.put("256", state(2, true));
  await node.manager.put("default/a", pod("a"));
  await node.settle();
  assert.equal(node.neighbours.kernelPolicies.has("256"), false);
  assert.match(statusOf(node, "a").error!.error, /this node runs no L7 proxy/);
  assert.notEqual(statusOf(node, "a").state, "READY");
});

Deno.test("the proxy is given port names as numbers, and what a redirect hides from the kernel", async () => {
  await using node = await withPods("a");
  const named = state(2, true, { port: 0, portPrefixLength: 0, portName: "http" });
  const plain = state(2, false, { port: 8080, identity: 0, cookie: 9 }).entries[0];
  node.neighbours.mapStateTable.put("256", { ...named, entries: [...named.entries, plain] });
  await node.settle();
  const name = "256@http=8080/TCP";
  const shape = (entries: MapStateEntry[]) =>
    entries.map(({ port, ruleSet, cookie }) => [port, ruleSet, cookie]);
  assert.deepEqual(shape(node.neighbours.kernelPolicies.get(name)!.entries), [[8080, 77, 4]]);
  assert.deepEqual(shape(node.proxy.policyTable.rows.get(name)!.entries), [[8080, 77, 4], [8080, 0, 9]]);
});
