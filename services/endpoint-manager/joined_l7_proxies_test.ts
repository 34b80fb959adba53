/** A proxy of two processes: policies are in force when both have them. */
import assert from "node:assert/strict";
import { PRECEDENCE_REDIRECT } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { RuleSet } from "@weir/proto/l7";
import { MapState, MapStateEntry } from "@weir/proto/policy";
import { type FakeL7Proxy, TestNode } from "./testing.ts";

const RULES = RuleSet.create({
  id: 77,
  kind: "HTTP",
  http: [{ cookie: 5, method: "GET" }] as RuleSet["http"],
});

function state(policyRevision: number, port = 80): MapState {
  return MapState.create({
    identity: 256,
    policyRevision,
    enforceIngress: true,
    entries: [MapStateEntry.create({
      direction: "INGRESS",
      protocol: 6,
      port,
      portPrefixLength: 16,
      precedence: PRECEDENCE_REDIRECT,
      ruleSet: RULES.id,
    })],
    ruleSets: [RULES],
  });
}

async function withPod(): Promise<TestNode> {
  const node = await new TestNode({ proxy: 2 }).start();
  await node.manager.put(
    "default/a",
    Endpoint.create({ name: "default/a", netns: "/run/netns/a", labels: ["k8s:app=web"] }),
  );
  node.neighbours.mapStateTable.put("256", state(2));
  await node.settle();
  return node;
}

const portOf = (proxy: FakeL7Proxy) => proxy.policyTable.rows.get("256")?.entries[0].port;
const told = (node: TestNode) =>
  node.neighbours.take().filter((call) => /^(proxy|putPolicy)/.test(call)).sort();

Deno.test("joinL7Proxies() gives every process all of it, and the datapath nothing before", async () => {
  await using node = await withPod();
  for (const proxy of [node.proxy, node.secondProxy]) {
    assert.equal(portOf(proxy), 80);
    assert.deepEqual([...proxy.endpointTable.rows.keys()], ["default/a"]);
  }
  told(node);
  node.secondProxy.failure = new Error("connection refused");
  node.neighbours.mapStateTable.put("256", state(3, 81));
  await node.turns();
  await node.pass(4_000);
  assert.deepEqual(told(node).filter((call) => call.startsWith("putPolicy")), []);
  assert.equal(node.neighbours.kernelPolicies.get("256")!.policyRevision, 2);
  const { conditions } = node.manager.table.view.get("default/a")!.status!;
  assert.match(conditions.find(({ kind }) => kind === "POLICY_FAILED")!.message, /connection refused/);
  node.secondProxy.failure = undefined;
  await node.pass(12_000);
  assert.deepEqual([portOf(node.proxy), portOf(node.secondProxy)], [81, 81]);
  assert.equal(node.neighbours.kernelPolicies.get("256")!.policyRevision, 3);
});

Deno.test("joinL7Proxies() tells again the process that comes back empty, older, or was changed", async () => {
  await using node = await withPod();
  const changes: ((proxy: FakeL7Proxy) => void)[] = [
    (proxy) => proxy.restartEmpty(),
    (proxy) => proxy.policyTable.delete("256"),
    (proxy) => proxy.policyTable.put("256", { ...proxy.policyTable.rows.get("256")!, ruleSets: [] }),
    (proxy) => proxy.endpointTable.delete("default/a"),
  ];
  for (const change of changes) {
    for (const proxy of [node.proxy, node.secondProxy]) {
      told(node);
      change(proxy);
      await node.settle();
      assert.deepEqual(proxy.policyTable.rows.get("256")!.ruleSets, [RULES]);
      assert.deepEqual([...proxy.endpointTable.rows.keys()], ["default/a"]);
      assert.deepEqual(
        told(node).filter((call) => call.startsWith("putPolicy")),
        [],
        "the datapath has it already",
      );
    }
  }
});

Deno.test("joinL7Proxies() takes from every process what nothing uses, whoever of them has it", async () => {
  await using node = await withPod();
  for (const [proxy, name] of [[node.proxy, "997"], [node.secondProxy, "998"]] as const) {
    proxy.policyTable.put(name, { ...proxy.policyTable.rows.get("256")!, name });
  }
  await node.restart();
  await node.pass(3_000);
  for (const proxy of [node.proxy, node.secondProxy]) {
    assert.deepEqual([...proxy.policyTable.rows.keys()], ["256"]);
  }
});

Deno.test("joinL7Proxies() addresses each process by its own epoch", async () => {
  await using node = await withPod();
  const meant: (string | undefined)[] = [];
  for (const proxy of [node.proxy, node.secondProxy]) {
    proxy.policyTable.epoch = proxy === node.proxy ? "one" : "two";
    proxy.policyTable.beat();
    const put = proxy.putPolicy;
    proxy.putPolicy = (policy) => {
      meant.push(policy.process);
      return put.call(proxy, policy);
    };
  }
  node.neighbours.mapStateTable.put("256", state(3, 82));
  await node.settle();
  assert.deepEqual(meant, ["one", "two"]);
});
