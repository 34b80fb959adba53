/** When policies are enforced: of the node, of one endpoint, and over restarts. */
import assert from "node:assert/strict";
import { PRECEDENCE_REDIRECT } from "@weir/common";
import type { Enforcement } from "@weir/proto/common";
import { Endpoint } from "@weir/proto/endpoint";
import { RuleSet } from "@weir/proto/l7";
import { MapState } from "@weir/proto/policy";
import { TestNode } from "./testing.ts";

const web = (enforcement?: Enforcement) =>
  Endpoint.create({ name: "default/web", netns: "/run/netns/x", labels: ["k8s:app=web"], enforcement });
const RULES = RuleSet.create({
  id: 77,
  kind: "HTTP",
  http: [{ cookie: 5, method: "GET", path: "/a" }] as RuleSet["http"],
});
/** An ingress rule with L7 rules. */
const JUDGED = MapState.create({
  identity: 256,
  policyRevision: 2,
  enforceIngress: true,
  entries: [{ direction: "INGRESS", precedence: PRECEDENCE_REDIRECT, cookie: 4, ruleSet: 77 }],
  ruleSets: [RULES],
});

/** What people see, and what the kernel has: whether each direction is enforced. */
function seen(node: TestNode) {
  const status = node.manager.table.view.get("default/web")!.status!;
  const { enforceIngress, enforceEgress, entries } = node.neighbours.kernelPolicies.get(status.policy)!;
  assert.deepEqual([status.ingressEnforced, status.egressEnforced], [enforceIngress, enforceEgress]);
  return [status.enforcement, status.policy, enforceIngress, enforceEgress, entries.length];
}

Deno.test("an endpoint is enforced as its node has it, or as it says itself, at once and over restarts", async () => {
  await using node = new TestNode();
  node.config.enforcement = "ALWAYS";
  await node.restart();
  await node.manager.put("default/web", web());
  await node.settle();
  assert.deepEqual(seen(node), ["ALWAYS", "256!always", true, true, 0]);
  await node.manager.put("default/web", web("DEFAULT"));
  await node.settle();
  assert.deepEqual(seen(node), ["DEFAULT", "256", false, false, 0]);
  assert.equal(node.neighbours.kernelPolicies.has("256!always"), false, "nobody uses it any more");
  await node.restart();
  assert.deepEqual(seen(node), ["DEFAULT", "256", false, false, 0]);
  // The node changes its mind: who says nothing follows, who says it does not.
  await node.manager.put("default/web", web());
  await node.settle();
  node.config.enforcement = "NEVER";
  await node.restart();
  assert.deepEqual(seen(node), ["NEVER", "256!never", false, false, 0]);
});

Deno.test("an endpoint that is never enforced is sent to no L7 proxy, and waits for none that is away", async () => {
  for (const proxy of [true, undefined]) {
    await using node = await new TestNode({ proxy }).start();
    if (proxy) node.proxy.failure = new Error("connection refused");
    await node.manager.put("default/web", web("NEVER"));
    node.neighbours.mapStateTable.put("256", JUDGED);
    await node.settle();
    assert.deepEqual(seen(node), ["NEVER", "256!never", false, false, 0]);
    const { conditions, state } = node.manager.table.view.get("default/web")!.status!;
    assert.deepEqual([state, conditions], ["READY", []]);
    await node.manager.put("default/web", web("DEFAULT"));
    await node.settle();
    const after = node.manager.table.view.get("default/web")!.status!;
    assert.deepEqual(after.conditions.map(({ kind }) => kind), ["POLICY_FAILED"]);
  }
});

Deno.test("an endpoint in audit mode keeps its policy, of which nothing is dropped or sent to the L7 proxy", async () => {
  await using node = await new TestNode().start();
  node.config.audit = true;
  await node.restart();
  await node.manager.put("default/web", web());
  node.neighbours.mapStateTable.put("256", JUDGED);
  await node.settle();
  assert.deepEqual(seen(node), ["DEFAULT", "256!audit", true, false, 1]);
  const given = node.neighbours.kernelPolicies.get("256!audit")!;
  assert.deepEqual([given.audit, given.entries[0].ruleSet, given.entries[0].cookie], [true, 0, 4]);
  assert.equal(node.manager.table.view.get("default/web")!.status!.audit, true);
  await node.manager.put("default/web", { ...web("NEVER"), audit: "ON" });
  await node.settle();
  assert.equal(seen(node)[1], "256!never");
});

Deno.test("connections that the L7 proxy holds go on when their endpoint is never enforced any more", async () => {
  await using node = await new TestNode({ proxy: true }).start();
  await node.manager.put("default/web", web());
  node.neighbours.mapStateTable.put("256", JUDGED);
  await node.settle();
  assert.equal(node.proxy.endpointTable.rows.get("default/web")?.policy, "256");
  await node.manager.put("default/web", web("NEVER"));
  await node.settle();
  const { policy } = node.proxy.endpointTable.rows.get("default/web")!;
  const told = node.proxy.policyTable.rows.get(policy)!;
  assert.deepEqual([policy, told.enforceIngress, told.entries], ["256!never", false, []]);
});
