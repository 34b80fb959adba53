import assert from "node:assert/strict";
import { HOST_ENDPOINT_ID, type ProblemError } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import type { EndpointManager } from "./endpoint_manager.ts";
import { type FakeNeighbours, TestNode } from "./testing.ts";

async function withManager(
  body: (manager: EndpointManager, neighbours: FakeNeighbours, node: TestNode) => Promise<void>,
  services = false,
) {
  await using node = await new TestNode({ services }).start();
  await body(node.manager, node.neighbours, node);
}

const web = (labels = ["k8s:app=web"]) =>
  Endpoint.create({ name: "default/web", netns: "/run/netns/x", labels });

Deno.test("EndpointManager.put() gives policy before endpoint and tells the cluster last", () =>
  withManager(async (manager, neighbours, node) => {
    neighbours.take();
    const put = await manager.put("default/web", web());
    assert.equal(put.status?.ipv4, "10.0.1.2");
    await node.settle();
    const ready = manager.table.view.get("default/web")!;
    assert.equal(ready.status?.state, "READY");
    assert.equal(ready.status?.identity, 256);
    assert.deepEqual(neighbours.take(), [
      "allocate default/web",
      "putPolicy 256",
      "putEndpoint default/web 256 256",
      "updateIpcache +2 -0",
      "announce 10.0.1.2/32=256 fd00:1::2/128=256",
    ]);
    await manager.put("default/web", web());
    await node.settle();
    assert.deepEqual(neighbours.take(), []);
  }));

Deno.test("EndpointManager.put() with other labels moves the running endpoint to its new identity and drops the old policy", () =>
  withManager(async (manager, neighbours, node) => {
    await manager.put("default/web", web());
    await node.settle();
    neighbours.take();
    await manager.put("default/web", web(["k8s:app=db"]));
    await node.settle();
    assert.deepEqual(neighbours.take(), [
      "allocate default/web",
      "putPolicy 257",
      "putEndpoint default/web 257 257",
      "updateIpcache +2 -0",
      "announce 10.0.1.2/32=257 fd00:1::2/128=257",
      "deletePolicy 256",
    ]);
  }));

Deno.test("EndpointManager restores its endpoints with the same numbers and addresses, and syncs after they are in place", () =>
  withManager(async (manager, neighbours, node) => {
    await manager.put("default/web", web());
    await node.settle();
    neighbours.take();
    const again = await node.restart();
    const restored = again.table.view.get("default/web")!;
    assert.equal(restored.status?.ipv4, "10.0.1.2");
    assert.equal(restored.status?.state, "READY");
    const calls = neighbours.take();
    assert.equal(calls.filter((c) => c === "sync").length, 1);
    assert.ok(calls.indexOf("sync") > calls.indexOf("putEndpoint default/web 256 256"), calls.join(", "));
    assert.ok(calls.some((c) => c.startsWith("updateIpcache replace")));
  }));

Deno.test("EndpointManager gives a pod that had the host's number another when it restores it", () =>
  withManager(async (manager, _, node) => {
    for (const name of ["a", "b"]) {
      await manager.put(
        `default/${name}`,
        Endpoint.create({ ...web(), name: `default/${name}`, netns: `/run/netns/${name}` }),
      );
    }
    await node.settle();
    node.disk.files.get("default/a")!.endpoint.status!.id = HOST_ENDPOINT_ID;
    const { view } = (await node.restart()).table;
    const [a, b] = ["a", "b"].map((name) => view.get(`default/${name}`)!.status!);
    assert.deepEqual([a.id, a.state, a.ipv4], [1, "READY", "10.0.1.2"]);
    assert.deepEqual([b.id, b.state], [2, "READY"]);
  }));

Deno.test("EndpointManager touches nothing in the kernel while the control plane is away", () =>
  withManager(async (manager, neighbours, node) => {
    await manager.put("default/web", web());
    await node.settle();
    for (const call of ["putNode ", "allocate", "claim", "announce", "heartbeat", "holders"]) {
      neighbours.hang.add(call);
    }
    neighbours.fail = "putNode";
    neighbours.nodeTable.synced = neighbours.mapStateTable.synced = false;
    neighbours.mapStateTable.rows.clear();
    neighbours.take();
    const again = await node.restart();
    assert.deepEqual(
      neighbours.take().filter((c) => c !== "putNodeConfig" && !c.startsWith("updateServices")),
      [],
    );
    assert.equal(again.table.view.get("default/web")?.status?.state, "RESTORING");
    assert.ok(again.waitingFor().length > 0);
  }));

Deno.test("EndpointManager gives everything again to a datapath that came back", () =>
  withManager(async (manager, neighbours, node) => {
    await manager.put("default/web", web());
    await node.settle();
    neighbours.take();
    neighbours.reconnect();
    await node.settle();
    const calls = neighbours.take();
    for (const call of ["putNodeConfig", "putPolicy 256", "putEndpoint default/web 256 256", "sync"]) {
      assert.ok(calls.includes(call), `${call} in ${calls}`);
    }
  }));

