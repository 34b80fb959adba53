import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer, WatchedTable } from "@weir/common";
import { ServicesUpdate, ServicesUpdateResponse } from "@weir/proto/datapath";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { datapathPeer, loadBalancerPeer } from "./peers.ts";
import { ServiceReconciler } from "./service_reconciler.ts";

Deno.test("loadBalancerPeer() and datapathPeer() carry one changed backend from watch to update", async () => {
  const ports = new WatchedTable<ServicePort>({ name: "serviceports" });
  const backends = new WatchedTable<Backend>({ name: "backends" });
  const balancer = new ApiServer({ name: "load-balancer" }), datapath = new ApiServer({ name: "datapath" });
  balancer.collection({ name: "serviceports", message: ServicePort, table: ports });
  balancer.collection({ name: "backends", message: Backend, table: backends });
  const updates: ServicesUpdate[] = [];
  datapath.action({
    path: "/v1/services:update",
    request: ServicesUpdate,
    response: ServicesUpdateResponse,
    handle: (update) => {
      updates.push(update);
      return ServicesUpdateResponse.create({ mapWrites: 3, timeUs: 500 });
    },
  });
  const frontends = [{ kind: "CLUSTER_IP" as const, address: "10.96.0.1", port: 80 }];
  ports.put("7", ServicePort.create({ name: "7", id: 7, namespace: "shop", service: "cart", frontends }));
  const backend = (state: Backend["state"]) =>
    Backend.create({ name: "7/10.0.0.1/80", service: 7, address: "10.0.0.1", port: 80, state });
  backends.put("7/10.0.0.1/80", backend("ACTIVE"));

  let wake = () => {};
  using reconciler = new ServiceReconciler({
    loadBalancer: loadBalancerPeer(new WeirClient({ handler: balancer.fetch })),
    datapath: datapathPeer(new WeirClient({ handler: datapath.fetch })),
    place: { nodeName: "node-1", zone: "" },
    onDirty: () => wake(),
    now: () => 0,
  });
  const next = async () => {
    while (updates.length === 0) {
      await new Promise<void>((resolve) => wake = resolve);
      await reconciler.reconcile();
    }
    return updates.shift()!;
  };
  const first = await next();
  assert.equal(first.replace, true);
  assert.deepEqual(first.services.map((s) => [s.id, s.name]), [[7, "shop/cart:80"]]);
  assert.deepEqual(first.backends.map((b) => [b.address, b.state, b.internal]), [[
    "10.0.0.1",
    "ACTIVE",
    true,
  ]]);
  backends.put("7/10.0.0.1/80", backend("TERMINATING"));
  const second = await next();
  assert.deepEqual([second.replace, second.services.length, second.backends.length], [false, 0, 1]);
  assert.equal(second.backends[0].state, "TERMINATING");
  backends.delete("7/10.0.0.1/80");
  const third = await next();
  assert.deepEqual(third.deletedBackends.map((b) => [b.service, b.address, b.port]), [[7, "10.0.0.1", 80]]);
  assert.deepEqual(reconciler.totals, { updates: 3, objects: 4, mapWrites: 9, datapathSeconds: 0.0015 });
});
