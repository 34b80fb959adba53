import { deepEqual, equal, match, ok } from "node:assert/strict";
import { FakeCluster } from "../testing/fake_cluster.ts";
import { openCluster } from "./access.ts";
import { removeDefinitions, removeRemains } from "./remains.ts";

const CILIUM = "/apis/cilium.io/v2", CRDS = "/apis/apiextensions.k8s.io/v1";
const OURS = { "app.kubernetes.io/managed-by": "weir" };
const status = (manager: string) => [{ manager, subresource: "status" }];

Deno.test("removeRemains() takes back what Weir wrote, and nothing that is another's", async () => {
  await using fake = new FakeCluster();
  using cluster = openCluster(fake.context, "");
  const all = (base: string, plural: string, object: unknown) => fake.put(base, plural, object, "");
  all("/api/v1", "nodes", {
    metadata: { name: "a", managedFields: status("weir-operator") },
    spec: { taints: [{ key: "node.weir.dev/agent-not-ready" }, { key: "x" }] },
  });
  all("/api/v1", "nodes", { metadata: { name: "b", managedFields: status("kubelet") }, spec: {} });
  fake.put("/api/v1", "services", { metadata: { name: "own", managedFields: status("weir-operator") } }, "n");
  fake.put("/api/v1", "services", { metadata: { name: "other", managedFields: status("cloud") } }, "n");
  fake.put(CILIUM, "ciliumnetworkpolicies", {
    metadata: { name: "p", managedFields: status("weir-operator") },
  }, "n");
  all(CILIUM, "ciliumidentities", { metadata: { name: "1", labels: OURS } });
  all(CILIUM, "ciliumidentities", { metadata: { name: "2" } });
  deepEqual(await removeRemains(cluster.client), { objects: 1, statuses: 3, taints: 1, failures: [] });
  deepEqual(fake.writes.map(({ method, path, body }) => [method, path, body.spec ?? body.status]), [
    ["PATCH", "/api/v1/nodes/a", { taints: [{ key: "x" }] }],
    ["PATCH", "/api/v1/nodes/a/status", {}],
    ["PATCH", "/api/v1/namespaces/n/services/own/status", {}],
    ["PATCH", `${CILIUM}/namespaces/n/ciliumnetworkpolicies/p/status`, { conditions: [] }],
    ["DELETE", `${CILIUM}/ciliumidentities/1`, undefined],
  ]);
});

Deno.test("removeDefinitions() leaves those of another network", async () => {
  await using fake = new FakeCluster();
  using cluster = openCluster(fake.context, "");
  const crd = (plural: string, labels: Record<string, string>) =>
    fake.put(
      CRDS,
      "customresourcedefinitions",
      { metadata: { name: `${plural}.cilium.io`, labels } },
      "",
    );
  crd("ciliumidentities", OURS);
  crd("ciliumnodes", {});
  deepEqual(await removeDefinitions(cluster.client), { removed: 1, left: ["ciliumnodes.cilium.io"] });
  equal(fake.objects.size, 1);
});

Deno.test("weir upgrade touches no node where the control plane does not get ready, and says how to go back", async () => {
  await using fake = new FakeCluster();
  const { upgradeCommand } = await import("./install.ts");
  fake.put("/api/v1", "configmaps", {
    metadata: { name: "weir-values" },
    data: { "values.json": JSON.stringify({ "image.tag": "1", "apiServer": "https://192.0.2.1:6443" }) },
  });
  const container = { name: "weir", image: "localhost/weir-control-plane:1" };
  fake.put("/apis/apps/v1", "deployments", {
    metadata: { name: "weir-control-plane" },
    spec: { replicas: 1, template: { spec: { containers: [container] } } },
    status: { replicas: 1, updatedReplicas: 0, availableReplicas: 0, observedGeneration: 1 },
  });
  equal(await upgradeCommand(["--set", "image.tag=2", "--timeout=1"], fake.context), 1);
  match(fake.err, /: 1 to 2\n/);
  match(fake.err, /Deployment weir-control-plane is not ready: of 1 pods 0 are ready, 0 of the new version/);
  match(fake.err, /Nodes were not touched.* weir upgrade --set image\.tag=1/);
  ok(!fake.writes.some(({ path }) => path.includes("daemonsets")));
});
