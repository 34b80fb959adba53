import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { identityLabels } from "./endpoint_labels.ts";
import { TestNode } from "./testing.ts";

const spec = Endpoint.create({ name: "default/web", netns: "/run/netns/x", labels: ["k8s:app=web"] });
const status = { ipv4: "10.0.1.5", ipv6: "fd00:1::5" };
const COMMON = [
  "k8s:app=web",
  "k8s:io.cilium.k8s.policy.cluster=default",
  "k8s:io.kubernetes.pod.namespace=default",
];

Deno.test("identityLabels() has the addresses where CIDR rules mean pods", () => {
  const cluster = "default";
  assert.deepEqual(identityLabels({ spec, status }, { cluster }), COMMON);
  assert.deepEqual(identityLabels({ spec, status }, { cluster, cidrMeansPods: true }), [
    "cidr:10.0.1.5/32",
    "cidr:fd00:1::5/128",
    ...COMMON,
  ]);
  const cgroup = { ...spec, netns: "", cgroup: "/x" };
  assert.deepEqual(identityLabels({ spec: cgroup, status }, { cluster, cidrMeansPods: true }), COMMON);
});

Deno.test("EndpointManager gives running endpoints their identity anew when CIDR rules begin to mean pods, and end to", async () => {
  await using node = await new TestNode({ services: false }).start();
  const labels = () => node.manager.table.view.get("default/web")?.status?.identityLabels ?? [];
  await node.manager.put("default/web", spec);
  await node.settle();
  assert.deepEqual(labels(), COMMON);
  for (const cidrMeansPods of [true, false]) {
    node.config.cidrMeansPods = cidrMeansPods;
    await node.restart();
    await node.settle();
    const { status } = node.manager.table.view.get("default/web")!;
    assert.equal(status?.state, "READY");
    assert.equal(labels().includes(`cidr:${status?.ipv4}/32`), cidrMeansPods);
    assert.equal(node.neighbours.ipcacheTable.rows.get(`${status?.ipv4}/32`)?.identity, status?.identity);
  }
});

Deno.test("EndpointManager refuses an endpoint that names an address among its labels", async () => {
  await using node = await new TestNode({ services: false }).start();
  const lying = { ...spec, labels: ["cidr:192.0.2.0/24"] };
  await assert.rejects(node.manager.put("default/web", lying), /labels\[0\]: found cidr:192\.0\.2\.0\/24/);
});
