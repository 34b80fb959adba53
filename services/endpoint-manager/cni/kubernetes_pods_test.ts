import assert from "node:assert/strict";
import { KubernetesNode, KubernetesPod } from "@weir/proto/kubernetes";
import type { Init } from "@weir/proto";
import { CniTestNode, requestOf } from "./testing.ts";

const pod = (change: Init<KubernetesPod> = {}) =>
  KubernetesPod.create({
    name: "shop/web-0",
    uid: "u1",
    node: "node-1",
    labels: ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"],
    namedPorts: [{ name: "http", port: 80, protocol: "TCP" }],
    ...change,
  });
const args = (uid = "u1") => `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=${uid}`;

async function withNode(body: (cni: CniTestNode) => Promise<void>): Promise<void> {
  await using cni = await new CniTestNode({ kubernetes: true }).start();
  await body(cni);
}

Deno.test("KubernetesPods describe a container before its endpoint is made", () =>
  withNode(async (cni) => {
    const { podTable } = cni.node.neighbours;
    podTable.put("shop/web-0", pod());
    assert.equal((await cni.ask("ADD", { args: args() })).exitCode, 0);
    const { status: _, ...endpoint } = cni.node.manager.table.view.get("shop/web-0")!;
    assert.deepEqual(endpoint, {
      ...endpoint,
      namespace: "shop",
      podName: "web-0",
      podUid: "u1",
      containerId: "c1",
      labels: ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"],
      namedPorts: [{ name: "http", port: 80, protocol: "TCP" }],
    });
    // What no pod is said to be is what its runtime says.
    assert.equal((await cni.ask("ADD", { containerId: "alone" })).exitCode, 0);
    assert.deepEqual(cni.endpoints(), ["shop/web-0 c1 READY", "alone alone READY"]);
  }));

Deno.test("KubernetesPods make ADD wait for its pod, of the uid that the runtime names", () =>
  withNode(async (cni) => {
    const { podTable } = cni.node.neighbours;
    podTable.put("shop/web-0", pod({ uid: "u0" }));
    const asked = cni.cni.handle("ADD", requestOf({ args: args() }));
    await cni.node.pass(5000);
    assert.deepEqual(cni.endpoints(), []);
    podTable.put("shop/web-0", pod());
    assert.equal((await cni.answerOf(asked)).exitCode, 0);

    const late = await cni.ask("ADD", { args: args("u2"), containerId: "c2" });
    assert.deepEqual([late.exitCode, late.output.code], [1, 11]);
    assert.match(late.output.msg, /shop\/web-0: the one that is known has uid u1, not u2/);
    podTable.delete("shop/web-0");
    assert.match((await cni.ask("ADD", { args: args("u2") })).output.msg, /it is no pod of this node/);
    assert.deepEqual(cni.endpoints(), ["shop/web-0 c1 READY"], "the pod that is gone ends by its DEL");
  }));

Deno.test("KubernetesPods take a static pod by the uid that its mirror names, and one whose uid nobody says", () =>
  withNode(async (cni) => {
    const { podTable } = cni.node.neighbours;
    podTable.put("shop/web-0", pod({ annotations: { "kubernetes.io/config.mirror": "static" } }));
    assert.equal((await cni.ask("ADD", { args: args("static") })).exitCode, 0);
    assert.equal((await cni.ask("DEL")).exitCode, 0);
    assert.equal((await cni.ask("ADD", { args: args("") })).exitCode, 0);
  }));

Deno.test("a pod's new sandbox takes the place of its old one, whose DEL finds nothing", () =>
  withNode(async (cni) => {
    const { podTable, kernel } = cni.node.neighbours;
    podTable.put("shop/web-0", pod());
    await cni.ask("ADD", { args: args() });
    const before = cni.node.manager.table.view.get("shop/web-0")!.status!.ipv4;
    assert.equal((await cni.ask("ADD", { args: args(), containerId: "c2" })).exitCode, 0);
    assert.deepEqual(cni.endpoints(), ["shop/web-0 c2 READY"]);
    assert.notEqual(cni.node.manager.table.view.get("shop/web-0")!.status!.ipv4, before);
    assert.equal((await cni.ask("DEL", { args: args() })).exitCode, 0);
    assert.deepEqual([cni.endpoints(), [...kernel.keys()]], [["shop/web-0 c2 READY"], ["shop/web-0"]]);
    assert.equal((await cni.ask("DEL", { containerId: "c2" })).exitCode, 0);
    assert.deepEqual(cni.endpoints(), []);
  }));

Deno.test("KubernetesPods relabel the running endpoint of a pod that changes, also one that changed meanwhile", () =>
  withNode(async (cni) => {
    const { podTable } = cni.node.neighbours, { view } = cni.node.manager.table;
    podTable.put("shop/web-0", pod());
    await cni.ask("ADD", { args: args() });
    const identity = view.get("shop/web-0")!.status!.identity;
    cni.node.neighbours.take();
    podTable.put("shop/web-0", pod({ phase: "Running", addresses: ["10.0.1.2"] }));
    await cni.node.settle();
    assert.deepEqual(cni.node.neighbours.take(), [], "nothing of it is the endpoint's");
    podTable.put("shop/web-0", pod({ labels: ["k8s:app=db"] }));
    await cni.node.settle();
    const moved = view.get("shop/web-0")!;
    assert.deepEqual([moved.labels, moved.status!.state], [["k8s:app=db"], "READY"]);
    assert.notEqual(moved.status!.identity, identity);
    podTable.put("shop/web-0", pod({ uid: "u9", labels: ["k8s:app=other"] }));
    await cni.node.settle();
    assert.deepEqual(view.get("shop/web-0")!.labels, ["k8s:app=db"], "another pod of the same name");
    podTable.put("shop/web-0", pod({ labels: ["k8s:app=later"] }));
    const again = await cni.node.restart();
    await cni.node.settle();
    assert.deepEqual(again.table.view.get("shop/web-0")!.labels, ["k8s:app=later"]);
  }));

