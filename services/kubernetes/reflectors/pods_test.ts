import assert from "node:assert/strict";
import { podLabels as labelsInLab } from "../../lab/labels.ts";
import { PodTable, pruneNamespace, pruneNode, prunePod } from "./pods.ts";

const pod = (more: Record<string, unknown> = {}, spec: Record<string, unknown> = {}) => ({
  metadata: {
    name: "web",
    namespace: "shop",
    uid: "u1",
    labels: { app: "web" },
    annotations: {
      "ipam.cilium.io/ip-pool": "blue",
      "kubectl.kubernetes.io/last-applied-configuration": "x",
    },
    managedFields: [{}],
    ...more,
  },
  spec: {
    nodeName: "n1",
    serviceAccountName: "shop-web",
    initContainers: [
      { name: "once", ports: [{ name: "never", containerPort: 1 }] },
      { name: "beside", restartPolicy: "Always", ports: [{ name: "proxy", containerPort: 15001 }] },
    ],
    containers: [{
      name: "c",
      env: [{ name: "SECRET", value: "x" }],
      ports: [
        { name: "http", containerPort: 8080, protocol: "TCP" },
        { containerPort: 53, hostPort: 5353, hostIP: "192.0.2.1", protocol: "UDP" },
      ],
    }],
    ...spec,
  },
  status: { phase: "Running", podIPs: [{ ip: "10.0.1.7" }, { ip: "fd00::7" }], conditions: [{}] },
});
const namespace = (labels: Record<string, string>, annotations: Record<string, string> = {}) =>
  pruneNamespace({ metadata: { name: "shop", labels, annotations } });

Deno.test("prunePod() keeps what a node needs, and no pod that has none", () => {
  assert.deepEqual(prunePod(pod()), {
    uid: "u1",
    node: "n1",
    labels: { app: "web" },
    annotations: { "ipam.cilium.io/ip-pool": "blue" },
    serviceAccount: "shop-web",
    namedPorts: [
      { name: "proxy", port: 15001, protocol: "TCP" },
      { name: "http", port: 8080, protocol: "TCP" },
    ],
    hostPorts: [{ hostPort: 5353, hostIp: "192.0.2.1", containerPort: 53, protocol: "UDP" }],
    hostNetwork: false,
    phase: "Running",
    addresses: ["10.0.1.7", "fd00::7"],
    deleting: false,
  });
  assert.equal(prunePod(pod({}, { nodeName: undefined })), undefined);
  assert.equal(prunePod(pod({ deletionTimestamp: "2026-01-01T00:00:00Z" }))?.deleting, true);
  assert.deepEqual(prunePod(pod({}, { hostNetwork: true }))?.hostPorts, []);
});

Deno.test("pruneNode() keeps addresses, the node's own first, and nothing of a heartbeat", () => {
  const node = pruneNode({
    metadata: { name: "n1", uid: "u", labels: { "topology.kubernetes.io/zone": "a" } },
    spec: { podCIDR: "10.244.1.0/24", podCIDRs: ["10.244.1.0/24", "fd00:1::/64"], providerID: "p://1" },
    status: {
      addresses: [
        { type: "Hostname", address: "n1" },
        { type: "ExternalIP", address: "198.51.100.1" },
        { type: "InternalIP", address: "192.0.2.1" },
      ],
      conditions: [{ lastHeartbeatTime: "x" }],
    },
  });
  assert.deepEqual(
    [node.addresses, node.podCidrs, node.zone, node.providerId],
    [["192.0.2.1", "198.51.100.1"], ["10.244.1.0/24", "fd00:1::/64"], "a", "p://1"],
  );
});

Deno.test("PodTable tells of pods with what their namespaces say, as a lab would", () => {
  const pods = new PodTable("default");
  const { table } = pods;
  pods.setPod("shop/web", prunePod(pod()));
  assert.equal(table.size, 0, "its namespace is not known yet");
  pods.setNamespace("shop", namespace({ team: "a" }, { "ipam.cilium.io/ip-pool": "red", "weir.io/x": "1" }));
  assert.deepEqual(
    table.get("shop/web")?.labels,
    labelsInLab({ namespace: "shop", labels: { app: "web" }, serviceAccountName: "shop-web" }, { team: "a" }),
  );
  assert.deepEqual(table.get("shop/web")?.annotations, {
    "ipam.cilium.io/ip-pool": "blue",
    "weir.io/x": "1",
  });
  const { revision } = table;
  pods.setPod("shop/web", prunePod(pod({ managedFields: [{ other: 1 }] })));
  pods.setNamespace("shop", namespace({ team: "a" }, { "ipam.cilium.io/ip-pool": "red", "weir.io/x": "1" }));
  assert.equal(table.revision, revision, "nothing has changed");
  pods.setNamespace("shop", namespace({ team: "b" }));
  assert.ok(table.get("shop/web")?.labels.some((label) => label.endsWith(".labels.team=b")));
  // A namespace that is gone takes nothing along: its pods go by themselves.
  pods.setNamespace("shop", undefined);
  pods.setPod("shop/web", prunePod(pod({ labels: { app: "other" } })));
  assert.ok(table.get("shop/web")?.labels.includes("k8s:app=web"));
  pods.setPod("shop/web", undefined);
  assert.equal(table.size, 0);
});