Deno.test("EndpointManager.delete() frees the kernel first, then the cluster, then the address", () =>
  withManager(async (manager, neighbours, node) => {
    await manager.put("default/web", web());
    await node.settle();
    neighbours.take();
    await manager.delete("default/web");
    await node.settle();
    const calls = neighbours.take();
    assert.equal(calls[0], "deleteEndpoint default/web");
    assert.ok(
      calls.includes("release default/web") && calls.includes("announce -10.0.1.2/32 -fd00:1::2/128"),
    );
    assert.ok(calls.includes("deletePolicy 256"));
    assert.equal(manager.table.view.size, 0);
    await assert.rejects(manager.delete("default/web"), (e: ProblemError) => e.status === 404);
  }));

Deno.test("EndpointManager shows a failing attach as state of the endpoint and goes on with the others", () =>
  withManager(async (manager, neighbours, node) => {
    neighbours.fail = "putEndpoint default/web";
    await manager.put("default/web", web());
    await manager.put(
      "default/other",
      Endpoint.create({ name: "default/other", netns: "/run/netns/y", labels: ["k8s:app=o"] }),
    );
    await node.settle();
    assert.equal(manager.table.view.get("default/other")?.status?.state, "READY");
    const failed = manager.table.view.get("default/web")!.status!;
    assert.equal(failed.state, "REGENERATING");
    assert.match(failed.error!.error, /putEndpoint default\/web 256 256 failed/);
    assert.ok(failed.error!.attempts >= 1);
  }));

Deno.test("EndpointManager.put() refuses what is wrong, all faults at once, and leaves no trace", () =>
  withManager(async (manager) => {
    await manager.put("default/web", web());
    const bad = Endpoint.create({
      name: "bad name",
      device: "a/b",
      cgroup: "x",
      labels: ["=", "any:x=y"],
      ipv4: "1.2.3",
    });
    const cases: [string, Endpoint, string, RegExp][] = [
      [
        "bad name",
        bad,
        "ENDPOINT_INVALID",
        /name: .*expected exactly one.*device:.*mac: found none.*ipv4:.*labels\[0\]/,
      ],
      ["default/x", web(), "NAME_MISMATCH", /names another/],
      ["default/x", { ...web(), name: "" }, "ENDPOINT_TAKEN", /belongs to endpoint default\/web/],
      ["default/web", { ...web(), netns: "/run/netns/z" }, "ENDPOINT_IMMUTABLE", /Cannot change netns/],
      ["default/y", Endpoint.create({ netns: "/n", ipv4: "10.0.1.2" }), "IPAM_TAKEN", /default\/web has it/],
      [
        "default/y",
        Endpoint.create({ netns: "/n", ipv4: "10.9.9.9" }),
        "IPAM_OUTSIDE",
        /no endpoint address/,
      ],
    ];
    for (const [name, endpoint, code, pattern] of cases) {
      await assert.rejects(manager.put(name, endpoint), (e: ProblemError) => {
        assert.equal(e.code, code);
        assert.match(e.message, pattern);
        return true;
      });
    }
    assert.equal(manager.table.view.size, 1);
  }));

Deno.test("EndpointManager gives services after the node's configuration, and sweeps only after them", () =>
  withManager(
    async (_manager, neighbours, node) => {
      const frontends = [{ kind: "CLUSTER_IP" as const, address: "10.96.0.1", port: 80 }];
      neighbours.portTable.put("1", ServicePort.create({ id: 1, protocol: "TCP", frontends }));
      neighbours.backendTable.put("1/10.0.1.9/80", Backend.create({ service: 1, state: "ACTIVE" }));
      await node.settle();
      neighbours.portTable.synced = false;
      neighbours.take();
      const again = await node.restart();
      const before = neighbours.take();
      assert.ok(!before.includes("sync") && !before.some((c) => c.startsWith("updateServices")), `${before}`);
      assert.match(again.waitingFor().join(), /services from the load balancer/);
      neighbours.portTable.sync();
      await node.settle();
      assert.deepEqual(neighbours.take(), ["updateServices replace +1 +1", "sync"]);
      assert.ok(before.includes("putNodeConfig"));
      assert.deepEqual(again.waitingFor(), []);
    },
    true,
  ));

Deno.test("EndpointManager gives services again when the datapath is there anew", () =>
  withManager(async (manager, neighbours, node) => {
    await node.settle();
    assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
    neighbours.fail = "updateServices";
    neighbours.reconnect();
    await node.settle();
    assert.ok(!neighbours.take().includes("sync"));
    assert.match(manager.waitingFor().join(), /first full sync .*: updateServices replace .* failed/);
    neighbours.fail = undefined;
    neighbours.portTable.put(
      "1",
      ServicePort.create({ id: 1, frontends: [{ kind: "NODE_PORT", port: 1 }] }),
    );
    await node.settle();
    assert.deepEqual(neighbours.take(), ["updateServices replace +1 +0", "sync"]);
  }, true));

Deno.test("EndpointManager without a load balancer takes what services there are out of the datapath", () =>
  withManager(async (manager, neighbours, node) => {
    assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
    neighbours.reconnect();
    await node.settle();
    assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
    assert.equal(manager.followsServices, false);
  }));