Deno.test("with the kubernetes service away pods go on, new ones wait, and STATUS says so where nothing is known", async () => {
  await using cni = new CniTestNode({ kubernetes: true });
  const { podTable } = cni.node.neighbours;
  podTable.synced = false;
  await cni.start();
  assert.deepEqual(cni.node.manager.waitingFor(), [], "nothing that runs needs it");
  assert.match((await cni.ask("STATUS")).output.msg, /waits for pods from the kubernetes service/);
  podTable.put("shop/web-0", pod());
  podTable.sync();
  assert.equal((await cni.ask("ADD", { args: args() })).exitCode, 0);
  podTable.error = new Error("connection refused");
  assert.equal((await cni.ask("STATUS")).exitCode, 0);
  const gone = await cni.ask("ADD", { args: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=new", containerId: "c2" });
  assert.match(
    gone.output.msg,
    /Cannot add pod shop\/new: the kubernetes service was not heard: connection refused/,
  );
  const peer = cni.node.manager.peers().find(({ name }) => name === "kubernetes")!;
  assert.match(peer.effect, /new pods of node-1 wait/);
  assert.deepEqual(cni.endpoints(), ["shop/web-0 c1 READY"]);
});

Deno.test("--ipam kubernetes takes the node's pod CIDRs from Kubernetes, waits for them, and keeps addresses when they change", async () => {
  await using cni = new CniTestNode({ kubernetes: true, ipam: "kubernetes" });
  const { neighbours } = cni.node, { kubernetesNodeTable } = neighbours;
  await cni.start();
  const waits = () => cni.node.manager.waitingFor().join("; ");
  assert.match(waits(), /Kubernetes has given it no pod CIDR/);
  kubernetesNodeTable.put("node-1", KubernetesNode.create({ name: "node-1", podCidrs: ["10.244.3.0/24"] }));
  await cni.node.settle();
  assert.equal(waits(), "");
  const address = async (containerId: string) => (await cni.ask("ADD", { containerId })).output.ips;
  assert.deepEqual(await address("a"), [{ interface: 1, address: "10.244.3.2/32", gateway: "10.244.3.1" }]);
  kubernetesNodeTable.put("node-1", KubernetesNode.create({ name: "node-1", podCidrs: ["10.244.9.0/24"] }));
  await cni.node.settle();
  assert.equal(neighbours.nodeTable.rows.get("node-1")!.podCidrV4, "10.244.9.0/24");
  assert.equal((await address("b"))[0].address, "10.244.9.2/32");
  // Away at the next start: what was kept holds.
  kubernetesNodeTable.delete("node-1");
  const again = await cni.node.restart();
  await cni.node.settle();
  assert.deepEqual(again.waitingFor(), []);
  assert.deepEqual(again.table.view.list().map(({ status }) => [status!.ipv4, status!.state]), [
    ["10.244.3.2", "READY"],
    ["10.244.9.2", "READY"],
  ]);
});

Deno.test("KubernetesPods give a pod the pools that it or its namespace names, and say beside it that one is used up", () =>
  withNode(async (cni) => {
    const { podTable, told } = cni.node.neighbours;
    cni.node.neighbours.poolBlocks = (requests) =>
      requests.map(({ pool }) =>
        pool === "edge"
          ? { pool, cidrs: ["10.50.0.0/28"], families: [4] }
          : { pool, error: "every /28 is taken", families: [4] }
      );
    const annotated = (annotations: Record<string, string>) =>
      podTable.put("shop/web-0", pod({ annotations }));
    annotated({ "ipam.cilium.io/ip-pool": "default" });
    assert.equal((await cni.ask("ADD", { args: args() })).exitCode, 0);
    assert.equal(cni.node.manager.table.view.get("shop/web-0")!.status?.ipv4, "10.0.1.2");
    await cni.ask("DEL", { args: args() });
    annotated({
      "ipam.cilium.io/ip-pool": "core",
      "ipam.cilium.io/ipv4-pool": "edge",
      "ipam.cilium.io/ipv6-pool": "edge",
    });
    assert.equal((await cni.ask("ADD", { args: args() })).exitCode, 0);
    const { poolV4, status } = cni.node.manager.table.view.get("shop/web-0")!;
    assert.deepEqual([poolV4, status?.ipv4, status?.ipv6], ["edge", "10.50.0.2", ""]);
    await cni.ask("DEL", { args: args() });
    assert.deepEqual(told, []);
    annotated({ "ipam.cilium.io/ip-pool": "core" });
    const answer = await cni.ask("ADD", { args: args() });
    assert.notEqual(answer.exitCode, 0);
    await cni.node.settle();
    const [{ kind, namespace, name, uid, reason, message }] = told;
    assert.deepEqual([kind, namespace, name, uid, reason], [
      "Pod",
      "shop",
      "web-0",
      "u1",
      "AddressesExhausted",
    ]);
    assert.match(message!, /address of pool core: .*every \/28 is taken/);
    assert.deepEqual(cni.endpoints(), []);
  }));
