/** Policies of tiers with real packets on one node: what Admin, ordinary and Baseline rules come to, and what a pass leads to. */
import assert from "node:assert/strict";
import { canRun, Lab } from "./weir.ts";

const server = new URL("testdata/server.py", import.meta.url).pathname;
const pod = (name: string, command: string[]) =>
  `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-1, containers: [{ name: main, command: ${JSON.stringify(command)} }] }
---
`;
const PODS = pod("web", ["python3", server, "80/TCP", "81/TCP"]) + pod("client", ["sleep", "infinity"]) +
  pod("other", ["sleep", "infinity"]);
/** Port 80 is the next tier's; all else is closed. */
const ADMIN = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: guard }
spec:
  tier: Admin
  priority: 7
  subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: web } } } }
  ingress:
    - name: web-decides
      action: Pass
      from: [{ namespaces: {} }]
      protocols: [{ tcp: { destinationPort: { number: 80 } } }]
    - name: nothing-else
      action: Deny
      from: [{ namespaces: {} }]
`;
const BASELINE = `apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: { name: default }
spec: { subject: { namespaces: {} }, ingress: [{ name: closed, action: Deny, from: [{ namespaces: {} }] }] }
`;
const ORDINARY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec:
  podSelector: { matchLabels: { app: web } }
  ingress: [{ from: [{ podSelector: { matchLabels: { app: client } } }] }]
`;
/** Asked before the other. */
const FIRST = `apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: { name: first }
spec:
  priority: 3
  subject: { namespaces: { matchLabels: { kubernetes.io/metadata.name: shop } } }
  ingress:
    - action: Allow
      from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: other } } } }]
      ports: [{ portRange: { start: 81, end: 90 } }]
`;
const lab = new Lab(`tiers${Deno.pid}`);
/** Verdicts of client and other towards ports 80 and 81: `.` allowed, `x` denied. */
const expect = async (verdicts: string) => {
  await lab.inForce();
  const asked = ["client", "other"].flatMap((from) => [80, 81].map((port) => ({ from, port })));
  await lab.expect(
    asked.map(({ from, port }, index) =>
      `from: ${from}, to: web, port: ${port}, expect: ${verdicts[index] === "." ? "allow" : "deny"}`
    ),
  );
};

if (canRun) {
  Deno.test.beforeAll(async () => await lab.up(1, PODS));
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name: "tiers decide in their order, a pass leads past the rest of its tier, and weir policy knows them",
  ignore: !canRun,
  fn: async () => {
    await expect("....");
    await lab.apply(ADMIN);
    await expect(".x.x");
    await lab.apply(BASELINE);
    await expect("xxxx");
    await lab.apply(ORDINARY);
    await expect(".xxx");
    await lab.apply(FIRST);
    await expect(".xx.");
    const list = await lab.ok(["policy", "list", "-o", "wide"]);
    for (const name of ["clnp:guard", "banp:default", "knp:shop/web", "anp:first"]) {
      assert.ok(list.includes(name), list);
    }
    assert.match(await lab.ok(["policy", "get", "anp:first"]), /portRange/);
    const denied = await lab.weir(["explain", "--from", "shop/client", "--to", "shop/web", "--port", "81"]);
    assert.equal(denied.code, 3, denied.out + denied.err);
    assert.match(denied.out, /clnp:guard spec.ingress\[1\].*rule "nothing-else", Admin tier, priority 7/);
    await lab.ok(["policy", "delete", "clnp:guard"]);
    await expect("..x.");
    await lab.ok(["policy", "delete", "knp:shop/web"]);
    await expect("xxx.");
    await lab.ok(["policy", "delete", "banp:default", "anp:first"]);
    await expect("....");
  },
});
